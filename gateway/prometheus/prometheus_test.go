package prometheus_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/gateway/prometheus"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// keys are a ring that never rotates.
type keys struct {
	ring *keyring.Ring
	err  error
}

func (k *keys) Ring() *keyring.Ring                              { return k.ring }
func (k *keys) Refresh(context.Context, time.Time) (bool, error) { return false, k.err }
func (k *keys) Health(time.Time) error                           { return k.err }

// house is a gateway whose metrics are scraped.
type house struct {
	*tokentest.Env
	*gateway.Gateway
	metrics  *prometheus.Metrics
	registry *prom.Registry
	keys     *keys
	admit    error // of Config.Admit
	stop     context.CancelFunc
	stopped  chan error
}

func newHouse(t *testing.T, changes ...func(*gateway.Config)) *house {
	env := tokentest.New(t)
	h := &house{Env: env, metrics: prometheus.New("banned"), registry: prom.NewPedanticRegistry(), keys: &keys{ring: env.Ring}, stopped: make(chan error, 1)}
	config := gateway.Config{
		Keys: h.keys, Guard: env.Guard, Now: env.Now, Observe: h.metrics.Observe, MaxLivePerUser: 1,
		Room:  func(r *http.Request) string { return r.Header.Get("Room") },
		Admit: func(context.Context, time.Time, token.Summary) error { return h.admit },
	}
	for _, change := range changes {
		change(&config)
	}
	h.metrics.GuardTokens = func() (tokens, limit int) {
		st := env.Guard.Stats(env.Now())
		return st.Live, st.Capacity
	}
	var err error
	h.Gateway, err = gateway.New(config)
	require.NoError(t, err)
	require.NoError(t, h.metrics.Register(h.registry, h.Gateway))
	return h
}

func (h *house) run() {
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	go func() { h.stopped <- h.Run(ctx) }()
	synctest.Wait()
}

// writer is a ResponseWriter that can be hijacked.
type writer struct {
	*httptest.ResponseRecorder
	http.Hijacker
}

func (h *house) enter(texts ...string) (*gateway.Participant, error) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Room": tokentest.Room,
	} {
		r.Header.Set(name, value)
	}
	for _, text := range texts {
		if name, value, ok := strings.Cut(text, ": "); ok {
			r.Header.Set(name, value)
		} else {
			r.Header.Add("Sec-WebSocket-Protocol", text)
		}
	}
	return h.Enter(writer{ResponseRecorder: httptest.NewRecorder()}, r)
}

func (h *house) let(t *testing.T, user string) *gateway.Participant {
	t.Helper()
	p, err := h.enter(h.mint(user))
	require.NoError(t, err)
	return p
}

func (h *house) mint(user string) string {
	return h.Mint(func(c *claims.Claims) { c.UserID = user }).Token
}

// scrape returns the series by name and label, histograms by their count.
func (h *house) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := h.registry.Gather()
	require.NoError(t, err)
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "chattoken_gateway_")
			for _, l := range m.Label {
				name += "/" + l.GetValue()
			}
			series[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return series
}

// A run in which everything happens once.
func TestEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *gateway.Config) { c.MaxLive = 3 })
		for _, word := range gateway.Reasons() {
			require.Contains(t, h.scrape(t), "refusals_total/"+word)
		}
		for _, word := range gateway.Causes() {
			require.Contains(t, h.scrape(t), "ends_total/"+word)
		}

		refused := func(reason string, texts ...string) {
			t.Helper()
			_, err := h.enter(texts...)
			require.Error(t, err)
			require.EqualValues(t, 1, h.scrape(t)["refusals_total/"+reason], reason)
		}
		refused("not-running", h.mint("early"))
		h.run()
		refused("handshake", "Upgrade: h2c")
		refused("origin", "Origin: https://evil.example")
		refused("no-token")
		refused("two-tokens", h.mint("a"), h.mint("b"))
		refused("room", h.mint("a"), "Room: another")
		refused("malformed", token.Prefix+"*")
		refused("unknown-key", h.UnknownKey())
		refused("forged", h.Forged())
		refused("expired", h.Expired())
		refused("not-yet-valid", h.FromTheFuture())
		refused("spent", h.Spent())
		refused("revoked", h.Revoked())

		// Admit stands in for another key, another guard or a broken
		// issuer.
		for _, err := range []error{
			token.ErrRevokedKey, token.ErrPayload, token.ErrAllRevoked, token.ErrUnavailable, context.Canceled,
			token.ErrSessionExpired, token.ErrNotPermitted, token.ErrInvalid, errors.New("no"),
		} {
			h.admit = err
			refused(token.Reason(err), h.mint("a"))
		}
		h.admit = &gateway.Refusal{Reason: "banned"}
		refused("banned", h.mint("a"))
		h.admit = &gateway.Refusal{Reason: "made up"}
		refused("other", h.mint("a"))
		h.admit = nil

		a, b, c := h.let(t, "a"), h.let(t, "b"), h.let(t, "c")
		refused("full", h.mint("d"))
		c.Leave()
		require.Error(t, c.Renew(t.Context(), h.mint("c")))
		require.EqualValues(t, 1, h.scrape(t)["refusals_total/left"])
		refused("user-full", h.mint("a"))
		require.Error(t, a.Renew(t.Context(), h.mint("b")))
		require.EqualValues(t, 1, h.scrape(t)["refusals_total/another"])
		require.NoError(t, a.Renew(t.Context(), h.mint("a")))

		ended := func(cause string) {
			t.Helper()
			synctest.Wait()
			require.EqualValues(t, 1, h.scrape(t)["ends_total/"+cause], cause)
		}
		a.End("spam")
		ended("revoked")
		a.Leave()
		got := h.scrape(t)
		for name, want := range map[string]float64{
			"entries_total": 3, "renewals_total": 1, "entry_duration_seconds": 3, "participants": 1, "participants_limit": 3,
			"ready": 1, "draining": 0, "revocations_unsent": 0, "keys_overdue_seconds": 0,
		} {
			require.Equal(t, want, got[name], name)
		}
		require.Less(t, 0.0, got["guard_tokens"])
		require.Less(t, got["guard_tokens"], got["guard_tokens_limit"])

		time.Sleep(61 * time.Minute) // the session's hour
		ended("session-expired")
		b.Leave()
		p := h.let(t, "e")
		go h.Drain(t.Context(), 0, 0)
		ended("draining")
		p.Leave()
		refused("draining", h.mint("a"))
		require.EqualValues(t, 1, h.scrape(t)["draining"])
		h.stop()
		<-h.stopped
		require.EqualValues(t, 0, h.scrape(t)["ready"])

		// A Renew after the end is refused with its cause.
		h = newHouse(t)
		h.run()
		p = h.let(t, "a")
		h.stop()
		<-h.stopped
		ended("stopped")
		require.Error(t, p.Renew(t.Context(), h.mint("a")))
		require.EqualValues(t, 1, h.scrape(t)["refusals_total/stopped"])

		var f flag
		h = newHouse(t, func(c *gateway.Config) { f.Guard, c.Guard = c.Guard, &f })
		h.run()
		p = h.let(t, "a")
		f.ready = true
		require.Error(t, p.Renew(t.Context(), h.mint("a")))
		ended("all-revoked")
		h.stop()
		<-h.stopped
	})
}

// flag is a guard that, if ready, calls everybody revoked from its next Spend
// on.
type flag struct {
	gateway.Guard
	ready, up bool
}

func (f *flag) Spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	f.up = f.ready
	return f.Guard.Spend(ctx, now, s)
}

func (f *flag) Revoked(s token.Summary) error {
	if f.up {
		return token.ErrAllRevoked
	}
	return f.Guard.Revoked(s)
}

func TestUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.keys.err = errors.New("unreadable")
		h.run()
		time.Sleep(time.Minute + time.Second)
		got := h.scrape(t)
		require.EqualValues(t, 0, got["ready"])
		require.InDelta(t, 61, got["keys_age_seconds"], 1)
		require.EqualValues(t, 0, got["keys_overdue_seconds"])
		h.Advance(2 * h.Ring.Policy().Period)
		require.Less(t, 0.0, h.scrape(t)["keys_overdue_seconds"])
		h.stop()
		<-h.stopped
		time.Sleep(time.Minute)
		require.InDelta(t, 0, h.scrape(t)["revocations_age_seconds"], 1) // in memory
	})
}

func TestLint(t *testing.T) {
	h := newHouse(t)
	problems, err := testutil.GatherAndLint(h.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestRegisterTwice(t *testing.T) {
	h := newHouse(t)
	require.Error(t, h.metrics.Register(h.registry, h.Gateway))
}

func TestObserveAllocates(t *testing.T) {
	m := prometheus.New()
	for kind := gateway.Entered; kind <= gateway.Ended; kind++ {
		e := gateway.Event{Kind: kind, Reason: "made up", Took: time.Microsecond}
		require.Zero(t, testing.AllocsPerRun(100, func() { m.Observe(e) }), kind)
	}
}

package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// keys are a ring that never rotates.
type keys struct {
	ring    *keyring.Ring
	refresh func() error
	health  error
}

func (k *keys) Ring() *keyring.Ring { return k.ring }

func (k *keys) Refresh(context.Context, time.Time) (bool, error) {
	if k.refresh == nil {
		return false, nil
	}
	return false, k.refresh()
}

func (k *keys) Health(time.Time) error { return k.health }

// house is a gateway with all it needs.
type house struct {
	*tokentest.Env
	*gateway.Gateway
	keys   *keys
	guard  *guard
	events events
	stop   context.CancelFunc
	ran    chan error
}

// guard is the in-memory one, with hooks.
type guard struct {
	gateway.Guard
	spending  func()                                   // called before a token is spent
	spent     func()                                   // called after
	revokeErr atomic.Pointer[error]                    // returned by Revoke instead
	news      chan func(func(token.Target, time.Time)) // more to hand over
	synced    atomic.Pointer[time.Time]
	ready     time.Time
}

func (g *guard) Spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	if g.spending != nil {
		g.spending()
	}
	fresh, err := g.Guard.Spend(ctx, now, s)
	if g.spent != nil {
		g.spent()
	}
	return fresh, err
}

func (g *guard) Revoke(ctx context.Context, t token.Target, before time.Time) error {
	if err := g.revokeErr.Load(); err != nil {
		return *err
	}
	return g.Guard.Revoke(ctx, t, before)
}

func (g *guard) Sync(ctx context.Context, news func(token.Target, time.Time)) error {
	select {
	case more := <-g.news:
		more(news)
	default:
	}
	return g.Guard.Sync(ctx, news)
}

func (g *guard) Synced() time.Time {
	if at := g.synced.Load(); at != nil {
		return *at
	}
	return g.Guard.Synced()
}

func (g *guard) ReadyAt() time.Time { return g.ready }

// causes are the causes of a participant's ends.
type causes struct {
	mu   sync.Mutex
	list []error
}

func (c *causes) add(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, cause)
}

func (c *causes) take() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

type events struct {
	mu   sync.Mutex
	list []gateway.Event
}

func (e *events) add(event gateway.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) take() []gateway.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.list
	e.list = nil
	return list
}

// newHouse makes a house whose gateway runs until the test ends.
func newHouse(t testing.TB, changes ...func(*gateway.Config)) *house {
	t.Helper()
	h := newStillHouse(t, changes...)
	h.run(t)
	return h
}

// newStillHouse makes a house whose gateway doesn't run.
func newStillHouse(t testing.TB, changes ...func(*gateway.Config)) *house {
	t.Helper()
	h := &house{Env: tokentest.New(t)}
	h.keys = &keys{ring: h.Ring}
	h.guard = &guard{Guard: h.Guard, news: make(chan func(func(token.Target, time.Time)), 1)}
	c := gateway.Config{Keys: h.keys, Guard: h.guard, Observe: h.events.add, Now: h.Now}
	for _, change := range changes {
		change(&c)
	}
	g, err := gateway.New(c)
	require.NoError(t, err)
	h.Gateway = g
	return h
}

func (h *house) run(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ran = stop, make(chan error, 1)
	go func() { h.ran <- h.Run(ctx) }()
	t.Cleanup(stop)
	for h.Ready(h.Now()) != nil && h.keys.health == nil && !h.guard.ready.After(h.Now()) {
		time.Sleep(time.Millisecond)
	}
}

// writer is an http.Hijacker, like a real connection's.
type writer struct{ *httptest.ResponseRecorder }

func (writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("a test") }

func newWriter() writer { return writer{httptest.NewRecorder()} }

// handshake is a good request for a WebSocket, with a token.
func handshake(text string, changes ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://chat.example.com/chat", nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if text != "" {
		r.Header.Set("Sec-WebSocket-Protocol", text)
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

func (h *house) enter(t testing.TB, changes ...func(*claims.Claims)) *gateway.Participant {
	t.Helper()
	w := newWriter()
	minted := h.Mint(changes...)
	p, err := h.Enter(w, handshake(minted.Token))
	require.NoError(t, err)
	require.Equal(t, minted.Token, w.Header().Get("Sec-WebSocket-Protocol"))
	require.Equal(t, minted.ID, p.Session().TokenID())
	return p
}

// requireRefused presents a request, and requires that its token was not spent.
func (h *house) requireRefused(t testing.TB, r *http.Request, minted token.ChatToken, status, code int, reason string) writer {
	t.Helper()
	w := newWriter()
	p, err := h.Enter(w, r)
	require.Nil(t, p)
	refusal, ok := errors.AsType[*gateway.Refusal](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, refusal.Reason, "%v", refusal.Err)
	require.Equal(t, status, w.Code)
	require.Equal(t, status, refusal.Status)
	require.Equal(t, code, refusal.CloseCode)
	got, word := gateway.CloseFrame(err)
	require.Equal(t, code, got)
	require.Equal(t, reason, word)
	require.Contains(t, gateway.Reasons(), reason)
	require.Empty(t, w.Header().Get("Sec-WebSocket-Protocol"))
	require.NotContains(t, w.Body.String(), token.Prefix)
	h.requireUnspent(t, minted)
	return w
}

func (h *house) requireUnspent(t testing.TB, minted token.ChatToken) {
	t.Helper()
	require.NoError(t, h.Opener.Open(t.Context(), new(token.Session), minted.Token), "the token was spent")
}

func closeCode(cause error) int {
	code, _ := gateway.CloseFrame(cause)
	return code
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func del(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }

// A bad request doesn't spend its token.
func TestRefusedUnspent(t *testing.T) {
	h := newHouse(t)
	for name, test := range map[string]struct {
		change       func(*http.Request)
		status, code int
		reason       string
	}{
		"POST":              {func(r *http.Request) { r.Method = http.MethodPost }, 400, 1008, "handshake"},
		"HTTP/1.0":          {func(r *http.Request) { r.ProtoMinor = 0 }, 400, 1008, "handshake"},
		"HTTP/2":            {func(r *http.Request) { r.ProtoMajor = 2 }, 500, 1008, "handshake"},
		"no host":           {func(r *http.Request) { r.Host = "" }, 400, 1008, "handshake"},
		"no Connection":     {del("Connection"), 400, 1008, "handshake"},
		"Connection: close": {set("Connection", "close"), 400, 1008, "handshake"},
		"no Upgrade":        {del("Upgrade"), 400, 1008, "handshake"},
		"Upgrade: h2c":      {set("Upgrade", "h2c"), 400, 1008, "handshake"},
		"no key":            {del("Sec-WebSocket-Key"), 400, 1008, "handshake"},
		"short key":         {set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j"), 400, 1008, "handshake"},
		"key of 15 bytes":   {set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25="), 400, 1008, "handshake"},
		"key not base64":    {set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j*Q=="), 400, 1008, "handshake"},
		"two keys": {func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") },
			400, 1008, "handshake"},
		"a body":         {func(r *http.Request) { r.ContentLength = 5 }, 400, 1008, "handshake"},
		"a chunked body": {func(r *http.Request) { r.ContentLength = -1 }, 400, 1008, "handshake"},
		"version 8":      {set("Sec-WebSocket-Version", "8"), 426, 1008, "handshake"},
		"no version":     {del("Sec-WebSocket-Version"), 426, 1008, "handshake"},
		"CONNECT":        {func(r *http.Request) { r.Method = http.MethodConnect }, 400, 1008, "handshake"},
		"foreign Origin": {set("Origin", "http://evil.example.com"), 403, 4403, "origin"},
		"other scheme":   {set("Origin", "https://chat.example.com"), 403, 4403, "origin"},
		"other port":     {set("Origin", "http://chat.example.com:8080"), 403, 4403, "origin"},
		"null Origin":    {set("Origin", "null"), 403, 4403, "origin"},
		"empty Origin":   {set("Origin", ""), 403, 4403, "origin"},
		"two Origins": {func(r *http.Request) {
			r.Header["Origin"] = []string{"http://chat.example.com", "http://chat.example.com"}
		},
			403, 4403, "origin"},
		"no token":         {del("Sec-WebSocket-Protocol"), 401, 4401, "no-token"},
		"another protocol": {set("Sec-WebSocket-Protocol", "graphql-ws"), 401, 4401, "no-token"},
	} {
		t.Run(name, func(t *testing.T) {
			minted := h.Mint()
			w := h.requireRefused(t, handshake(minted.Token, test.change), minted, test.status, test.code, test.reason)
			switch test.status {
			case 401:
				assert.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
			case 426:
				assert.Equal(t, "13", w.Header().Get("Sec-WebSocket-Version"))
			}
		})
	}
	t.Run("two tokens", func(t *testing.T) {
		minted := h.Mint()
		h.requireRefused(t, handshake(minted.Token+", "+h.Mint().Token), minted, 400, 4403, "two-tokens")
	})
	t.Run("beside a protocol", func(t *testing.T) {
		minted := h.Mint()
		h.requireRefused(t, handshake("chat, "+minted.Token), minted, 401, 4401, "no-token")
	})
	t.Run("a writer that cannot be taken over", func(t *testing.T) {
		w := httptest.NewRecorder()
		minted := h.Mint()
		_, err := h.Enter(w, handshake(minted.Token))
		require.Error(t, err)
		require.Equal(t, 500, w.Code)
		h.requireUnspent(t, minted)
	})
	assert.Zero(t, h.Stats().Live)
	assert.Zero(t, h.Stats().Present)
}

// Refusals by package token keep their status, with Retry-After.
func TestRefusedTokens(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) {
		c.Admit = func(_ context.Context, _ time.Time, s token.Summary) error {
			if string(s.UserID) == "banned" {
				return errors.New("banned")
			}
			return nil
		}
	})
	banned := h.Mint(func(c *claims.Claims) { c.UserID = "banned" }).Token
	for _, test := range []struct {
		text         string
		status, code int
		reason       string
		after        string
	}{
		{h.Expired(), 401, 4401, "expired", ""},
		{h.FromTheFuture(), 401, 4401, "not-yet-valid", ""},
		{h.Spent(), 401, 4401, "spent", ""},
		{h.UnknownKey(), 401, 4401, "unknown-key", ""},
		{h.Forged(), 401, 4401, "forged", ""},
		{token.Prefix + "*", 401, 4401, "malformed", ""},
		{h.Revoked(), 401, 4401, "revoked", "6"},
		{banned, 403, 4403, "refused", ""},
	} {
		w := newWriter()
		_, err := h.Enter(w, handshake(test.text))
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok)
		assert.Equal(t, test.reason, refusal.Reason)
		assert.Contains(t, gateway.Reasons(), refusal.Reason)
		assert.Equal(t, test.status, w.Code, test.reason)
		assert.Equal(t, test.code, refusal.CloseCode)
		assert.Equal(t, test.after, w.Header().Get("Retry-After"))
		assert.Equal(t, test.status == 401, w.Header().Get("WWW-Authenticate") != "")
		assert.NotContains(t, err.Error(), "banned")
	}
	_, err := h.Enter(newWriter(), handshake(h.Spent()))
	assert.ErrorIs(t, err, token.ErrSpent)
}

func TestOrigins(t *testing.T) {
	const chat = "https://chat.example.com"
	for _, test := range []struct {
		name    string
		config  []string
		change  func(*http.Request)
		origin  string
		allowed bool
	}{
		{"none sent", nil, nil, "", true},
		{"own", nil, nil, "http://chat.example.com", true},
		{"own, capitals", nil, nil, "HTTP://Chat.Example.COM", true},
		{"own, default port stated", nil, nil, "http://chat.example.com:80", true},
		{"own, Host with the default port", nil, func(r *http.Request) { r.Host = "chat.example.com:80" }, "http://chat.example.com", true},
		{"own, another port", nil, func(r *http.Request) { r.Host = "chat.example.com:81" }, "http://chat.example.com", false},
		{"own, IPv6", nil, func(r *http.Request) { r.Host = "[::1]:8080" }, "http://[::1]:8080", true},
		{"behind a proxy that says https", nil, set("X-Forwarded-Proto", "https"), chat, true},
		{"and Host with its port", nil, func(r *http.Request) { r.Host = "chat.example.com:443"; r.Header.Set("X-Forwarded-Proto", "https") }, chat, true},
		{"own, without a host", nil, func(r *http.Request) { r.Host = "" }, "http://", false},
		{"a proxy that says ftp", nil, set("X-Forwarded-Proto", "ftp"), "ftp://chat.example.com", false},
		{"a proxy that says http", nil, set("X-Forwarded-Proto", "http"), chat, false},
		{"a proxy that says two things", nil, func(r *http.Request) { r.Header["X-Forwarded-Proto"] = []string{"https", "http"} }, chat, false},
		{"listed", []string{"https://a.example", chat}, nil, chat, true},
		{"listed with its port", []string{chat + ":443"}, nil, chat, true},
		{"listed in capitals", []string{"HTTPS://CHAT.example.com"}, nil, chat, true},
		{"not listed", []string{"https://a.example"}, nil, chat, false},
		{"an empty list", []string{}, nil, "http://chat.example.com", false},
		{"longer than listed", []string{chat}, nil, chat + ".evil.example", false},
		{"with a path", []string{chat}, nil, chat + "/", false},
		{"with a user", []string{chat}, nil, "https://x@chat.example.com", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t, func(c *gateway.Config) {
				c.Origins = test.config
				if test.config == nil && test.change != nil && (test.origin == chat || strings.HasPrefix(test.origin, "ftp")) {
					c.ForwardedProto = "X-Forwarded-Proto"
				}
			})
			minted := h.Mint()
			r := handshake(minted.Token)
			if test.change != nil {
				test.change(r)
			}
			if test.origin != "" {
				r.Header.Set("Origin", test.origin)
			}
			p, err := h.Enter(newWriter(), r)
			if !test.allowed {
				require.Error(t, err)
				h.requireUnspent(t, minted)
				return
			}
			require.NoError(t, err)
			p.Leave()
		})
	}
}

func TestConfig(t *testing.T) {
	env := tokentest.New(t)
	good := gateway.Config{Keys: &keys{ring: env.Ring}, Guard: env.Guard}
	_, err := gateway.New(good)
	require.NoError(t, err)
	for name, change := range map[string]func(*gateway.Config){
		"Keys":             func(c *gateway.Config) { c.Keys = nil },
		"its Ring":         func(c *gateway.Config) { c.Keys = &keys{} },
		"zero Ring":        func(c *gateway.Config) { c.Keys = &keys{ring: new(keyring.Ring)} },
		"Guard":            func(c *gateway.Config) { c.Guard = nil },
		"MaxLive":          func(c *gateway.Config) { c.MaxLive = -1 },
		"Sources":          func(c *gateway.Config) { c.Sources = []gateway.Source{{}} },
		"Sources has":      func(c *gateway.Config) { c.Sources = []gateway.Source{gateway.Bearer(), gateway.Bearer()} },
		"without the name": func(c *gateway.Config) { c.Sources = []gateway.Source{gateway.Query("")} },
		"lower limits": func(c *gateway.Config) {
			ring, err := keyring.New(env.Now(), keyring.Config{Policy: keyring.Policy{MaxTTL: 5 * time.Minute}})
			require.NoError(t, err)
			c.Keys = &keys{ring: ring}
		},
	} {
		c := good
		change(&c)
		_, err := gateway.New(c)
		assert.ErrorContains(t, err, name)
	}
	for _, origin := range []string{
		"", "*", "chat.example.com", "https://chat.example.com/", "https://chat.example.com ", " https://chat.example.com",
		"https://*.example.com", "https://", "wss://chat.example.com", "https://chat.example.com,https://a.example", "null",
		"https://chat.example.com:", "https://u@chat.example.com", "https://chat.example.com?x", "//chat.example.com",
	} {
		c := good
		c.Origins = []string{origin}
		_, err := gateway.New(c)
		assert.ErrorContains(t, err, "Config.Origins", "%q", origin)
	}
}

func TestSources(t *testing.T) {
	h := tokentest.New(t)
	protocols := func(s string) func(*http.Request) { return set("Sec-WebSocket-Protocol", s) }
	bearer := func(s string) func(*http.Request) { return set("Authorization", s) }
	query := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = s }
	}
	all := []gateway.Source{gateway.Subprotocol(""), gateway.Subprotocol("chat"), gateway.Bearer(), gateway.Query("token"), gateway.Cookie("token")}
	for _, test := range []struct {
		name    string
		sources []gateway.Source
		put     func(token string) []func(*http.Request)
		echo    string // "TOKEN" for the token
		reason  string
	}{
		{"subprotocol", nil, func(s string) []func(*http.Request) { return []func(*http.Request){protocols(s)} }, "TOKEN", ""},
		{"with white space", nil, func(s string) []func(*http.Request) { return []func(*http.Request){protocols(" " + s + " ,")} }, "TOKEN", ""},
		{"beside a name", all, func(s string) []func(*http.Request) { return []func(*http.Request){protocols("chat, " + s)} }, "chat", ""},
		{"before a name", all, func(s string) []func(*http.Request) { return []func(*http.Request){protocols(s + ",chat")} }, "chat", ""},
		{"beside another name", all, func(s string) []func(*http.Request) { return []func(*http.Request){protocols("other, " + s)} }, "", "no-token"},
		{"name only", all, func(s string) []func(*http.Request) { return []func(*http.Request){protocols("chat")} }, "", "no-token"},
		{"on two lines", all, func(s string) []func(*http.Request) {
			return []func(*http.Request){protocols("chat"), func(r *http.Request) { r.Header.Add("Sec-WebSocket-Protocol", s) }}
		}, "chat", ""},
		{"alone where a name is needed", []gateway.Source{gateway.Subprotocol("chat")}, func(s string) []func(*http.Request) { return []func(*http.Request){protocols(s)} }, "", "no-token"},
		{"bearer", all, func(s string) []func(*http.Request) { return []func(*http.Request){bearer("bearer " + s)} }, "", ""},
		{"bearer, not asked for", nil, func(s string) []func(*http.Request) { return []func(*http.Request){bearer("Bearer " + s)} }, "", "no-token"},
		{"basic", all, func(s string) []func(*http.Request) { return []func(*http.Request){bearer("Basic " + s)} }, "", "no-token"},
		{"query", all, func(s string) []func(*http.Request) { return []func(*http.Request){query("a=b&token=" + s)} }, "", ""},
		{"query twice", all, func(s string) []func(*http.Request) { return []func(*http.Request){query("token=x&token=" + s)} }, "", "two-tokens"},
		{"cookie", all, func(s string) []func(*http.Request) {
			return []func(*http.Request){set("Cookie", "a=b; token="+s), set("Origin", "http://chat.example.com")}
		}, "", ""},
		{"cookie, same site by Fetch metadata", all, func(s string) []func(*http.Request) {
			return []func(*http.Request){set("Cookie", "token="+s), set("Sec-Fetch-Site", "same-origin")}
		}, "", ""},
		{"cookie without Origin", all, func(s string) []func(*http.Request) { return []func(*http.Request){set("Cookie", "token="+s)} }, "", "origin"},
		{"two places", all, func(s string) []func(*http.Request) {
			return []func(*http.Request){query("token=" + s), bearer("Bearer " + s)}
		}, "", "two-tokens"},
		{"two places, one empty", all, func(s string) []func(*http.Request) {
			return []func(*http.Request){query("token="), bearer("Bearer " + s)}
		}, "", "two-tokens"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t, func(c *gateway.Config) { c.Sources = test.sources })
			minted := h.Mint()
			r := handshake("", test.put(minted.Token)...)
			w := newWriter()
			p, err := h.Enter(w, r)
			if test.reason != "" {
				refusal, ok := errors.AsType[*gateway.Refusal](err)
				require.True(t, ok)
				require.Equal(t, test.reason, refusal.Reason)
				h.requireUnspent(t, minted)
				return
			}
			require.NoError(t, err)
			echo := test.echo
			if echo == "TOKEN" {
				echo = minted.Token
			}
			require.Equal(t, echo, w.Header().Get("Sec-WebSocket-Protocol"))
			p.Leave()
		})
	}
	_ = h
}

func TestRoom(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) {
		c.Room = func(r *http.Request) string { return r.URL.Query().Get("room") }
	})
	in := func(room string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = "room=" + room }
	}
	minted := h.Mint()
	h.requireRefused(t, handshake(minted.Token, in("another")), minted, 403, 4403, "room")
	minted = h.Mint()
	h.requireRefused(t, handshake(minted.Token), minted, 403, 4403, "room")
	p, err := h.Enter(newWriter(), handshake(h.Mint().Token, in(tokentest.Room)))
	require.NoError(t, err)
	assert.Equal(t, tokentest.Room, string(p.Session().RoomIdentifier()))
}

func TestFull(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.MaxLive, c.MaxLivePerUser = 3, 2 })
	a, b := h.enter(t), h.enter(t)
	minted := h.Mint()
	w := h.requireRefused(t, handshake(minted.Token), minted, 429, 1013, "user-full")
	assert.Equal(t, "5", w.Header().Get("Retry-After"))
	another := func(c *claims.Claims) { c.UserID = "another" }
	h.enter(t, another)
	minted = h.Mint(another)
	h.requireRefused(t, handshake(minted.Token), minted, 503, 1013, "full")
	require.Equal(t, 3, h.Stats().Live)
	a.Leave()
	a.Leave()
	h.enter(t, another)
	b.Leave()
	require.Equal(t, 2, h.Stats().Live)
	require.Equal(t, 2, h.Stats().Present)
}

// However many come at once, a token without a place isn't spent.
func TestFullSpendsNothing(t *testing.T) {
	for _, perUser := range []int{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(c *gateway.Config) { c.MaxLive, c.MaxLivePerUser = 20, perUser })
			h.guard.spending = func() { time.Sleep(time.Millisecond) } // all are there
			var wg sync.WaitGroup
			var entered atomic.Int64
			for i := range 100 {
				minted := h.Mint(func(c *claims.Claims) {
					if perUser == 0 {
						c.UserID = fmt.Sprint("user ", i)
					}
				})
				wg.Go(func() {
					if _, err := h.Enter(newWriter(), handshake(minted.Token)); err == nil {
						entered.Add(1)
					} else {
						h.requireUnspent(t, minted)
					}
				})
			}
			wg.Wait()
			if perUser == 0 {
				perUser = 20
			}
			require.EqualValues(t, perUser, entered.Load())
			h.stop()
			<-h.ran
		})
	}
}

// If a token isn't spent in the end, its place is free again.
func TestPlacesGivenBack(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.MaxLive, c.MaxLivePerUser = 1, 1 })
	spent := h.Spent()
	for range 10 {
		_, err := h.Enter(newWriter(), handshake(spent))
		require.ErrorIs(t, err, token.ErrSpent)
	}
	h.guard.spending = func() { panic("a guard") }
	require.Panics(t, func() { _, _ = h.Enter(newWriter(), handshake(h.Mint().Token)) })
	h.guard.spending = nil
	_, credits := h.Size()
	require.Equal(t, 1, credits)
	h.enter(t)
	_, credits = h.Size()
	require.Zero(t, credits)
}

// The gateway is full at 98 percent of MaxLive at the earliest, and never
// exceeds it.
func TestMaxLive(t *testing.T) {
	for _, limit := range []int{1, 7, 100, 6400, 10_000} {
		h := newHouse(t, func(c *gateway.Config) { c.MaxLive = limit; c.Observe = nil })
		var in atomic.Int64
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; i < limit; i++ {
					user := string(rune('a'+w)) + string(rune(i))
					_, err := h.Enter(newWriter(), handshake(h.Mint(func(c *claims.Claims) { c.UserID = user }).Token))
					if err != nil {
						return
					}
					in.Add(1)
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, int(in.Load()), limit)
		require.GreaterOrEqual(t, int(in.Load()), limit-limit/50)
		require.EqualValues(t, in.Load(), h.Stats().Live)
	}
}

// No revocation between Open and the return of Enter is missed.
func TestRevokedMeanwhile(t *testing.T) {
	for _, who := range []func(token.ChatToken) token.Target{
		func(m token.ChatToken) token.Target { return token.Target{Token: m.ID} },
		func(token.ChatToken) token.Target { return token.Target{User: tokentest.UserID} },
		func(token.ChatToken) token.Target { return token.Target{Room: tokentest.Room} },
		func(token.ChatToken) token.Target { return token.Target{Room: tokentest.Room, User: tokentest.UserID} },
		func(token.ChatToken) token.Target { return token.Target{Everyone: true} },
	} {
		for _, before := range []bool{true, false} {
			h := newHouse(t)
			minted := h.Mint()
			revoke := func() {
				h.guard.spending, h.guard.spent = nil, nil
				require.NoError(t, h.Revoke(t.Context(), who(minted), ""))
			}
			if before {
				h.guard.spending = revoke
			} else {
				h.guard.spent = revoke
			}
			p, err := h.Enter(newWriter(), handshake(minted.Token))
			require.ErrorIs(t, err, token.ErrRevoked)
			require.Nil(t, p)
			require.Zero(t, h.Stats().Live)
			require.Zero(t, h.Stats().Present)
		}
	}
}

// Every kind of target ends exactly those it names, with the reason.
func TestRevoke(t *testing.T) {
	user := func(user, room string) func(*claims.Claims) {
		return func(c *claims.Claims) { c.UserID, c.RoomIdentifier = user, tokentest.Room+room }
	}
	for name, test := range map[string]struct {
		who  func(first *gateway.Participant) token.Target
		ends []int
	}{
		"token": {func(p *gateway.Participant) token.Target { return token.Target{Token: p.Session().TokenID()} }, []int{0}},
		"user":  {func(*gateway.Participant) token.Target { return token.Target{User: "a"} }, []int{0, 1, 4}},
		"room":  {func(*gateway.Participant) token.Target { return token.Target{Room: tokentest.Room + "1"} }, []int{0, 2, 4}},
		"both":  {func(*gateway.Participant) token.Target { return token.Target{Room: tokentest.Room + "1", User: "a"} }, []int{0, 4}},
		"all":   {func(*gateway.Participant) token.Target { return token.Target{Everyone: true} }, []int{0, 1, 2, 3, 4}},
		"none":  {func(*gateway.Participant) token.Target { return token.Target{User: "nobody"} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			var ends []int
			var in []*gateway.Participant
			for i, who := range []func(*claims.Claims){user("a", "1"), user("a", "2"), user("b", "1"), user("b", "2"), user("a", "1")} {
				p := h.enter(t, who)
				p.OnEnd(func(cause error) {
					ends = append(ends, i)
					assert.ErrorIs(t, cause, token.ErrRevoked)
					assert.EqualError(t, cause, "spam")
					assert.Equal(t, 4401, closeCode(cause))
				})
				in = append(in, p)
			}
			require.NoError(t, h.Revoke(t.Context(), test.who(in[0]), "spam"))
			slices.Sort(ends)
			require.Equal(t, test.ends, ends)
			require.Equal(t, 5-len(test.ends), h.Stats().Live)
			for i, p := range in {
				ended := slices.Contains(test.ends, i)
				require.Equal(t, ended, p.Authorize(claims.SendMessage) != nil)
				require.Equal(t, ended, p.Context().Err() != nil)
				if ended {
					require.ErrorIs(t, context.Cause(p.Context()), token.ErrRevoked)
				}
				p.Leave()
			}
			require.Zero(t, h.Stats().Present)
		})
	}
	h := newHouse(t)
	for _, bad := range []token.Target{{}, {User: "a", Everyone: true}} {
		require.Error(t, h.Revoke(t.Context(), bad, ""))
	}
}

// If the clock was set back since, Revoke still ends everyone who is in.
func TestRevokeAfterTheClockWasSetBack(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t)
	h.Advance(-time.Hour)
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, ""))
	require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrRevoked)
}

// Run repeats a failed revocation until the fleet knows.
func TestRevokeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		p := h.enter(t)
		down := token.Unavailable("down")
		h.guard.revokeErr.Store(&down)
		require.ErrorIs(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, ""), down)
		require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrRevoked, "it is ended all the same")
		unused := h.Mint()
		pass(10 * time.Second)
		require.Equal(t, 1, h.Stats().Unsent)
		require.NoError(t, h.Guard.Revoked(summary(t, h, unused)))
		h.guard.revokeErr.Store(nil)
		pass(2 * time.Second)
		require.Zero(t, h.Stats().Unsent)
		require.ErrorIs(t, h.Guard.Revoked(summary(t, h, unused)), token.ErrRevoked)
		h.stop()
		<-h.ran
	})
}

// pass lets time pass in a bubble, until all goroutines wait.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func summary(t *testing.T, h *house, minted token.ChatToken) token.Summary {
	t.Helper()
	var s token.Session
	opener := token.Opener{Ring: h.Ring, Now: h.Now}
	require.NoError(t, opener.OpenWithoutSpending(t.Context(), &s, minted.Token))
	return s.Summary()
}

// What others revoked ends the sessions issued before, within two seconds.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		old := h.enter(t)
		moment := h.Now()
		pass(6 * time.Second)
		later := h.enter(t)
		h.guard.news <- func(news func(token.Target, time.Time)) {
			news(token.Target{User: tokentest.UserID}, moment)
		}
		pass(2 * time.Second)
		require.ErrorIs(t, old.Authorize(claims.SendMessage), token.ErrRevoked)
		require.NoError(t, later.Authorize(claims.SendMessage))
		h.guard.news <- func(news func(token.Target, time.Time)) {
			news(token.Target{Token: later.Session().TokenID()}, time.Time{})
		}
		pass(2 * time.Second)
		require.ErrorIs(t, later.Authorize(claims.SendMessage), token.ErrRevoked)
		h.stop()
		<-h.ran
	})
}

// A participant ends at its deadline by the clock, even if that is set.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		minute := func(c *claims.Claims) { c.SessionMinutes = 1 }
		var ends causes
		p := h.enter(t, minute)
		p.OnEnd(ends.add)
		pass(59 * time.Second)
		require.Empty(t, ends.take())
		require.NoError(t, p.Authorize(claims.SendMessage))
		pass(1001 * time.Millisecond)
		require.Equal(t, []error{token.ErrSessionExpired}, ends.take())
		require.Equal(t, token.ErrSessionExpired, p.Authorize(claims.SendMessage))
		require.Equal(t, 1, h.Stats().Present)
		p.Leave()

		p = h.enter(t, minute)
		p.OnEnd(ends.add)
		h.Advance(-time.Hour)
		pass(50 * time.Minute)
		require.Empty(t, ends.take(), "the clock was set back")
		h.Advance(time.Hour)
		pass(1001 * time.Millisecond)
		require.Len(t, ends.take(), 1)

		late := h.enter(t) // 30 minutes
		h.Advance(time.Hour)
		require.Equal(t, token.ErrSessionExpired, late.Authorize(claims.SendMessage), "exact, whatever the tick does")
		pass(1001 * time.Millisecond)
		require.Zero(t, h.Stats().Live)
		h.stop()
		<-h.ran
	})
}

// Nobody enters unless Run runs. When it returns, everyone ends.
func TestFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStillHouse(t)
		minted := h.Mint()
		require.False(t, h.Stats().Running)
		h.requireRefused(t, handshake(minted.Token), minted, 503, 1013, "not-running")
		require.Error(t, h.Ready(h.Now()))

		h.run(t)
		require.Error(t, h.Run(t.Context()), "one Run at a time")
		p := h.enter(t)
		h.stop()
		require.ErrorIs(t, <-h.ran, context.Canceled)
		require.ErrorIs(t, p.Authorize(claims.SendMessage), gateway.ErrStopped)
		require.Zero(t, h.Stats().Live)
		minted = h.Mint()
		h.requireRefused(t, handshake(minted.Token), minted, 503, 1013, "not-running")

		h.run(t) // again
		h.enter(t)
		h.stop()
		<-h.ran
	})
}

// While Run stalls, nobody enters.
func TestStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		blocked := make(chan bool)
		p := h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 })
		p.OnEnd(func(error) { <-blocked }) // it must not block
		pass(65 * time.Second)
		h.enter(t)
		pass(10 * time.Second)
		minted := h.Mint()
		h.requireRefused(t, handshake(minted.Token), minted, 503, 1013, "not-running")
		require.Error(t, h.Ready(h.Now()))
		close(blocked)
		pass(2 * time.Second)
		h.enter(t)
		h.stop()
		<-h.ran
	})
}

// A key file or a server that stalls holds up nothing else.
func TestSlowKeysAndGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocked := make(chan bool)
		h := newStillHouse(t)
		h.keys.refresh = func() error { <-blocked; return errors.New("late") }
		h.guard.news <- func(func(token.Target, time.Time)) { <-blocked }
		h.run(t)
		p := h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 })
		pass(61 * time.Second)
		require.Equal(t, token.ErrSessionExpired, p.Authorize(claims.SendMessage))
		require.Zero(t, h.Stats().Live)
		h.enter(t)
		close(blocked)
		pass(2 * time.Second)
		require.ErrorContains(t, h.Stats().RefreshError, "late")
		require.NoError(t, h.Stats().SyncError)
		h.stop()
		<-h.ran
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		require.NoError(t, h.Ready(h.Now()))
		h.keys.health = errors.New("overdue")
		require.ErrorContains(t, h.Ready(h.Now()), "overdue")
		h.keys.health = nil
		long := h.Now().Add(-2 * time.Minute)
		h.guard.synced.Store(&long)
		require.ErrorContains(t, h.Ready(h.Now()), "revoked")
		h.guard.synced.Store(nil)
		h.guard.ready = h.Now().Add(time.Second)
		require.ErrorContains(t, h.Ready(h.Now()), "ready at")
		h.guard.ready = time.Time{}
		h.stop()
		<-h.ran
	})
}

func TestRenew(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 })
	var causes []error
	p.OnEnd(func(cause error) { causes = append(causes, cause) })
	old := p.Session()
	requireSame := func() {
		t.Helper()
		require.Same(t, old, p.Session())
		require.NoError(t, p.Authorize(claims.SendMessage))
		require.Empty(t, causes)
	}
	for name, change := range map[string]func(*claims.Claims){
		"user": func(c *claims.Claims) { c.UserID = "another" },
		"room": func(c *claims.Claims) { c.RoomIdentifier = tokentest.Room + "2" },
	} {
		minted := h.Mint(change)
		err := p.Renew(t.Context(), minted.Token)
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok, name)
		require.Equal(t, "another", refusal.Reason)
		requireSame()
		h.requireUnspent(t, minted)
	}
	for text, want := range map[string]error{h.Spent(): token.ErrSpent, h.Expired(): token.ErrTokenExpired, h.Forged(): token.ErrForged, "": token.ErrMalformed, h.Revoked(): token.ErrRevoked} {
		require.ErrorIs(t, p.Renew(t.Context(), text), want)
		requireSame()
	}

	minted := h.Mint(func(c *claims.Claims) { c.SessionMinutes, c.Capabilities = 5, claims.DeleteMessage })
	require.NoError(t, p.Renew(t.Context(), minted.Token))
	require.Equal(t, minted.ID, p.Session().TokenID())
	require.NoError(t, p.Authorize(claims.DeleteMessage))
	require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrNotPermitted, "the old capabilities are gone")
	require.Equal(t, 1, h.Stats().Live)

	require.NoError(t, h.Revoke(t.Context(), token.Target{Token: old.TokenID()}, ""))
	require.Empty(t, causes, "the old token is not what it stays by")
	require.NoError(t, h.Revoke(t.Context(), token.Target{Token: minted.ID}, ""))
	require.Len(t, causes, 1)
	require.ErrorIs(t, p.Renew(t.Context(), h.Mint().Token), token.ErrRevoked)
	p.Leave()

	q := h.enter(t, func(c *claims.Claims) { c.UserID = "q" })
	q.Leave()
	require.ErrorIs(t, q.Renew(t.Context(), h.Mint().Token), gateway.ErrLeft)
}

// The deadline is the new one.
func TestRenewDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		p := h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 })
		require.NoError(t, p.Renew(t.Context(), h.Mint(func(c *claims.Claims) { c.SessionMinutes = 3 }).Token))
		pass(2 * time.Minute)
		require.NoError(t, p.Authorize(claims.SendMessage))
		require.NoError(t, p.Renew(t.Context(), h.Mint(func(c *claims.Claims) { c.SessionMinutes = 1 }).Token))
		pass(30 * time.Second)
		require.NoError(t, p.Authorize(claims.SendMessage))
		pass(31 * time.Second)
		require.Equal(t, token.ErrSessionExpired, p.Authorize(claims.SendMessage))
		require.Zero(t, h.Stats().Live)
		h.stop()
		<-h.ran
	})
}

// A revocation during a renewal ends the participant.
func TestRenewRevokedMeanwhile(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t)
	minted := h.Mint()
	h.guard.spent = func() {
		h.guard.spent = nil
		require.NoError(t, h.Guard.Revoke(t.Context(), token.Target{Token: minted.ID}, time.Time{}))
	}
	require.ErrorIs(t, p.Renew(t.Context(), minted.Token), token.ErrRevoked)
	require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrRevoked)
	require.Zero(t, h.Stats().Live)
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		const n = 100
		var mu sync.Mutex
		var ends []time.Time
		for range n {
			p := h.enter(t)
			p.OnEnd(func(cause error) {
				assert.Equal(t, gateway.ErrDraining, cause)
				assert.Equal(t, 1012, closeCode(cause))
				mu.Lock()
				ends = append(ends, time.Now())
				mu.Unlock()
				go p.Leave()
			})
		}
		began := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- h.Drain(t.Context(), 5*time.Second, 10*time.Second) }()
		synctest.Wait()
		require.Equal(t, gateway.ErrDraining, h.Ready(h.Now()))
		minted := h.Mint()
		w := h.requireRefused(t, handshake(minted.Token), minted, 503, 1012, "draining")
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		pass(4 * time.Second)
		mu.Lock()
		require.Empty(t, ends, "health says no first")
		mu.Unlock()
		require.NoError(t, <-drained)
		require.Len(t, ends, n)
		slices.SortFunc(ends, time.Time.Compare)
		for i, at := range ends {
			even := began.Add(5*time.Second + 10*time.Second*time.Duration(i)/n)
			require.InDelta(t, 0, at.Sub(even).Seconds(), 0.3, "end %d", i)
		}
		require.Zero(t, h.Stats().Present)
		h.stop()
		<-h.ran
	})
}

// If somebody doesn't leave, Drain returns when its context ends.
func TestDrainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.enter(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, h.Drain(ctx, 0, time.Second), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		h.stop()
		<-h.ran
	})
}

// Drain doesn't wait if nobody is in.
func TestDrainEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		time.AfterFunc(time.Minute, h.enter(t).Leave)
		began := time.Now()
		require.NoError(t, h.Drain(t.Context(), time.Second, time.Hour))
		require.Less(t, time.Since(began), 2*time.Minute)
		h.stop()
		<-h.ran
	})
}

// A panic frees the place, and stops nothing else.
func TestPanics(t *testing.T) {
	panics := true
	h := newHouse(t, func(c *gateway.Config) {
		c.MaxLive = 1
		c.Admit = func(context.Context, time.Time, token.Summary) error {
			if panics {
				panic("admit")
			}
			return nil
		}
		c.Observe = func(gateway.Event) { panic("observe") }
	})
	for range 3 {
		minted := h.Mint()
		require.PanicsWithValue(t, "admit", func() { _, _ = h.Enter(newWriter(), handshake(minted.Token)) })
	}
	panics = false
	handler := h.Handler(func(http.ResponseWriter, *http.Request, *gateway.Participant) { panic("handler") })
	for range 3 {
		require.PanicsWithValue(t, "handler", func() { handler.ServeHTTP(newWriter(), handshake(h.Mint().Token)) })
	}
	p := h.enter(t)
	p.OnEnd(func(error) { panic("end") })
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, ""))
	p.Leave()
	require.Zero(t, h.Stats().Present)
}

// OnEnd is called once, at once if the end came before, and never by Leave.
func TestOnEnd(t *testing.T) {
	h := newHouse(t)
	calls := 0
	count := func(error) { calls++ }
	p := h.enter(t)
	p.OnEnd(func(error) { t.Error("replaced") })
	p.OnEnd(count)
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
	require.Equal(t, 1, calls)
	p.OnEnd(count)
	require.Equal(t, 2, calls, "the end was before")
	p.Leave()
	p.OnEnd(count)
	require.Equal(t, 2, calls)

	h.Advance(time.Minute)
	q := h.enter(t)
	q.OnEnd(count)
	ctx := q.Context()
	q.Leave()
	require.ErrorIs(t, context.Cause(ctx), gateway.ErrLeft)
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
	require.Equal(t, 2, calls)
	require.Error(t, q.Authorize(claims.SendMessage))
	require.Error(t, q.Context().Err())
}

// OnEnd may use the participant and the gateway: no lock is held.
func TestOnEndHoldsNoLock(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t)
	p.OnEnd(func(error) {
		p.Leave()
		p.OnEnd(nil)
		_ = p.Context()
		_ = h.Stats()
		_ = h.Revoke(t.Context(), token.Target{User: "another"}, "")
	})
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
	require.Zero(t, h.Stats().Present)
}

func TestEvents(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t)
	id := p.Session().TokenID()
	_, err := h.Enter(newWriter(), handshake(h.Forged()))
	require.Error(t, err)
	minted := h.Mint()
	require.NoError(t, p.Renew(t.Context(), minted.Token))
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, "spam"))
	got := h.events.take()
	for i := range got {
		require.Equal(t, got[i].Kind != gateway.Ended, got[i].Took > 0)
		got[i].Took = 0
	}
	require.Equal(t, []gateway.Event{
		{Kind: gateway.Entered, TokenID: id},
		{Kind: gateway.Refused, Reason: "forged"},
		{Kind: gateway.Renewed, TokenID: minted.ID},
		{Kind: gateway.Ended, Reason: "revoked", TokenID: minted.ID},
	}, got)
	st := h.Stats()
	require.EqualValues(t, []uint64{1, 1, 1}, []uint64{st.Entered, st.Refused, st.Ended})
}

// A browser can't see a refused upgrade, so it gets an upgrade and then a close
// code.
func TestArrive(t *testing.T) {
	h := newHouse(t)
	w := newWriter()
	_, err := h.Arrive(w, handshake("x", set("Origin", "http://evil.example.com")))
	require.Error(t, err)
	require.Equal(t, 403, w.Code)
	w = newWriter()
	_, err = h.Arrive(w, handshake("x", del("Upgrade")))
	require.Error(t, err)
	require.Equal(t, 400, w.Code)

	arrive := func(text string) (*gateway.Participant, error) {
		t.Helper()
		w := newWriter()
		enter, err := h.Arrive(w, handshake(text))
		require.NoError(t, err)
		require.Equal(t, text, w.Header().Get("Sec-WebSocket-Protocol"), "or a browser closes with 1006")
		return enter(t.Context())
	}
	for text, code := range map[string]int{h.Spent(): 4401, h.Forged(): 4401, h.Revoked(): 4401, "graphql-ws": 4401} {
		_, err := arrive(text)
		require.Equal(t, code, closeCode(err))
	}
	minted := h.Mint()
	enter, err := h.Arrive(newWriter(), handshake(minted.Token))
	require.NoError(t, err)
	require.Zero(t, h.Stats().Present)
	p, err := enter(t.Context())
	require.NoError(t, err)
	require.Equal(t, minted.ID, p.Session().TokenID())
	_, err = enter(t.Context())
	require.ErrorIs(t, err, token.ErrSpent)
	p.Leave()

	minted = h.Mint()
	enter, err = h.Arrive(newWriter(), handshake(minted.Token))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go func() { _ = h.Drain(ctx, time.Hour, 0) }()
	require.Eventually(t, func() bool { return h.Stats().Draining }, time.Minute, time.Millisecond)
	_, err = enter(t.Context())
	require.Equal(t, 1012, closeCode(err))
	h.requireUnspent(t, minted)
}

func TestKind(t *testing.T) {
	for kind, want := range []string{"none", "entered", "refused", "renewed", "ended", "none"} {
		assert.Equal(t, want, gateway.Kind(kind).String())
	}
}

// A moderator's reason fits into the frame, and strangers learn nothing secret.
func TestCloseFrame(t *testing.T) {
	h := newHouse(t)
	enter := func(text string) error {
		_, err := h.Enter(newWriter(), handshake(text))
		return err
	}
	kicked := func(reason string) (cause error) {
		p := h.enter(t)
		p.OnEnd(func(err error) { cause = err })
		require.NoError(t, h.Revoke(t.Context(), token.Target{Token: p.Session().TokenID()}, reason))
		return cause
	}
	const long = "🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂"
	for _, test := range []struct {
		cause  error
		code   int
		reason string
	}{
		{nil, 1000, ""},
		{token.ErrSessionExpired, 4401, "session-expired"},
		{token.ErrRevoked, 4401, "revoked"},
		{kicked("spam"), 4401, "spam"},
		{kicked(long), 4401, long[:30*4]},
		{kicked("a\xff\xfeb"), 4401, "a\uFFFDb"},
		{kicked(strings.Repeat("a", 123)), 4401, strings.Repeat("a", 123)},
		{kicked(strings.Repeat("a", 124)), 4401, strings.Repeat("a", 123)},
		{gateway.ErrDraining, 1012, "draining"},
		{errors.New("a secret of Admit"), 4403, "refused"},
		{token.Unavailable("a secret of a guard"), 1013, "unavailable"},
		{enter(h.Spent()), 4401, "spent"},
		{enter(h.Forged()), 4401, "invalid"},
		{enter(h.UnknownKey()), 4401, "invalid"},
		{enter(token.Prefix + "*"), 4401, "invalid"},
	} {
		code, reason := gateway.CloseFrame(test.cause)
		assert.Equal(t, test.code, code, "%v", test.cause)
		assert.Equal(t, test.reason, reason)
	}
	assert.EqualError(t, enter(h.Forged()), enter(h.UnknownKey()).Error())
}

// conn is a Conn without a WebSocket.
type conn struct {
	ends   chan error
	served func(p *gateway.Participant)
}

func (c conn) End(cause error)              { c.ends <- cause }
func (c conn) Serve(p *gateway.Participant) { c.served(p) }

func TestAccept(t *testing.T) {
	h := newHouse(t)
	served, upgradeErr := false, error(nil)
	c := conn{make(chan error, 1), func(p *gateway.Participant) {
		served = true
		require.Equal(t, 1, h.Stats().Live)
		require.NoError(t, h.Revoke(t.Context(), token.Target{Token: p.Session().TokenID()}, "spam"))
	}}
	upgrades := 0
	handler := h.Accept(func(w http.ResponseWriter, r *http.Request) (gateway.Conn, error) {
		upgrades++
		require.Equal(t, r.Header["Sec-Websocket-Protocol"], w.Header()["Sec-Websocket-Protocol"])
		return c, upgradeErr
	})
	ask := func(text string, changes ...func(*http.Request)) int {
		served = false
		w := newWriter()
		handler.ServeHTTP(w, handshake(text, changes...))
		require.Zero(t, h.Stats().Present)
		return w.Code
	}

	require.Equal(t, 403, ask(h.Mint().Token, set("Origin", "http://evil.example.com")))
	require.Equal(t, 400, ask(h.Mint().Token, del("Upgrade")))
	require.Zero(t, upgrades)
	ask(h.Spent())
	require.ErrorIs(t, <-c.ends, token.ErrSpent)
	require.False(t, served)
	ask(h.Mint().Token)
	require.ErrorIs(t, <-c.ends, token.ErrRevoked)
	require.True(t, served)

	minted := h.Mint()
	upgradeErr = errors.New("the client is gone")
	ask(minted.Token)
	require.False(t, served)
	require.Empty(t, c.ends)
	h.requireUnspent(t, minted)
}

// A cookie counts for Arrive if it does for Enter.
func TestArriveWithCookie(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.Sources = []gateway.Source{gateway.Cookie("token")} })
	for site, want := range map[string]int{"": 4403, "cross-site": 4403, "same-origin": 1000} {
		r := handshake("", set("Cookie", "token="+h.Mint().Token), set("Sec-Fetch-Site", site))
		enter, err := h.Arrive(newWriter(), r)
		require.NoError(t, err)
		p, err := enter(t.Context())
		require.Equal(t, want, closeCode(err), site)
		if err == nil {
			p.Leave()
		}
	}
}

// wrapped is a writer that a middleware has wrapped.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// gorilla/websocket doesn't unwrap. Without our Hijack, a token would be spent
// for nothing.
func TestHandlerUnwraps(t *testing.T) {
	h := newHouse(t)
	called := false
	handler := h.Handler(func(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
		called = true
		_, ok := w.(http.Hijacker)
		assert.True(t, ok)
		assert.NotEmpty(t, w.Header().Get("Sec-WebSocket-Protocol"))
		assert.NoError(t, http.NewResponseController(w).SetReadDeadline(time.Time{}))
	})
	handler.ServeHTTP(wrapped{deadlines{newWriter()}}, handshake(h.Mint().Token))
	assert.True(t, called)
}

// deadlines is a writer with one more thing to unwrap.
type deadlines struct{ writer }

func (deadlines) SetReadDeadline(time.Time) error { return nil }

func TestEnterStream(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) {
		c.Sources = []gateway.Source{gateway.Query("token"), gateway.Cookie("token")}
	})
	stream := func(query string, changes ...func(*http.Request)) (*gateway.Participant, writer, error) {
		r := httptest.NewRequest(http.MethodGet, "http://chat.example.com/events?"+query, nil)
		for _, change := range changes {
			change(r)
		}
		w := newWriter()
		p, err := h.EnterStream(w, r)
		return p, w, err
	}
	minted := h.Mint()
	_, w, err := stream("token="+minted.Token, func(r *http.Request) { r.Method = http.MethodPost })
	require.Error(t, err)
	require.Equal(t, 405, w.Code)
	require.Equal(t, "GET", w.Header().Get("Allow"))
	p, _, err := stream("token=" + minted.Token)
	require.NoError(t, err)
	p.Leave()
	_, w, err = stream("token=" + minted.Token)
	require.ErrorIs(t, err, token.ErrSpent)
	require.Equal(t, 204, w.Code, "an EventSource stops")
	_, w, err = stream("token=" + h.Expired())
	require.ErrorIs(t, err, token.ErrTokenExpired)
	require.Equal(t, 204, w.Code, "it was spent before that")
	_, w, err = stream("token=" + h.Forged())
	require.Error(t, err)
	require.Equal(t, 401, w.Code)

	minted = h.Mint()
	cookie := set("Cookie", "token="+minted.Token)
	for _, site := range []string{"", "cross-site", "same-site", "none"} {
		_, w, err = stream("", cookie, set("Sec-Fetch-Site", site))
		require.Error(t, err)
		require.Equal(t, 403, w.Code, site)
	}
	_, _, err = stream("", cookie, set("Origin", "http://evil.example.com"), set("Sec-Fetch-Site", "same-origin"))
	require.Error(t, err)
	p, _, err = stream("", cookie, set("Sec-Fetch-Site", "same-origin"))
	require.NoError(t, err)
	p.Leave()
}

// CONNECT of HTTP/2 needs Config.ExtendedConnect.
func TestExtendedConnect(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.ExtendedConnect = true })
	connect := func(r *http.Request) {
		r.Method, r.ProtoMajor = http.MethodConnect, 2
		r.Header[":protocol"] = []string{"websocket"}
	}
	p, err := h.Enter(newWriter(), handshake(h.Mint().Token, connect))
	require.NoError(t, err)
	p.Leave()
	minted := h.Mint()
	h.requireRefused(t, handshake(minted.Token, connect, func(r *http.Request) { delete(r.Header, ":protocol") }), minted, 400, 1008, "handshake")
}

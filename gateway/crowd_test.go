package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// stayer is a participant in a slow and obviously right list.
type stayer struct {
	*gateway.Participant
	user, room string
	ended      bool // OnEnd ran
}

// TestModel does everything in random order, and compares with a list.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h := newHouse(t, func(c *gateway.Config) { c.MaxLive, c.Observe = 40, nil })
		var in []*stayer
		user := func() string { return fmt.Sprint("user ", rng.IntN(4)) }
		room := func() string { return tokentest.Room + fmt.Sprint(rng.IntN(3)) }
		who := func(u, r string) func(*claims.Claims) {
			return func(c *claims.Claims) { c.UserID, c.RoomIdentifier, c.SessionMinutes = u, r, 1+rng.IntN(3) }
		}
		ends := func(meant func(*stayer) bool) { // requires that exactly those ended
			for i := 0; i < len(in); i++ {
				p := in[i]
				require.Equal(t, meant(p), p.ended, "seed %d", seed)
				if p.ended {
					in = slices.Delete(in, i, i+1)
					i--
				}
			}
		}
		for range 300 {
			h.Advance(time.Duration(rng.IntN(7000)) * time.Millisecond)
			switch p := rng.IntN(100); {
			case p < 45:
				u, r := user(), room()
				q, err := h.Enter(newWriter(), handshake(h.Mint(who(u, r)).Token))
				if err != nil { // full, or revoked moments ago
					continue
				}
				s := &stayer{q, u, r, false}
				q.OnEnd(func(error) { s.ended = true })
				in = append(in, s)
			case p < 60 && len(in) > 0:
				i := rng.IntN(len(in))
				in[i].Leave()
				in = slices.Delete(in, i, i+1)
			case p < 75 && len(in) > 0:
				s := in[rng.IntN(len(in))]
				_ = s.Renew(t.Context(), h.Mint(who(s.user, s.room)).Token)
				ends(func(q *stayer) bool { return q == s && s.ended }) // if it was revoked moments ago
			case p < 80 && len(in) > 0:
				target := in[rng.IntN(len(in))].Session().TokenID()
				require.NoError(t, h.Revoke(t.Context(), token.Target{Token: target}, ""))
				ends(func(q *stayer) bool { return q.Session().TokenID() == target })
			case p < 84:
				u := user()
				require.NoError(t, h.Revoke(t.Context(), token.Target{User: u}, ""))
				ends(func(q *stayer) bool { return q.user == u })
			case p < 87:
				u, r := user(), room()
				require.NoError(t, h.Revoke(t.Context(), token.Target{User: u, Room: r}, ""))
				ends(func(q *stayer) bool { return q.user == u && q.room == r })
			case p < 89:
				r := room()
				require.NoError(t, h.Revoke(t.Context(), token.Target{Room: r}, ""))
				ends(func(q *stayer) bool { return q.room == r })
			case p < 90:
				require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
				ends(func(*stayer) bool { return true })
			default:
				if rng.IntN(10) == 0 {
					h.Advance(time.Duration(rng.IntN(7200)-3600) * time.Second)
				}
				now := h.Now()
				h.Due(now)
				// Run ticks meanwhile, and may have ended them
				// first.
				for i := 0; i < len(in); i++ {
					over := in[i].Session().Expired(now)
					require.True(t, !over || in[i].ended, "seed %d: overdue", seed)
					if in[i].ended {
						in = slices.Delete(in, i, i+1)
						i--
					}
				}
			}
		}
		require.LessOrEqual(t, h.Stats().Live, 40)
		for _, p := range in {
			p.Leave()
		}
		entries, credits := h.Size()
		require.Zero(t, entries)
		require.Equal(t, 40, credits)
		h.stop()
		<-h.ran
	}
}

// TestStorm does everything at once, for the race detector, and checks what is
// left.
func TestStorm(t *testing.T) {
	const limit = 5
	h := newHouse(t, func(c *gateway.Config) { c.MaxLive, c.Observe = limit, nil })
	var entered, ended atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range 300 {
				minted := h.Mint(func(c *claims.Claims) { c.UserID = fmt.Sprint(rng.IntN(50)) })
				p, err := h.Enter(newWriter(), handshake(minted.Token))
				if err != nil {
					continue
				}
				entered.Add(1)
				p.OnEnd(func(error) { ended.Add(1) })
				switch rng.IntN(7) {
				case 0:
					_ = h.Revoke(t.Context(), token.Target{Token: minted.ID}, "")
				case 1:
					_ = p.Renew(t.Context(), h.Mint(func(c *claims.Claims) { c.UserID = string(p.Session().UserID()) }).Token)
				case 2:
					_ = p.Context()
				case 3:
					h.Due(h.Now())
				}
				for range 10 {
					st := h.Stats()
					assert.LessOrEqual(t, st.Live, min(limit, st.Present))
				}
				_ = p.Authorize(claims.SendMessage)
				p.Leave()
			}
		})
	}
	wg.Wait()
	require.NotZero(t, entered.Load())
	require.NotZero(t, ended.Load())
	entries, credits := h.Size()
	require.Zero(t, entries)
	require.Equal(t, limit, credits)
	require.Zero(t, h.Stats().Present)
}

// crowdOf mints the tokens of a crowd of n. The test doesn't measure it.
func crowdOf(t testing.TB, h *house, n int, minutes int) []string {
	t.Helper()
	texts := make([]string, n)
	for i := range texts {
		texts[i] = h.Mint(func(c *claims.Claims) {
			c.UserID, c.SessionMinutes, c.Attributes = fmt.Sprint("user ", i), minutes, nil
		}).Token
	}
	return texts
}

// TestMillion has a million participants, and a clock that is set back and
// forward. The short form has fewer.
func TestMillion(t *testing.T) {
	n := 50_000
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		n = 1_000_000
	}
	h := newStillHouse(t, func(c *gateway.Config) { c.MaxLive, c.Observe = n+n/25, nil })
	h.guard.Guard = everybody{h.Guard}
	h.run(t)
	const batch = 10_000
	in := make([]*gateway.Participant, 0, n)
	for len(in) < n {
		for _, text := range crowdOf(t, h, batch, 60+len(in)/batch%60) {
			p, err := h.Enter(newWriter(), handshake(text))
			require.NoError(t, err)
			in = append(in, p)
		}
	}
	require.Equal(t, n, h.Stats().Live)
	h.Advance(-time.Hour)
	require.Zero(t, h.Due(h.Now()))
	h.Advance(2*time.Hour + time.Second)
	over := 0
	for _, p := range in {
		if p.Session().Expired(h.Now()) {
			over++
		}
	}
	require.NotZero(t, over)
	require.Less(t, over, n)
	h.Due(h.Now())
	require.Equal(t, n-over, h.Stats().Live, "none early, none late")
	for _, p := range in {
		p.Leave()
	}
	entries, _ := h.Size()
	require.Zero(t, entries)
	require.Zero(t, h.Stats().Present)
}

// TestClockFarOff sets the clock beyond the registry's range.
func TestClockFarOff(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for by, live := range map[time.Duration]int{century: 0, -century: 1} {
		h := newHouse(t)
		p := h.enter(t)
		h.Advance(by)
		h.Due(h.Now()) // unless Run's tick came first
		require.Equal(t, live, h.Stats().Live)
		require.Equal(t, live == 1, p.Authorize(claims.SendMessage) == nil)
		h.Advance(-by)
		h.enter(t)
		h.Due(h.Now())
		require.Equal(t, live+1, h.Stats().Live)
		h.Advance(2 * time.Hour)
		h.Due(h.Now())
		require.Zero(t, h.Stats().Live)
	}
}

// TestParticipantSize guards the memory of a million participants. Above 128
// bytes, each takes 144.
func TestParticipantSize(t *testing.T) {
	if strconv.IntSize == 64 {
		assert.LessOrEqual(t, reflect.TypeFor[gateway.Participant]().Size(), uintptr(128))
	}
}

// everybody spends every token, because there are more than a guard has room
// for.
type everybody struct{ gateway.Guard }

func (everybody) Spend(context.Context, time.Time, token.Summary) (bool, error) { return true, nil }

// TestMemoryIsFlat has many more users come and go than are in at a time.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	h := newHouse(t, func(c *gateway.Config) { c.Observe = nil })
	rounds, batch := 20, 2000
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		rounds = 500
	}
	var first int
	for round := range rounds {
		var in []*gateway.Participant
		for _, text := range crowdOf(t, h, batch, 1) {
			p, err := h.Enter(newWriter(), handshake(text))
			require.NoError(t, err)
			in = append(in, p)
		}
		for _, p := range in {
			p.Leave()
		}
		h.Advance(70 * time.Second) // the guard forgets, too
		if round == 5 {
			first = heap()
		}
	}
	assert.Less(t, heap()-first, 1<<20)
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	h := newHouse(t, func(c *gateway.Config) { c.Observe = nil })
	const runs = 200
	texts := crowdOf(t, h, 3*runs, 60)
	i := 0
	next := func() string { i++; return texts[i-1] }
	w := newWriter()
	r := handshake("")

	// The Session and its memory are two, and the participant's own map
	// entries come and go.
	got := testing.AllocsPerRun(runs, func() {
		r.Header["Sec-Websocket-Protocol"] = []string{next()} // 1
		p, err := h.Enter(w, r)
		if err != nil {
			t.Fatal(err)
		}
		p.Leave()
	})
	assert.LessOrEqual(t, got, 1+2+3.0)

	for name, change := range map[string]func(){
		"foreign Origin": func() { r.Header.Set("Origin", "http://evil.example.com") },
		"no token":       func() { r.Header.Del("Origin"); r.Header.Del("Sec-WebSocket-Protocol") },
		"no handshake":   func() { r.Header.Del("Upgrade") },
	} {
		change()
		assert.Zero(t, testing.AllocsPerRun(runs, func() { h.Decide(w, r) }), name)
	}
}

package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func named(user string) func(*claims.Claims) { return func(c *claims.Claims) { c.UserID = user } }

// If the embedder clears a session, nobody else is harmed.
func TestSessionReset(t *testing.T) {
	h := newHouse(t)
	first, second := h.enter(t), h.enter(t) // one user, two connections
	second.Session().Reset()
	second.Leave()
	for i := range 200 {
		p := h.enter(t, named(fmt.Sprint(i)))
		p.Session().Reset()
		p.Leave()
	}
	entries, _ := h.Size()
	require.Equal(t, [4]int{1, 1, 1, 1}, entries)
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, ""))
	require.ErrorIs(t, first.Authorize(claims.SendMessage), token.ErrRevoked)
}

// A guard's revocations hold for every gateway on it, whichever got the news.
func TestAuthorizeAsksTheGuard(t *testing.T) {
	h := newHouse(t)
	p := h.enter(t)
	require.NoError(t, p.Authorize(claims.SendMessage))
	require.NoError(t, h.Guard.Revoke(t.Context(), token.Target{User: tokentest.UserID}, h.Now()))
	require.NoError(t, h.Guard.Sync(t.Context(), func(token.Target, time.Time) {}))
	require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrRevoked)
}

// An OnEnd that blocks keeps nobody else in, and doesn't delay the guard.
func TestOnEndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		blocked := make(chan bool)
		var in []*gateway.Participant
		for i := range 10 {
			p := h.enter(t, named(fmt.Sprint(i)))
			p.OnEnd(func(error) { <-blocked })
			in = append(in, p)
		}
		unused := h.Mint()
		go func() { _ = h.Revoke(t.Context(), token.Target{Everyone: true}, "spam") }()
		synctest.Wait()
		for _, p := range in {
			require.EqualError(t, p.Authorize(claims.SendMessage), "spam")
		}
		require.ErrorIs(t, h.Guard.Revoked(summary(t, h, unused)), token.ErrRevoked)

		pass(7 * time.Second)
		p := h.enter(t, named("later"))
		p.OnEnd(func(error) { <-blocked })
		h.guard.news <- func(news func(token.Target, time.Time)) {
			news(token.Target{User: "later"}, h.Now())
		}
		pass(59 * time.Second)
		require.NoError(t, h.Ready(h.Now()))
		pass(3 * time.Second)
		require.ErrorContains(t, h.Ready(h.Now()), "stands still")
		close(blocked)
		pass(2 * time.Second)
		require.NoError(t, h.Ready(h.Now()))
		h.stop()
		<-h.ran
	})
}

// If an embedder's function ends its goroutine, the gateway's go on.
func TestGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var exits atomic.Bool
		var told atomic.Int32
		h := newHouse(t, func(c *gateway.Config) {
			c.MaxLive = 12
			c.Observe = func(gateway.Event) {
				if exits.Load() {
					runtime.Goexit()
				}
			}
		})
		in := func() {
			for i := range 10 {
				h.enter(t, named(fmt.Sprint(i)), func(c *claims.Claims) { c.SessionMinutes = 1 }).OnEnd(func(error) {
					told.Add(1)
					runtime.Goexit()
				})
			}
			told.Store(0)
			exits.Store(true)
		}
		in()
		h.guard.news <- func(news func(token.Target, time.Time)) { news(token.Target{Everyone: true}, h.Now()) }
		pass(2 * time.Second)
		require.EqualValues(t, 10, told.Load())
		exits.Store(false)
		pass(7 * time.Second)
		in()
		pass(61 * time.Second)
		require.EqualValues(t, 10, told.Load())
		require.NoError(t, h.Ready(h.Now()))

		done := make(chan bool)
		for range 20 { // and the place is given back
			go func() {
				defer func() { done <- true }()
				_, _ = h.Enter(newWriter(), handshake(h.Mint().Token))
			}()
			<-done
		}
		require.Zero(t, h.Stats().Live)
		exits.Store(false)
		in()
		h.stop()
		<-h.ran
		require.EqualValues(t, 10, told.Load())
	})
}

// If a guard's method ends its goroutine, Run ends in good order.
func TestGuardGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		p := h.enter(t)
		h.guard.news <- func(news func(token.Target, time.Time)) { runtime.Goexit() }
		pass(2 * time.Second)
		<-h.ran
		require.Equal(t, gateway.ErrStopped, p.Authorize(claims.SendMessage))
	})
}

// asked calls a hook before the guard's nth Revoked.
type asked struct {
	gateway.Guard
	n    map[token.ID]int
	hook func(s token.Summary, n int)
}

func (g *asked) Revoked(s token.Summary) error {
	g.n[s.TokenID]++
	g.hook(s, g.n[s.TokenID])
	return g.Guard.Revoked(s)
}

// newAskedHouse makes a house whose guard has the hook. It's for one goroutine.
func newAskedHouse(t *testing.T, hook func(h *house, s token.Summary, n int)) *house {
	h := newStillHouse(t)
	h.guard.Guard = &asked{h.guard.Guard, map[token.ID]int{}, func(s token.Summary, n int) { hook(h, s, n) }}
	h.run(t)
	return h
}

// If a guard panics during Enter, the place is free again.
func TestGuardPanics(t *testing.T) {
	h := newAskedHouse(t, func(h *house, _ token.Summary, n int) {
		if n == 2 {
			panic("a guard")
		}
	})
	require.Panics(t, func() { _, _ = h.Enter(newWriter(), handshake(h.Mint().Token)) })
	require.Zero(t, h.Stats().Live)
	require.Zero(t, h.Stats().Present)
}

// A participant that ends during Enter is refused, and counts as no end.
func TestEndedHalfIn(t *testing.T) {
	h := newAskedHouse(t, func(h *house, s token.Summary, n int) {
		if n == 2 { // and the guard's clock was set back, so that it does not know
			h.Advance(-time.Hour)
			require.NoError(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, "spam"))
			h.Advance(time.Hour)
		}
	})
	_, err := h.Enter(newWriter(), handshake(h.Mint().Token))
	require.EqualError(t, errors.Unwrap(err), "spam")
	got := h.events.take()
	require.Len(t, got, 1)
	require.Equal(t, gateway.Refused, got[0].Kind)
	require.Zero(t, h.Stats().Ended)
	require.Zero(t, h.Stats().Present)
}

// The same if the session expires before a slow guard answers.
func TestOverHalfIn(t *testing.T) {
	h := newHouse(t)
	h.guard.spent = func() { h.Advance(time.Minute) }
	_, err := h.Enter(newWriter(), handshake(h.Mint(func(c *claims.Claims) { c.SessionMinutes = 1 }).Token))
	require.ErrorIs(t, err, token.ErrSessionExpired)
	require.Zero(t, h.Stats().Present)
}

// If the end comes while Observe hears of the entry, it hears of the end after
// that.
func TestEventOrder(t *testing.T) {
	var h *house
	h = newHouse(t, func(c *gateway.Config) {
		observe := c.Observe
		c.Observe = func(e gateway.Event) {
			if e.Kind == gateway.Entered {
				require.NoError(t, h.Revoke(t.Context(), token.Target{Token: e.TokenID}, ""))
			}
			observe(e)
		}
	})
	p := h.enter(t)
	require.Error(t, p.Authorize(claims.SendMessage))
	got := h.events.take()
	require.Len(t, got, 2)
	require.Equal(t, gateway.Entered, got[0].Kind)
	require.Equal(t, gateway.Ended, got[1].Kind)
	require.EqualValues(t, 1, h.Stats().Ended)
}

// The gateway refuses a token that the guard has no room to revoke.
func TestTokenRevokedHalfIn(t *testing.T) {
	h := newStillHouse(t)
	g, err := replay.New(replay.Config{Limits: h.Ring.Limits(), AcceptIssuedBeforeStart: true, MaxRevocations: 2, Now: h.Now})
	require.NoError(t, err)
	h.guard.Guard = g
	h.run(t)
	require.NoError(t, h.Revoke(t.Context(), token.Target{Token: token.ID{9}}, ""))
	minted := h.Mint()
	h.guard.spent = func() {
		require.ErrorIs(t, h.Revoke(t.Context(), token.Target{Token: minted.ID}, ""), replay.ErrFull)
	}
	_, err = h.Enter(newWriter(), handshake(minted.Token))
	require.ErrorIs(t, err, token.ErrRevoked)
}

// Refused tokens that are authentic have an ID for the log.
func TestRefusedID(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.Room = func(*http.Request) string { return "another" } })
	minted := h.Mint()
	_, err := h.Enter(newWriter(), handshake(minted.Token))
	require.Error(t, err)
	require.Equal(t, minted.ID, h.events.take()[0].TokenID)
}

// A renewal overtaken by another doesn't end the other's session.
func TestRenewOvertaken(t *testing.T) {
	var p *gateway.Participant
	var a, b token.ChatToken
	h := newAskedHouse(t, func(h *house, s token.Summary, n int) {
		if s.TokenID == a.ID && n == 2 {
			require.NoError(t, p.Renew(t.Context(), b.Token))
			require.NoError(t, h.Revoke(t.Context(), token.Target{Token: a.ID}, ""))
		}
	})
	p, a, b = h.enter(t), h.Mint(), h.Mint()
	require.ErrorIs(t, p.Renew(t.Context(), a.Token), token.ErrRevoked)
	require.Equal(t, b.ID, p.Session().TokenID())
	require.NoError(t, p.Authorize(claims.SendMessage))
}

// An expired session can't be renewed, even before a tick ends it. Neither can
// one in a stalled gateway.
func TestRenewTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		pass(500 * time.Millisecond)
		p := h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 })
		h.Advance(time.Minute)
		minted := h.Mint()
		require.ErrorIs(t, p.Renew(t.Context(), minted.Token), token.ErrSessionExpired)
		h.requireUnspent(t, minted)

		blocked := make(chan bool)
		h.enter(t, func(c *claims.Claims) { c.SessionMinutes = 1 }).OnEnd(func(error) { <-blocked })
		q := h.enter(t)
		pass(80 * time.Second)
		minted = h.Mint()
		require.ErrorContains(t, errors.Unwrap(q.Renew(t.Context(), minted.Token)), "Run does not run")
		h.requireUnspent(t, minted)
		close(blocked)
		h.stop()
		<-h.ran
	})
}

// After Leave during OnEnd, the cause is the end's, not ErrLeft.
func TestContextCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		blocked := make(chan bool)
		first, second := h.enter(t), h.enter(t)
		for _, p := range []*gateway.Participant{first, second} {
			p.OnEnd(func(error) { <-blocked })
		}
		contexts := []context.Context{first.Context(), second.Context()}
		go func() { _ = h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, "spam") }()
		synctest.Wait()
		first.Leave()
		second.Leave()
		for _, ctx := range contexts {
			require.EqualError(t, context.Cause(ctx), "spam")
		}
		close(blocked)
		h.stop()
		<-h.ran
	})
}

// End ends one connection, not the user's others.
func TestEnd(t *testing.T) {
	h := newHouse(t)
	p, q := h.enter(t), h.enter(t)
	var cause error
	p.OnEnd(func(err error) { cause = err })
	p.End("idle")
	p.End("again")
	require.EqualError(t, cause, "idle")
	require.ErrorIs(t, p.Authorize(claims.SendMessage), token.ErrRevoked)
	require.NoError(t, q.Authorize(claims.SendMessage))
	h.enter(t)
}

// Drain checks for an ended context first.
func TestDrainCanceled(t *testing.T) {
	for range 50 {
		h := newStillHouse(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, h.Drain(ctx, 0, 0), context.Canceled)
	}
}

// Participants times steps don't fit in 31 bits.
func TestDrainShares(t *testing.T) {
	for i := range int64(100) {
		require.EqualValues(t, i*10_000, gateway.Share(1_000_000, i, 100))
	}
	const hour = int64(time.Hour / (20 * time.Millisecond))
	require.Equal(t, 1_000_000, gateway.Share(1_000_000, hour, hour))
}

// If only our clock is set back, Ready still notices an unsynced guard.
func TestReadyAfterTheClockWasSetBack(t *testing.T) {
	h := newHouse(t)
	at := h.Now()
	h.guard.synced.Store(&at)
	h.Advance(-time.Hour)
	require.ErrorContains(t, h.Ready(h.Now()), "revoked")
}

// late lets a user enter during its Revoke.
type late struct {
	gateway.Guard
	enter func()
}

func (g *late) Revoke(ctx context.Context, t token.Target, before time.Time) error {
	g.enter()
	return g.Guard.Revoke(ctx, t, before)
}

// Revoke also ends whoever entered after its first ends and before the guard
// knew.
func TestRevokeEndsLateEntries(t *testing.T) {
	h := newStillHouse(t)
	h.guard.Guard = &late{h.Guard, func() { h.enter(t) }}
	h.run(t)
	require.NoError(t, h.Revoke(t.Context(), token.Target{Everyone: true}, ""))
	require.Zero(t, h.Stats().Live)
}

// piped is a writer whose connection is one end of a pipe.
type piped struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (p piped) Hijack() (net.Conn, *bufio.ReadWriter, error) { return p.conn, nil, nil }

// Ten seconds after the end, the gateway cuts off a connection that a stubborn
// client or library keeps, however it ended. After Leave it doesn't.
func TestCutOff(t *testing.T) {
	hijack := func(w http.ResponseWriter) net.Conn {
		conn, _, err := w.(http.Hijacker).Hijack()
		require.NoError(t, err)
		return conn
	}
	for name, test := range map[string]struct {
		refused bool
		mount   func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler
	}{
		"Handler": {false, func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler {
			return g.Handler(func(w http.ResponseWriter, _ *http.Request, p *gateway.Participant) {
				hijack(w)
				serve(p)
			})
		}},
		"Handler, ended before": {false, func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler {
			return g.Handler(func(w http.ResponseWriter, _ *http.Request, p *gateway.Participant) {
				p.End("early")
				hijack(w)
				serve(p)
			})
		}},
		"Handler, with a context": {false, func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler {
			return g.Handler(func(w http.ResponseWriter, _ *http.Request, p *gateway.Participant) {
				hijack(w)
				ctx := p.Context()
				go func() { <-ctx.Done(); p.Context() }()
				serve(p)
			})
		}},
		"Accept": {false, func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler {
			return g.Accept(func(w http.ResponseWriter, _ *http.Request) (gateway.Conn, error) {
				hijack(w)
				return stubborn{serve}, nil
			})
		}},
		"Accept, refused": {true, func(g *gateway.Gateway, serve func(*gateway.Participant)) http.Handler {
			return g.Accept(func(w http.ResponseWriter, _ *http.Request) (gateway.Conn, error) {
				hijack(w)
				return stubborn{serve}, nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				ours, client := net.Pipe()
				gone := make(chan time.Time, 1)
				go func() {
					_, _ = client.Read(make([]byte, 1))
					gone <- time.Now()
				}()
				serve := func(*gateway.Participant) {
					for { // like a library that waits for the rest of a frame
						if _, err := ours.Read(make([]byte, 1)); err != nil {
							return
						}
					}
				}
				text := h.Mint().Token
				if test.refused {
					text = h.Spent()
				}
				served := make(chan bool)
				began := time.Now()
				go func() {
					defer close(served)
					test.mount(h.Gateway, serve).ServeHTTP(piped{httptest.NewRecorder(), ours}, handshake(text))
				}()
				synctest.Wait()
				require.NoError(t, h.Revoke(t.Context(), token.Target{User: tokentest.UserID}, ""))
				require.Equal(t, 10*time.Second, (<-gone).Sub(began))
				<-served
				require.Zero(t, h.Stats().Present)
				h.stop()
				<-h.ran
			})
		})
	}

	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		ours, _ := net.Pipe()
		h.Handler(func(w http.ResponseWriter, _ *http.Request, p *gateway.Participant) { hijack(w) }).
			ServeHTTP(piped{httptest.NewRecorder(), ours}, handshake(h.Mint().Token))
		pass(time.Minute)
		require.NoError(t, ours.SetDeadline(time.Time{}), "cut off after Leave: it is somebody else's now")
		h.stop()
		<-h.ran
	})
}

// stubborn never closes its connection.
type stubborn struct{ serve func(*gateway.Participant) }

func (s stubborn) Serve(p *gateway.Participant) { s.serve(p) }
func (s stubborn) End(error)                    { s.serve(nil) }

package ivschat_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func TestConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		text := c.mint(user("ann", claims.SendMessage))
		ann, resp, refused := c.try(text, nil)
		require.Empty(t, refused)
		assert.Equal(t, text, resp.Header.Get("Sec-WebSocket-Protocol"), "the client insists on the echo")
		bob := c.enter(user("bob", 0))

		ann.say("hello")
		reply, seen := ann.next(), bob.next()
		assert.Equal(t, "say hello", reply.RequestID)
		assert.Equal(t, "say hello", seen.RequestID, "to everyone, as the service does")
		for _, f := range []frame{reply, seen} {
			assert.Equal(t, "MESSAGE", f.Type)
			assert.Equal(t, "hello", f.Content)
			assert.Equal(t, "ann", f.Sender.UserID)
			assert.Equal(t, map[string]string{"displayName": "ANN"}, f.Sender.Attributes)
			assert.Regexp(t, `^[a-zA-Z0-9]{12}$`, f.ID)
			assert.Equal(t, reply.ID, f.ID)
			_, err := time.Parse(time.RFC3339, f.SendTime)
			assert.NoError(t, err)
		}
		v := c.vars()
		assert.Equal(t, 2, v.Opened)
		assert.Equal(t, 2, v.Gateway.Live)
		assert.Equal(t, map[string]int{"g1H2I3j4k5L6": 2}, v.Rooms)
		assert.Equal(t, 1, v.Messages)
		assert.WithinDuration(t, time.Now(), v.Synced, 0)
		assert.Equal(t, "ok", v.Ready)
		assert.Equal(t, "ok", v.Sync)
		assert.Empty(t, v.Refused)
		assert.Contains(t, c.varsText(), `"guard":{"live":2,`)
		bob.conn.Close(1000, "")
		synctest.Wait()
		assert.Equal(t, 1, c.vars().Rooms["g1H2I3j4k5L6"])
	})
}

// handshake is a client's whole request.
const handshake = "GET / HTTP/1.1\r\nHost: chat\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: "

// upgrade writes a client's request, without reading the reply.
func (c *chat) upgrade(handshake, token string) net.Conn {
	c.Helper()
	conn, err := c.pipes.dial(context.Background(), "", "")
	require.NoError(c, err)
	c.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, handshake+token+"\r\n\r\n")
	require.NoError(c, err)
	return conn
}

// A client is in the room before it learns that it is in.
func TestInTheRoomFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		c.upgrade(handshake, c.mint(user("ann", 0)))
		synctest.Wait() // the server waits until its reply is read
		assert.Equal(t, 1, c.vars().Rooms["g1H2I3j4k5L6"])
	})
}

// The server refuses a bad handshake before it spends the token.
func TestBadHandshake(t *testing.T) {
	for name, change := range map[string][2]string{
		"method":      {"GET", "HEAD"},
		"HTTP/1.0":    {"HTTP/1.1", "HTTP/1.0"},
		"connection":  {"keep-alive, Upgrade", "keep-alive"},
		"version":     {"Version: 13", "Version: 8"},
		"no key":      {"Sec-WebSocket-Key", "X-Key"},
		"two keys":    {"Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="},
		"a short key": {"MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2Rl"},
		"not a key":   {"MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZg"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, ivschat.Config{})
				text := c.mint(user("ann", 0))
				conn := c.upgrade(strings.Replace(handshake, change[0], change[1], 1), text)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				assert.Contains(t, []int{http.StatusBadRequest, http.StatusUpgradeRequired}, resp.StatusCode)
				assert.Equal(t, map[string]int{"handshake": 1}, c.vars().Refused)
				assert.Zero(t, c.Live())
				_, _, refused := c.try(text, nil)
				assert.Empty(t, refused, "the token was not spent")
			})
		})
	}
}

// A connection that can't be taken over leaves nothing behind.
func TestNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake + c.mint(user("ann", 0)) + "\r\n\r\n")))
		require.NoError(t, err)
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		assert.Equal(t, http.StatusInternalServerError, w.Code)
		v := c.vars()
		assert.Equal(t, map[string]int{"handshake": 1}, v.Refused)
		assert.Zero(t, v.Rooms["g1H2I3j4k5L6"])
		assert.Zero(t, v.Gateway.Live)
	})
}

func TestRoomsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann := c.enter(user("ann", claims.SendMessage))
		elsewhere := user("bob", claims.SendMessage)
		elsewhere.RoomIdentifier = other
		bob := c.enter(elsewhere)
		ann.say("hello")
		ann.next()
		synctest.Wait()
		assert.Empty(t, bob.frames)
	})
}

// guard answers as a test says.
type guard struct {
	*replay.Guard
	err     atomic.Pointer[error]
	entered chan struct{} // if not nil, Spend announces that it is done, and waits
	proceed chan struct{}
}

func (g *guard) Spend(ctx context.Context, now time.Time, t token.Summary) (bool, error) {
	if err := g.err.Load(); err != nil {
		return false, *err
	}
	fresh, err := g.Guard.Spend(ctx, now, t)
	if g.entered != nil {
		g.entered <- struct{}{}
		<-g.proceed
	}
	return fresh, err
}

func newGuard(t *testing.T) *guard { return &guard{Guard: tokentest.New(t).Guard} }

func TestRefusals(t *testing.T) {
	mint := func(t *testing.T, c *chat) string { return c.mint(user("ann", 0)) }
	for name, test := range map[string]struct {
		token  func(*testing.T, *chat) string
		status int
		reason string
	}{
		"no token":  {func(*testing.T, *chat) string { return "" }, 401, "no-token"},
		"garbage":   {func(*testing.T, *chat) string { return "chat" }, 401, "no-token"},
		"malformed": {func(*testing.T, *chat) string { return token.Prefix + "x" }, 401, "malformed"},
		"two subprotocols": {func(t *testing.T, c *chat) string { return mint(t, c) + "," + mint(t, c) },
			400, "two-tokens"},
		"another ring": {func(t *testing.T, _ *chat) string { return tokentest.New(t).Mint().Token },
			401, "unknown-key"},
		"changed": {func(t *testing.T, c *chat) string {
			text := mint(t, c)
			i := len(text) / 2
			return text[:i] + map[bool]string{true: "B", false: "A"}[text[i] == 'A'] + text[i+1:]
		}, 401, "forged"},
		"expired": {func(t *testing.T, c *chat) string {
			text := mint(t, c)
			time.Sleep(time.Minute)
			return text
		}, 401, "expired"},
		"spent": {func(t *testing.T, c *chat) string {
			text := mint(t, c)
			_, _, refused := c.try(text, nil)
			require.Empty(t, refused)
			return text
		}, 401, "spent"},
		"room is gone": {func(t *testing.T, c *chat) string {
			claim := user("ann", 0)
			claim.RoomIdentifier = "arn:aws:ivschat:us-west-2:123456789012:room/gone"
			return c.mint(claim)
		}, 403, "refused"},
		"disconnected before it was used": {func(t *testing.T, c *chat) string {
			text := mint(t, c)
			c.enter(user("mod", everything)).send(map[string]string{"Action": "DISCONNECT_USER", "UserId": "ann"})
			synctest.Wait()
			return text
		}, 401, "revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, ivschat.Config{})
				text := test.token(t, c)
				_, resp, body := c.try(text, nil)
				assert.Equal(t, test.status, resp.StatusCode)
				assert.Equal(t, http.StatusText(test.status)+"\n", body, "a stranger learns no more")
				assert.Equal(t, test.status == 401, resp.Header.Get("WWW-Authenticate") != "")
				wait := map[string]string{"revoked": "2"}[test.reason] // ClockSkew and a second
				assert.Equal(t, wait, resp.Header.Get("Retry-After"))
				assert.Equal(t, map[string]int{test.reason: 1}, c.vars().Refused)
			})
		})
	}
}

// If the guard is unavailable, the status says to wait. Open sessions go on.
func TestGuardIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t)
		c := start(t, ivschat.Config{Guard: g})
		ann := c.enter(user("ann", claims.SendMessage))
		down := replay.ErrFull
		g.err.Store(&down)
		_, resp, why := c.try(c.mint(user("bob", 0)), nil)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, "Service Unavailable\n", why)
		assert.NotEmpty(t, resp.Header.Get("Retry-After"))
		assert.Equal(t, map[string]int{"unavailable": 1}, c.vars().Refused)
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
		g.err.Store(nil)
		c.enter(user("bob", 0))
	})
}

// panics is a guard that panics.
type panics struct{ *guard }

func (p panics) Spend(ctx context.Context, now time.Time, t token.Summary) (bool, error) {
	if string(t.UserID) == "spend" {
		panic("a test")
	}
	return p.guard.Spend(ctx, now, t)
}

func (p panics) Revoke(ctx context.Context, t token.Target, before time.Time) error {
	if t.User == "revoke" {
		panic("a test")
	}
	return p.guard.Revoke(ctx, t, before)
}

// A panic ends one connection, and frees its place.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Guard: panics{newGuard(t)}, MaxConnections: 3})
		ann := c.enter(user("ann", claims.SendMessage))
		victim := c.enter(user("revoke", claims.SendMessage))
		for range 5 { // while somebody is let in
			_, _, err := c.dial(c.mint(user("spend", 0)), nil)
			assert.Error(t, err)
			assert.Equal(t, 2, c.Live())
		}
		mod := c.enter(user("mod", everything)) // or served
		mod.send(map[string]string{"Action": "DISCONNECT_USER", "UserId": "revoke"})
		assert.EqualValues(t, -1, mod.closed())
		assert.EqualValues(t, 1008, victim.closed(), "whom the gateway had ended")
		synctest.Wait()
		assert.Equal(t, 1, c.Live())
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
		c.enter(user("bob", 0))
	})
}

func TestGuardIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Guard: waits{newGuard(t)}})
		began := time.Now()
		_, resp, _ := c.try(c.mint(user("bob", 0)), nil)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, 5*time.Second, time.Since(began))
	})
}

// waits is a guard that waits for its context to end.
type waits struct{ *guard }

func (waits) Spend(ctx context.Context, _ time.Time, _ token.Summary) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestOrigin(t *testing.T) {
	own := map[string]bool{"": true, "http://chat": true, "https://chat": false, "http://chat:80": true, "http://other": false, "null": false}
	listed := map[string]bool{
		"":                              true,
		"https://app.example.com":       true,
		"http://chat":                   false,
		"https://app.example.com:8443":  false,
		"https://evil.example.com":      false,
		"https://app.example.com.evil":  false,
		"null":                          false,
		"https://chat.example.com/%zz:": false,
	}
	t.Run("own", func(t *testing.T) { testOrigin(t, nil, own) })
	t.Run("listed", func(t *testing.T) { testOrigin(t, []string{"https://app.example.com"}, listed) })
}

func testOrigin(t *testing.T, origins []string, may map[string]bool) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Origins: origins})
		for origin, ok := range may {
			text := c.mint(user("ann", 0))
			header := http.Header{"Origin": {origin}}
			if origin == "" {
				header = nil
			}
			_, resp, refused := c.try(text, header)
			assert.Equal(t, ok, refused == "", origin)
			if !ok {
				assert.Equal(t, http.StatusForbidden, resp.StatusCode)
				_, _, refused = c.try(text, nil)
				assert.Empty(t, refused, "the token was not spent")
			}
		}
	})
}

func TestMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MaxConnections: 2})
		ann := c.enter(user("ann", 0))
		c.enter(user("bob", 0))
		text := c.mint(user("cid", 0))
		_, resp, _ := c.try(text, nil)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, map[string]int{"full": 1}, c.vars().Refused)
		ann.conn.CloseNow()
		synctest.Wait()
		_, _, refused := c.try(text, nil)
		assert.Empty(t, refused, "the token was not spent")
	})
}

// A session ends at its deadline, to the second: an ERROR 401, then the close.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		claim := user("ann", claims.SendMessage)
		claim.SessionMinutes = 1
		time.Sleep(300 * time.Millisecond)
		minted := time.Now().Truncate(time.Second)
		ann := c.enter(claim)
		time.Sleep(time.Until(minted.Add(time.Minute - time.Nanosecond)))
		ann.say("in time")
		assert.Equal(t, "in time", ann.next().Content)
		f := ann.next()
		assert.Equal(t, minted.Add(time.Minute), time.Now())
		assert.Equal(t, "ERROR", f.Type)
		assert.Equal(t, 401, f.ErrorCode)
		assert.EqualValues(t, 1008, ann.closed())
		synctest.Wait()
		assert.Zero(t, c.Live())
	})
}

// The deadline is a wall-clock time. If the clock is set forward past it,
// nothing may be sent from then on, and the next tick ends the connection. If
// it's set back, the session lasts to its deadline.
func TestClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := tokentest.New(t)
		c := start(t, ivschat.Config{Now: clock.Now})
		ann, bob := c.enter(user("ann", claims.SendMessage)), c.enter(user("bob", claims.SendMessage))
		clock.Advance(2 * time.Hour)
		ann.say("too late")
		assert.Equal(t, 401, ann.next().ErrorCode)
		assert.EqualValues(t, 1008, ann.closed())
		assert.Equal(t, 401, bob.next().ErrorCode)
		assert.EqualValues(t, 1008, bob.closed())

		clock.Advance(-2 * time.Hour)
		minted := time.Now()
		cid := c.enter(user("cid", claims.SendMessage))
		clock.Advance(-10 * time.Minute)
		time.Sleep(69 * time.Minute)
		cid.say("still here")
		assert.Equal(t, "still here", cid.next().Content)
		for f := range cid.frames {
			assert.Equal(t, 401, f.ErrorCode)
			assert.Equal(t, minted.Add(70*time.Minute).Truncate(time.Second), time.Now())
		}
	})
}

// The same shortly before the end, without a ping in between.
func TestClockIsSetShortlyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := tokentest.New(t)
		c := start(t, ivschat.Config{Now: clock.Now})
		claim := user("ann", 0)
		claim.SessionMinutes = 1
		minted := time.Now()
		text := c.mint(claim)
		time.Sleep(7 * time.Second)
		ann, _, _ := c.try(text, nil)
		time.Sleep(50 * time.Second)
		clock.Advance(-5 * time.Second)
		assert.Equal(t, 401, ann.next().ErrorCode)
		assert.WithinRange(t, time.Now(), minted.Truncate(time.Second).Add(65*time.Second), minted.Add(66*time.Second))
	})
}

// A client that doesn't read is dropped, and nobody else waits for it.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		ann := c.enter(user("ann", claims.SendMessage))
		slow, _, err := c.dial(c.mint(user("slow", 0)), nil)
		require.NoError(t, err)
		defer slow.CloseNow()
		began := time.Now()
		for range ivschat.QueueLen + 10 {
			ann.say("hello")
			assert.Equal(t, "hello", ann.next().Content)
		}
		synctest.Wait()
		assert.Equal(t, began, time.Now(), "nobody waited")
		assert.Equal(t, 1, c.Live())
		assert.Equal(t, map[string]int{"slow": 1}, c.vars().Ended)
	})
}

// Nobody waits for a client that doesn't read, even if little is sent.
func TestReaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann := c.enter(user("ann", claims.SendMessage))
		stops, _, err := c.dial(c.mint(user("stops", 0)), nil)
		require.NoError(t, err)
		defer stops.CloseNow()
		ann.say("hello")
		time.Sleep(9 * time.Second)
		assert.Equal(t, 2, c.Live())
		time.Sleep(2 * time.Second)
		assert.Equal(t, 1, c.Live())
		assert.Equal(t, map[string]int{"slow": 1}, c.vars().Ended)
	})
}

// The missing pong shows that a peer is gone without a word.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann := c.enter(user("ann", claims.SendMessage))
		gone, _, err := c.dial(c.mint(user("gone", 0)), nil)
		require.NoError(t, err)
		defer gone.CloseNow()
		time.Sleep(2*ivschat.PingEvery + time.Second)
		assert.Equal(t, 1, c.Live())
		time.Sleep(20 * time.Minute)
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
	})
}

func TestNothingButTextOfSomeLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann := c.enter(user("ann", everything))
		require.NoError(t, ann.conn.Write(t.Context(), 2, []byte("binary")))
		assert.EqualValues(t, 1003, ann.closed())

		bob := c.enter(user("bob", everything))
		bob.sendText([]byte(strings.Repeat(" ", ivschat.MaxFrame)))
		assert.Equal(t, 400, bob.next().ErrorCode)
		bob.sendText([]byte(strings.Repeat(" ", ivschat.MaxFrame+1)))
		assert.Equal(t, 413, bob.next().ErrorCode)
		bob.sendText([]byte(strings.Repeat(" ", ivschat.MaxDiscard)))
		assert.Equal(t, 413, bob.next().ErrorCode)
		bob.say("still here")
		assert.Equal(t, "still here", bob.next().Content)
		// A write after the server has closed may fail.
		bob.conn.Write(t.Context(), 1, []byte(strings.Repeat(" ", ivschat.MaxDiscard+1)))
		assert.EqualValues(t, 1009, bob.closed())
		synctest.Wait()
		assert.Zero(t, c.Live())
	})
}

func TestMessageRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 5})
		ann := c.enter(user("ann", claims.SendMessage))
		refused := 0
		began := time.Now()
		for range 50 {
			ann.say("hello")
			if f := ann.next(); f.Type == "ERROR" {
				assert.Equal(t, 429, f.ErrorCode)
				assert.Equal(t, "say hello", f.RequestID)
				refused++
			}
		}
		assert.Positive(t, refused)
		assert.GreaterOrEqual(t, time.Since(began), time.Duration(refused-1)*time.Second/5, "who is refused has to wait")
		assert.Equal(t, 50-refused, c.vars().Messages)
		time.Sleep(time.Minute)
		ann.say("again")
		assert.Equal(t, "again", ann.next().Content)
	})
}

// The server answers pings, but no faster than messages.
func TestPingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 5})
		ann := c.enter(user("ann", claims.SendMessage))
		began := time.Now()
		for range 50 {
			require.NoError(t, ann.conn.Ping(t.Context()))
		}
		assert.GreaterOrEqual(t, time.Since(began), 8900*time.Millisecond)
		time.Sleep(time.Minute)
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
	})
}

// It takes unasked pongs no faster either.
func TestPongRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 5})
		conn, err := c.pipes.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
			c.mint(user("ann", 0)))
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		began := time.Now()
		for range 50 {
			_, err := conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}) // masked, and empty
			require.NoError(t, err)
		}
		assert.GreaterOrEqual(t, time.Since(began), 8700*time.Millisecond)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		var peers []*peer
		var traffic sync.WaitGroup
		for range 20 {
			p := c.enter(user("ann", claims.SendMessage))
			peers = append(peers, p)
			traffic.Go(func() {
				for p.conn.Write(context.Background(), 1, []byte(`{"Action":"SEND_MESSAGE","Content":"x"}`)) == nil {
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		time.Sleep(time.Second)
		unused := c.mint(user("bob", 0))
		require.NoError(t, c.Shutdown(t.Context(), 0, 0))
		assert.Zero(t, c.Live())
		for _, p := range peers {
			var last frame
			for last = range p.frames {
			}
			assert.Equal(t, 401, last.ErrorCode, "the messaging client comes back after that")
			assert.ErrorContains(t, p.err, "StatusServiceRestart")
		}
		traffic.Wait()
		_, _, err := c.dial(unused, nil)
		assert.Error(t, err)
	})
}

// The ends are spread, so that not all clients come to other hosts at once.
// /healthz says 503 before that, and newcomers learn why.
func TestShutdownIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		const n = 400
		began := time.Now()
		ends := make(chan time.Duration, n)
		for range n {
			p := c.enter(user("ann", 0))
			go func() {
				for range p.frames {
				}
				ends <- time.Since(began)
			}()
		}
		began = time.Now()
		down := make(chan error)
		go func() { down <- c.Shutdown(t.Context(), 5*time.Second, 10*time.Second) }()
		time.Sleep(4 * time.Second)
		resp, body := c.get("/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, "draining\n", string(body))
		_, resp, _ = c.try(c.mint(user("bob", 0)), nil)
		assert.Equal(t, "1", resp.Header.Get("Retry-After"))
		assert.Equal(t, map[string]int{"draining": 1}, c.vars().Refused)
		assert.Equal(t, n, c.Live())
		require.NoError(t, <-down)
		perSecond := map[time.Duration]int{}
		for range n {
			perSecond[(<-ends).Truncate(time.Second)]++
		}
		assert.Len(t, perSecond, 10)
		for second, ended := range perSecond {
			assert.GreaterOrEqual(t, second, 5*time.Second)
			assert.InDelta(t, n/10, ended, 2)
		}
		assert.Equal(t, map[string]int{"drained": n}, c.vars().Ended)
	})
}

// During shutdown a server refuses connections and isn't ready. In the end it
// drops a client that doesn't answer the close frame.
func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		stubborn, _, err := c.dial(c.mint(user("ann", 0)), nil)
		require.NoError(t, err)
		defer stubborn.CloseNow()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		down := make(chan error)
		go func() { down <- c.Shutdown(ctx, 500*time.Millisecond, 0) }()
		synctest.Wait()
		resp, body := c.get("/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, "draining\n", string(body))
		_, resp, _ = c.try(c.mint(user("bob", 0)), nil)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.ErrorIs(t, <-down, context.DeadlineExceeded)
		time.Sleep(time.Minute)
		assert.Zero(t, c.Live())
	})
}

// A client that enters when a shutdown begins is sent to another host.
func TestShutdownWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t)
		g.entered, g.proceed = make(chan struct{}), make(chan struct{})
		c := start(t, ivschat.Config{Guard: g})
		opened := c.entering(user("ann", everything))
		<-g.entered
		down := make(chan error)
		go func() { down <- c.Shutdown(t.Context(), 0, 0) }()
		synctest.Wait()
		close(g.proceed)
		assert.Nil(t, <-opened)
		assert.NoError(t, <-down)
		assert.Equal(t, map[string]int{"draining": 1}, c.vars().Refused)
	})
}

// The longest token fits into the request, and its echo into the reply.
func TestLongestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attributes := map[string]string{}
		for i := range 128 {
			attributes[string(rune(i))] = ""
		}
		for i := range 448 {
			attributes[string(rune(0x80+i))] = ""
		}
		registry := ivschat.Demo()
		room := lobby + strings.Repeat("x", claims.MaxRoomIdentifierBytes-len(lobby))
		registry.Rooms = append(registry.Rooms, room)
		c := start(t, ivschat.Config{Registry: registry})
		text := c.mint(claims.Claims{RoomIdentifier: room, UserID: strings.Repeat(astral, 128),
			Attributes: attributes, Capabilities: everything, SessionMinutes: 180})
		assert.Greater(t, len(text), token.MaxLen-16)
		p, resp, refused := c.try(text, nil)
		require.Empty(t, refused)
		assert.Equal(t, text, resp.Header.Get("Sec-WebSocket-Protocol"))
		p.say("hello")
		assert.Equal(t, attributes, p.next().Sender.Attributes)
	})
}

// A request that never ends, or is too long, ends its connection.
func TestSlowAndLongRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		conn, err := c.pipes.dial(t.Context(), "", "")
		require.NoError(t, err)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: chat\r\nX:")
		require.NoError(t, err)
		began := time.Now()
		_, err = conn.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		assert.Equal(t, 5*time.Second, time.Since(began))

		conn, err = c.pipes.dial(t.Context(), "", "")
		require.NoError(t, err)
		go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: chat\r\nX: "+strings.Repeat("x", 32<<10)+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
		conn.Close()
	})
}

package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// newGateway makes a gateway that runs until the benchmark ends.
func newGateway(b *testing.B, c gateway.Config, ring *keyring.Ring) *gateway.Gateway {
	b.Helper()
	keys, err := keyring.NewInMemory(ring)
	check(b, err)
	c.Keys = keys
	now := c.Now
	if now == nil {
		now = time.Now
	}
	g, err := gateway.New(c)
	check(b, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(ctx) })
	b.Cleanup(func() { stop(); running.Wait() })
	for g.Ready(now()) != nil {
		time.Sleep(time.Millisecond)
	}
	return g
}

// door repeats a request for a WebSocket, for one goroutine.
type door struct {
	g       *gateway.Gateway
	request *http.Request
	offered []string // its subprotocols: the token
	header  http.Header
}

func newDoor(b *testing.B, g *gateway.Gateway) *door {
	b.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://chat.example.com/chat", nil)
	check(b, err)
	d := &door{g: g, request: r, offered: []string{""}, header: make(http.Header)}
	r.Header = http.Header{
		"Connection":             {"Upgrade"},
		"Upgrade":                {"websocket"},
		"Origin":                 {"http://chat.example.com"},
		"Sec-Websocket-Version":  {"13"},
		"Sec-Websocket-Key":      {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Sec-Websocket-Protocol": d.offered,
	}
	return d
}

func (d *door) enter(b *testing.B, text string) *gateway.Participant {
	d.offered[0] = text
	p, err := d.g.Enter(d, d.request)
	check(b, err)
	return p
}

// A door is the request's ResponseWriter, too, and an http.Hijacker.
func (d *door) Header() http.Header         { return d.header }
func (d *door) Write(p []byte) (int, error) { return len(p), nil }
func (d *door) WriteHeader(int)             {}
func (d *door) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// refilled is a guard whose memory of spent tokens can be replaced.
type refilled struct {
	gateway.Guard // for all but Spend
	spends        atomic.Pointer[replay.Guard]
}

func (g *refilled) Spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	return g.spends.Load().Spend(ctx, now, s)
}

// Enter: OpenSpend into a new Session, and what a gateway adds: the handshake,
// the Origin and the registry. It doesn't measure leaving.
func BenchmarkEnter(b *testing.B) {
	s := newTokenSpender(b, newRig(b, sizes[0].claims))
	guard := &refilled{Guard: newReplayGuard(b, token.MaxTTL)}
	guard.spends.Store(s.opener.Guard.(*replay.Guard))
	d := newDoor(b, newGateway(b, gateway.Config{Guard: guard}, s.opener.Ring))
	in := make([]*gateway.Participant, 0, batch)
	b.ReportAllocs()
	for b.Loop() {
		if len(in) == batch {
			b.StopTimer()
			for _, p := range in {
				p.Leave()
			}
			in = in[:0]
			s.refill(b)
			guard.spends.Store(s.opener.Guard.(*replay.Guard))
			b.StartTimer()
		}
		in = append(in, d.enter(b, s.texts[len(in)]))
	}
}

// lenient spends a spent token again as if it were fresh, at the same cost.
type lenient struct{ *replay.Guard }

func (g lenient) Spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	_, err := g.Guard.Spend(ctx, now, s)
	return true, err
}

// EnterLeave: in and out again. EnterLeaveParallel is the same on all
// processors, each with another user.
func BenchmarkEnterLeave(b *testing.B) {
	g, texts := newTurnstile(b)
	d := newDoor(b, g)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.enter(b, texts[i%batch]).Leave()
	}
}

func BenchmarkEnterLeaveParallel(b *testing.B) {
	g, texts := newTurnstile(b)
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		d := newDoor(b, g)
		for i := next.Add(batch / 4); pb.Next(); i++ {
			d.enter(b, texts[i%batch]).Leave()
		}
	})
}

// newTurnstile makes a gateway, and tokens of that many users, who may enter
// again and again.
func newTurnstile(b *testing.B) (*gateway.Gateway, []string) {
	r := newRig(b, sizes[0].claims)
	texts := make([]string, batch)
	for i := range texts {
		r.claims.UserID = fmt.Sprint("user ", i)
		minted, err := r.sealer.Create(r.claims)
		check(b, err)
		texts[i] = minted.Token
	}
	return newGateway(b, gateway.Config{Guard: lenient{newReplayGuard(b, token.MaxTTL)}}, r.ring), texts
}

// Crowd: a gateway with many participants, by its own clock. A hundred enter in
// each second, so three hours later a hundred end in each second. Each is
// another user, and each room has ten thousand.
//
//	enter     entering, on average; B/participant is the memory of a
//	          participant without its Session
//	tick      what Run does in a second in which a hundred end
//	news      Sync learns that one user was revoked elsewhere
//	user      revoking one user
//	room      revoking a room
//	everyone  revoking all that are left
func BenchmarkCrowd(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"100k", 100_000}, {"1M", 1_000_000}} {
		b.Run("live="+size.name, func(b *testing.B) {
			if testing.Short() && size.n > 100_000 {
				b.Skip("takes a gigabyte")
			}
			for _, op := range measureCrowd(b, size.n) {
				b.Run("op="+op.name, func(b *testing.B) {
					b.ReportMetric(float64(op.each), "ns/op")
					if op.bytes > 0 {
						b.ReportMetric(op.bytes, "B/participant")
					}
				})
			}
		})
	}
}

type crowdOp struct {
	name  string
	each  time.Duration
	bytes float64
}

func measureCrowd(b *testing.B, n int) []crowdOp {
	// Otherwise the collector takes most of the time, because it marks the
	// growing crowd again and again.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	c, entering, bytes := newCrowd(b, n)
	const users = 1000
	user := func(i int) token.Target { return token.Target{User: userName(n - 2*users + i)} }
	room := func(i int) token.Target { return token.Target{Room: roomName(i)} }
	everyone := func(int) token.Target { return token.Target{Everyone: true} }
	ops := []crowdOp{
		{"enter", entering, bytes},
		{"tick", c.tick(), 0},
		{"news", c.news(b, users, n-users), 0},
		{"user", c.revoke(b, users, user), 0},
		{"room", c.revoke(b, 3, room), 0},
		{"everyone", c.revoke(b, 1, everyone), 0},
	}
	if live := c.g.Stats().Live; live != 0 {
		b.Fatal(live, "are left")
	}
	return ops
}

const (
	perSecond = 100
	roomSize  = 10_000
)

func userName(i int) string { return fmt.Sprint("user ", i) }
func roomName(i int) string { return fmt.Sprint(tokentest.Room, i) }

type crowd struct {
	g     *gateway.Gateway
	guard *crowdGuard

	start time.Time     // of the benchmark, to whole seconds
	clock atomic.Int64  // seconds since start
	read  atomic.Int64  // nanoseconds since start when the clock was last read
	ended atomic.Int64  // participants whose OnEnd ran
	due   chan struct{} // gets a value after a hundred of them
}

// now is the gateway's clock. From the first end on, read keeps the time of the
// reading that led to it.
func (c *crowd) now() time.Time {
	if c.ended.Load() == 0 {
		c.read.Store(int64(time.Since(c.start)))
	}
	return c.start.Add(time.Duration(c.clock.Load()) * time.Second)
}

func (c *crowd) onEnd(error) {
	if c.ended.Add(1) == perSecond {
		c.due <- struct{}{}
	}
}

// crowdGuard remembers no token, because the crowd has too many.
type crowdGuard struct {
	*replay.Guard
	learn chan func(news func(token.Target, time.Time))
}

func (*crowdGuard) Spend(context.Context, time.Time, token.Summary) (bool, error) { return true, nil }

func (g *crowdGuard) Sync(_ context.Context, news func(token.Target, time.Time)) error {
	select {
	case f := <-g.learn:
		f(news)
	default:
	}
	return nil
}

const stay = 180 // minutes

// newCrowd also returns how long each participant took to enter, and its bytes
// of memory without its Session.
func newCrowd(b *testing.B, n int) (c *crowd, entering time.Duration, bytes float64) {
	r := newRig(b, sizes[0].claims)
	c = &crowd{start: time.Now().Truncate(time.Second), due: make(chan struct{}, 1)}
	c.guard = &crowdGuard{newReplayGuard(b, token.MaxTTL), make(chan func(func(token.Target, time.Time)))}
	c.g = newGateway(b, gateway.Config{Guard: c.guard, Now: c.now, MaxLive: n + n/25}, r.ring)
	r.sealer.Now, r.opener.Now = c.now, c.now
	d := newDoor(b, c.g)
	mint := func(i int) string {
		r.claims.UserID, r.claims.RoomIdentifier, r.claims.SessionMinutes = userName(i), roomName(i%(n/roomSize)), stay
		minted, err := r.sealer.Create(r.claims)
		check(b, err)
		return minted.Token
	}

	sessions := make([]*token.Session, roomSize)
	session := heap(func() {
		for i := range sessions {
			sessions[i] = new(token.Session)
			check(b, r.opener.OpenWithoutSpending(r.ctx, sessions[i], mint(i)))
		}
	}) / roomSize
	runtime.KeepAlive(sessions)

	texts := make([]string, perSecond)
	in := make([]*gateway.Participant, n)
	whole := heap(func() {
		for i := 0; i < n; i += perSecond {
			c.clock.Store(int64(i / perSecond))
			for k := range texts {
				texts[k] = mint(i + k)
			}
			began := time.Now()
			for k, text := range texts {
				in[i+k] = d.enter(b, text)
			}
			entering += time.Since(began)
		}
		clear(texts)
	})
	for _, p := range in {
		p.OnEnd(c.onEnd)
	}
	return c, entering / time.Duration(n), whole/float64(n) - session
}

// heap returns by how many bytes f makes the heap grow.
func heap(f func()) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// tick returns how long a tick takes until the last of a hundred has ended: the
// median of three. Run ticks every second.
func (c *crowd) tick() time.Duration {
	var took []time.Duration
	c.clock.Store(stay*60 - 1)
	for range 3 {
		c.ended.Store(0)
		c.clock.Add(1)
		<-c.due
		took = append(took, time.Since(c.start)-time.Duration(c.read.Load()))
	}
	slices.Sort(took)
	return took[1]
}

// news returns how long it takes to end each of n users that Sync reports.
func (c *crowd) news(b *testing.B, n, first int) (each time.Duration) {
	live := c.g.Stats().Live
	done := make(chan struct{})
	c.guard.learn <- func(news func(token.Target, time.Time)) {
		began := time.Now()
		for i := range n {
			news(token.Target{User: userName(first + i)}, c.now())
		}
		each = time.Since(began) / time.Duration(n)
		close(done)
	}
	<-done
	if live -= c.g.Stats().Live; live != n {
		b.Fatal(live, "ended and not", n)
	}
	return each
}

// revoke returns how long each of n revocations takes until the last OnEnd.
func (c *crowd) revoke(b *testing.B, n int, target func(i int) token.Target) time.Duration {
	began := time.Now()
	for i := range n {
		check(b, c.g.Revoke(context.Background(), target(i), ""))
	}
	return time.Since(began) / time.Duration(n)
}

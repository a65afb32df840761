package valkey

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/replay"
)

// Guard spends tokens on Valkey or Redis, and implements token.Guard. It must
// be made with [New]; a zero or nil Guard refuses everything. It is safe for
// concurrent use, must not be copied, and runs two goroutines for each server
// until [Guard.Close].
type Guard struct {
	config Config

	waiting  atomic.Int64 // calls of Spend that are not answered yet
	requests sync.Pool    // of *request
	topology atomic.Pointer[topology]
	revoked  replay.Revocations
	closed   chan struct{}
	count    counters
	ahead    atomic.Int64 // how many milliseconds a server's clock, when last asked, was ahead of this one

	mu       sync.Mutex // is held to change topology
	surveyed time.Time  // when the Cluster was last asked for its topology
}

// New makes a guard. It asks the server, or those of the Cluster, whether they
// are fit, and fails where they are not or cannot be reached: with one of the
// errors above, or one that says which field of c is outside its limits. It takes
// twice Config.Timeout at most, and not longer than ctx.
//
// If a single server has complete data since some earlier moment, the guard is ready
// at once. Otherwise, and always in a Cluster, it refuses what was issued before now:
// see [Guard.ReadyAt].
func New(ctx context.Context, c Config) (*Guard, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Guard{
		config:  c,
		revoked: replay.Revocations{MaxEntries: moreRoom * c.MaxRevocations},
		closed:  make(chan struct{}),
	}
	g.requests.New = func() any { return newRequest() }
	ctx, cancel := context.WithTimeout(ctx, 2*c.Timeout)
	defer cancel()
	if err := heed(ctx, func() error { return g.discover(ctx) }); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// made reports whether g comes from New.
func (g *Guard) made() bool { return g != nil && g.closed != nil }

// Close ends the guard and its connections, and refuses what is waiting with
// [ErrClosed]. It may be called more than once.
func (g *Guard) Close() {
	if !g.made() {
		return
	}
	var wg sync.WaitGroup
	for _, n := range g.end() {
		wg.Go(n.close)
	}
	wg.Wait()
}

// end marks g as closed, and returns the nodes that it had until then, retired. No
// other topology is installed afterwards.
func (g *Guard) end() (nodes []*node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended() {
		return nil
	}
	close(g.closed)
	if t := g.topology.Load(); t != nil {
		nodes = t.nodes
	}
	for _, n := range nodes {
		n.retire()
	}
	return nodes
}

// ended reports whether g is closed.
func (g *Guard) ended() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

// Spend reports whether the token is fresh, and from then on it is not, on any
// gateway. The error is [ErrRevoked] or [ErrAllRevoked], or says why the guard could
// not tell. now is the time at which the token was found not to be expired yet. Spend
// waits for Config.Timeout at most and not longer than ctx. It makes one allocation of
// its own, and retains nothing of t.
func (g *Guard) Spend(ctx context.Context, now time.Time, t claims.Summary) (fresh bool, err error) {
	if !g.made() {
		return false, ErrClosed
	}
	fresh, err = g.spend(ctx, now, t)
	g.count.add(fresh, err)
	return fresh, err
}

func (g *Guard) spend(ctx context.Context, now time.Time, t claims.Summary) (bool, error) {
	if g.tooLong(now, t) {
		return false, ErrTooLong
	}
	if ctx.Err() != nil {
		return false, ErrCanceled
	}
	r, err := g.request(now, t)
	if err != nil {
		return false, err
	}
	slot := r.slot
	g.route(r)
	if err := g.wait(ctx, r); err != nil {
		return false, err // a worker may still use r, so it is not put back
	}
	fresh, err := r.fresh, r.err
	g.requests.Put(r)
	if fresh {
		// The round trip may have told of lost data or of a revocation.
		err = g.refuse(slot, t)
	}
	return fresh && err == nil, err
}

// request returns a request for t, or why there is to be none.
func (g *Guard) request(now time.Time, t claims.Summary) (*request, error) {
	if g.waiting.Add(1) > int64(g.config.MaxWaiting) {
		g.waiting.Add(-1)
		return nil, ErrBusy
	}
	r := g.requests.Get().(*request)
	r.reset(g.config.Prefix, g.topology.Load(), now, t)
	if err := g.refuse(r.slot, t); err != nil {
		g.waiting.Add(-1)
		g.requests.Put(r)
		return nil, err
	}
	return r, nil
}

// tooLong reports whether t expires later, or was issued further ahead of the
// clock, than the guard was configured for. So no token makes the server remember
// it for an absurd time.
func (g *Guard) tooLong(now time.Time, t claims.Summary) bool {
	lifetime := g.config.MaxTTL + g.config.ClockSkew + time.Second
	return t.Expiration.Sub(now) > lifetime || t.IssuedAt.Unix() > now.Add(g.config.ClockSkew).Unix()
}

// refuse returns the error for a token that, as far as this gateway knows, was
// revoked or issued before data were lost. It asks no server.
func (g *Guard) refuse(slot uint16, t claims.Summary) error {
	if err := g.revoked.Check(t); err != nil {
		return err
	}
	// The ring's skew counts where it is the larger one: who let the token in
	// before may have been told of it.
	skew := max(g.config.ClockSkew, t.ClockSkew)
	if t.IssuedAt.Add(-skew).Unix() <= g.topology.Load().marks[slot] {
		return ErrDataLost
	}
	return nil
}

// wait waits until r is answered. An error says why it gave up before.
func (g *Guard) wait(ctx context.Context, r *request) (err error) {
	r.timer.Reset(g.config.Timeout)
	defer r.timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-r.timer.C:
		err = r.because(ErrTimeout)
	case <-ctx.Done():
		err = ErrCanceled
	case <-g.closed:
		err = ErrClosed
	}
	if r.state.CompareAndSwap(isWaiting, isLeft) {
		return err
	}
	<-r.done // answered at the last moment
	return nil
}

// answer ends a request that a worker holds.
func (g *Guard) answer(r *request, fresh bool, err error) {
	r.fresh, r.err = fresh, err
	g.waiting.Add(-1)
	if r.state.CompareAndSwap(isWaiting, isAnswered) {
		r.done <- struct{}{}
	}
}

// ReadyAt returns the moment from which on all newly issued tokens are accepted, if
// the issuer's clock agrees with this one. Until then some are refused with
// [ErrDataLost], and a gateway should not report itself ready. The moment moves
// ahead when data may have been lost. If it is further away than ClockSkew and a
// second, some gateway's clock was ahead. It goes by the ClockSkew of Config: if the
// ring's is larger, tokens are refused for longer, by the difference. A zero or nil
// Guard is ready at the end of the year 9999.
//
// It says nothing of whether the server can be reached now. The error of
// [Guard.Sync] does, as Stats.Unavailable does once tokens are refused.
func (g *Guard) ReadyAt() time.Time {
	if !g.made() {
		return time.Unix(limits.MaxUnix, 0).UTC()
	}
	return time.Unix(slices.Max(g.topology.Load().marks)+1, 0).Add(g.config.ClockSkew).UTC()
}

// mark returns the Unix second up to which tokens were issued that may be lost, by a
// clock that is not ahead of the others. It is by the later one of this clock and the
// server's: what was spent by the faster clock, and lost, must not escape because the
// other is slow.
func (g *Guard) mark() int64 {
	ahead := time.Duration(max(0, g.ahead.Load())) * time.Millisecond
	return g.config.Now().Add(ahead).Unix()
}

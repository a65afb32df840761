package gateway

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

const (
	tickEvery    = time.Second
	syncEvery    = time.Second
	refreshEvery = 10 * time.Second

	// patience is how long after its last tick Run counts as alive.
	patience = 10 * time.Second
)

var errRunning = errors.New("gateway: Run runs already")

// Run does the gateway's regular work until ctx ends. Call it once, in a
// goroutine.
//
//   - Every second it ends the expired sessions, learns what others revoked,
//     and repeats the revocations that failed.
//   - Every ten seconds it refreshes the keys.
//
// A key file or a server that stalls delays only its own part. When ctx ends,
// Run ends all participants, waits for its goroutines, and returns the cause of
// ctx. So end ctx after [Gateway.Drain], not at the signal to stop.
func (g *Gateway) Run(ctx context.Context) error {
	if !g.state.running.CompareAndSwap(false, true) {
		return errRunning
	}
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer func() {
		g.state.beat.Store(0)
		cancel()
		g.endAll(ErrStopped)
		others.Wait()
		g.state.running.Store(false)
	}()
	g.state.synced.Store(g.uptime())
	beside := func(d time.Duration, f func(context.Context)) {
		others.Go(func() {
			defer cancel() // if a guard's or the keys' method ends the goroutine
			every(ctx, d, f)
		})
	}
	beside(syncEvery, g.sync)
	beside(syncEvery, g.send)
	beside(refreshEvery, g.refresh)
	every(ctx, tickEvery, g.tick)
	return context.Cause(ctx)
}

// every calls f at once and then every d until ctx ends. If f takes longer, it
// skips calls.
func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		f(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// uptime is a monotonic time in nanoseconds, and never 0.
func (g *Gateway) uptime() int64 { return max(int64(time.Since(g.start)), 1) }

// alive reports whether Run ticks, at a time of the system's clock.
func (g *Gateway) alive(now time.Time) bool {
	beat := g.state.beat.Load()
	return beat > 0 && int64(now.Sub(g.start))-beat <= int64(patience)
}

// tick ends the expired sessions.
func (g *Gateway) tick(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	g.state.beat.Store(g.uptime())
	g.endDue(g.config.Now())
}

// endDue ends those whose deadline has come, and returns how many.
func (g *Gateway) endDue(now time.Time) int {
	ends := g.markEach(nil, g.reg.shards[:], token.ErrSessionExpired, func(s *shard, found []*Participant) []*Participant {
		return s.due(found, g.reg.second(now.Unix()))
	})
	tell(ends)
	return len(ends)
}

// markEach ends the participants that find appends for each shard, under its
// lock. The caller tells them.
func (g *Gateway) markEach(ends []ending, shards []shard, cause error, find func(*shard, []*Participant) []*Participant) []ending {
	var found []*Participant
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		found = find(s, found[:0])
		ends = g.mark(ends, s, found, &cause)
		s.mu.Unlock()
	}
	return ends
}

func (g *Gateway) refresh(ctx context.Context) {
	now := g.config.Now()
	_, err := g.config.Keys.Refresh(ctx, now)
	g.counts.refreshed(now, err)
}

// sync ends what others revoked.
func (g *Gateway) sync(ctx context.Context) {
	var ends []ending
	defer func() {
		tell(ends)
		g.state.synced.Store(g.uptime())
	}()
	err := g.config.Guard.Sync(ctx, func(t token.Target, before time.Time) {
		ends = g.markTarget(ends, t, before, token.ErrRevoked)
	})
	g.counts.synced(err)
}

// Revoke ends the participants of t at once. It has the guard refuse t's tokens
// issued up to now, by [token.Summary.IssuedBefore]. The cause of the ends
// matches [token.ErrRevoked]. If reason isn't "", it is the cause's text, and
// [CloseFrame] shows it to the users.
//
// An error says that t is invalid, or that other gateways may not know yet. In
// the second case the participants here have ended, and Run repeats the call to
// the guard for as long as a session can last, unless the error matches
// [ErrNotRepeated].
func (g *Gateway) Revoke(ctx context.Context, t token.Target, reason string) error {
	if err := t.Validate(); err != nil {
		return err
	}
	cause := revocation(reason)
	before := g.config.Now()
	if t.Token != (token.ID{}) {
		before = time.Time{}
	}
	// This ends everyone who is in, even if the clock was set back since
	// they entered. They may do nothing more from here on. OnEnd and the
	// guard run at the same time, because either may block.
	ends := g.markTarget(nil, t, time.Unix(math.MaxInt64, 0), cause)
	var telling sync.WaitGroup
	telling.Go(func() { tell(ends) })
	err := g.config.Guard.Revoke(ctx, t, before)
	if err != nil {
		err = g.unsent.add(t, before, err)
	}
	// Look again for those that entered before the guard knew.
	late := g.markTarget(nil, t, before, cause)
	telling.Wait()
	tell(late)
	return err
}

// markTarget ends those that a revocation concerns. The caller tells them.
func (g *Gateway) markTarget(ends []ending, t token.Target, before time.Time, cause error) []ending {
	return g.markEach(ends, g.reg.of(t), cause, func(s *shard, found []*Participant) []*Participant {
		return g.reg.find(found, s, t, before)
	})
}

// endAll ends everybody.
func (g *Gateway) endAll(cause error) {
	tell(g.markEach(nil, g.reg.shards[:], cause, (*shard).all))
}

// Drain empties the gateway before the process stops. At once it refuses
// newcomers and makes Ready fail. It waits for notice, so that load balancers
// see that. Then it ends all participants with [ErrDraining], spread evenly
// over the duration over. It returns nil when all have left, which may be
// earlier, or the error of ctx. The gateway stays closed.
//
// A load balancer that only tries to connect doesn't see the notice. It sends
// users back to this host, unless the server stops listening before their
// connections end.
func (g *Gateway) Drain(ctx context.Context, notice, over time.Duration) error {
	g.state.draining.Store(true)
	if err := wait(ctx, notice); err != nil {
		return err
	}
	var all []*Participant
	for i := range g.reg.shards {
		s := &g.reg.shards[i]
		s.mu.Lock()
		all = s.all(all)
		s.mu.Unlock()
	}
	const step = 20 * time.Millisecond
	steps := max(int64(over/step), 1)
	for i := range steps {
		if g.empty() {
			return nil
		}
		if i > 0 {
			if err := wait(ctx, step); err != nil {
				return err
			}
		}
		for _, p := range all[share(len(all), i, steps):share(len(all), i+1, steps)] {
			p.end(ErrDraining, nil)
		}
	}
	g.endAll(ErrDraining)
	for !g.empty() {
		if err := wait(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// empty reports whether all have left.
func (g *Gateway) empty() bool {
	_, _, present := g.reg.count()
	return present == 0
}

// share returns how many of n must have ended after i of the steps.
func share(n int, i, steps int64) int { return int(int64(n) * i / steps) }

func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

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

	// patience is how long after its last tick Run is taken to be alive.
	patience = 10 * time.Second
)

var errRunning = errors.New("gateway: Run runs already")

// Run ends whoever's time is over, every second; lets the guard learn what
// others revoked, every second; and refreshes the keys, every ten. A key file
// or a server that stands still holds up neither the others nor the ends. Run
// returns when ctx ends, with its error, when all its goroutines have ended and
// so has every stay. So ctx must not be one that ends with the signal to stop
// the process: that is what [Gateway.Drain] is for, during which Run goes on.
// One Run may run at a time.
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
	others.Go(func() { every(ctx, syncEvery, g.sync) })
	others.Go(func() { every(ctx, refreshEvery, g.refresh) })
	every(ctx, tickEvery, g.tick)
	return context.Cause(ctx)
}

// every calls f at once and then again and again until ctx ends. What f missed
// while it took its time is not made up for.
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

// alive reports whether Run ticks.
func (g *Gateway) alive() bool {
	beat := g.state.beat.Load()
	return beat > 0 && time.Since(g.start)-time.Duration(beat) <= patience
}

// tick ends whoever's time is over.
func (g *Gateway) tick(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	g.state.beat.Store(max(int64(time.Since(g.start)), 1))
	now := g.config.Now()
	expired := func(s *token.Session) bool { return s.Expired(now) }
	var due []*Participant
	for i := range g.reg.shards {
		due = g.reg.shards[i].due(due[:0], now.Unix())
		for _, p := range due {
			g.end(p, token.ErrSessionExpired, expired)
		}
		clear(due)
	}
}

func (g *Gateway) refresh(ctx context.Context) {
	_, err := g.config.Keys.Refresh(ctx, g.config.Now())
	g.counts.refreshed(err)
}

// sync repeats what the fleet was not told, and ends what others revoked.
func (g *Gateway) sync(ctx context.Context) {
	g.unsent.send(ctx, g.config.Guard)
	err := g.config.Guard.Sync(ctx, func(t token.Target, before time.Time) {
		g.endTarget(t, before, token.ErrRevoked)
	})
	g.counts.synced(err)
}

// Revoke ends the participants of t at once, and has the guard refuse its
// tokens: those that were issued up to now, as token.Summary.IssuedBefore has
// it. The cause of the ends matches token.ErrRevoked. If reason is not "", it
// is the text of the cause, and [CloseFrame] hands it to the participants.
//
// An error says that t is not valid, or that other gateways may not know yet.
// In the second case Run repeats the call to the guard until it succeeds, and
// the ends hold.
func (g *Gateway) Revoke(ctx context.Context, t token.Target, reason string) error {
	if err := t.Validate(); err != nil {
		return err
	}
	cause := token.ErrRevoked
	if reason != "" {
		cause = &kicked{reason}
	}
	before := g.config.Now()
	if t.Token != (token.ID{}) {
		before = time.Time{}
	}
	// Whoever is in now is meant, even if the clock was set back since. Whoever
	// entered before the guard knew is looked for once more.
	g.endTarget(t, time.Unix(math.MaxInt64, 0), cause)
	err := g.config.Guard.Revoke(ctx, t, before)
	g.endTarget(t, before, cause)
	if err != nil {
		g.unsent.add(t, before)
	}
	return err
}

// endTarget ends those whom a revocation concerns.
func (g *Gateway) endTarget(t token.Target, before time.Time, cause error) {
	meant := func(s *token.Session) bool { return concerns(t, before, s) }
	var found []*Participant
	shards := g.reg.of(t)
	for i := range shards {
		found = g.reg.find(found[:0], &shards[i], t, before)
		for _, p := range found {
			g.end(p, cause, meant)
		}
		clear(found)
	}
}

// endAll ends everybody.
func (g *Gateway) endAll(cause error) {
	var found []*Participant
	for i := range g.reg.shards {
		found = g.reg.shards[i].all(found[:0])
		for _, p := range found {
			g.end(p, cause, nil)
		}
		clear(found)
	}
}

// unsent is what the fleet could not be told yet.
type unsent struct {
	mu      sync.Mutex
	targets map[token.Target]time.Time
}

// maxUnsent bounds it. What does not fit is the caller's to repeat, as the
// error says.
const maxUnsent = 1 << 12

func (u *unsent) add(t token.Target, before time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.targets == nil {
		u.targets = make(map[token.Target]time.Time)
	}
	old, known := u.targets[t]
	if known && old.After(before) || !known && len(u.targets) >= maxUnsent {
		return
	}
	u.targets[t] = before
}

// send tries one after the other, until one fails.
func (u *unsent) send(ctx context.Context, guard Guard) {
	u.mu.Lock()
	targets := make(map[token.Target]time.Time, len(u.targets))
	for t, before := range u.targets {
		targets[t] = before
	}
	u.mu.Unlock()
	for t, before := range targets {
		if guard.Revoke(ctx, t, before) != nil {
			return
		}
		u.mu.Lock()
		if u.targets[t].Equal(before) {
			delete(u.targets, t)
		}
		u.mu.Unlock()
	}
}

func (u *unsent) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.targets)
}

// Drain empties the gateway before the process stops. At once nobody enters any
// more and Ready says so. After notice, in which a load balancer can take note,
// the stays are ended one after the other, spread evenly over the time over,
// with [ErrDraining]. Drain returns nil when all have left, or the error of
// ctx. The gateway stays closed after it.
func (g *Gateway) Drain(ctx context.Context, notice, over time.Duration) error {
	g.state.draining.Store(true)
	if err := wait(ctx, notice); err != nil {
		return err
	}
	var all []*Participant
	for i := range g.reg.shards {
		all = g.reg.shards[i].all(all)
	}
	const step = 20 * time.Millisecond
	steps := max(int(over/step), 1)
	for i := range steps {
		if i > 0 {
			if err := wait(ctx, step); err != nil {
				return err
			}
		}
		for _, p := range all[len(all)*i/steps : len(all)*(i+1)/steps] {
			g.end(p, ErrDraining, nil)
		}
	}
	g.endAll(ErrDraining)
	for g.reg.present() > 0 {
		if err := wait(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

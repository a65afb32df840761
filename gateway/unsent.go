package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// maxUnsent is how many revocations Run repeats. Callers repeat the
	// others.
	maxUnsent = 1 << 12

	// keepUnsent is how long a revocation can matter: the longest session,
	// and the skew of a clock by which it begins later.
	keepUnsent = claims.MaxSessionMinutes*time.Minute + limits.MaxClockSkew

	// After maxFailures in a row the server seems to be down.
	maxFailures = 32
)

// unsent are the revocations that the guard couldn't pass on to the fleet yet.
// The zero value is ready for use.
type unsent struct {
	mu    sync.Mutex
	debts map[token.Target]debt
	queue []token.Target // in turn; without the one being tried
	n     atomic.Int64   // of debts
}

type debt struct {
	before time.Time
	added  time.Time
}

// add keeps a revocation that failed with err, to repeat it. It returns err,
// joined with ErrNotRepeated if it can't keep it.
func (u *unsent) add(t token.Target, before time.Time, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, known := u.debts[t]
	if !passing(err) || !known && len(u.debts) >= maxUnsent {
		return errors.Join(err, ErrNotRepeated)
	}
	if u.debts == nil {
		u.debts = make(map[token.Target]debt)
	}
	if !known {
		u.queue = append(u.queue, t)
	}
	if old.before.After(before) {
		before = old.before
	}
	u.debts[t] = debt{before, time.Now()}
	u.n.Store(int64(len(u.debts)))
	return err
}

// passing reports whether a call that failed with err may succeed later.
func passing(err error) bool {
	return errors.Is(err, token.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// next takes the next one from the queue.
func (u *unsent) next() (t token.Target, d debt, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.queue) > 0 {
		t, u.queue = u.queue[0], u.queue[1:]
		if d = u.debts[t]; time.Since(d.added) <= keepUnsent {
			return t, d, true
		}
		u.forget(t)
	}
	return t, d, false
}

// tried puts t back into the queue, or forgets it if done.
func (u *unsent) tried(t token.Target, d debt, done bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if done && u.debts[t] == d {
		u.forget(t)
		return
	}
	u.queue = append(u.queue, t)
}

func (u *unsent) forget(t token.Target) {
	delete(u.debts, t)
	u.n.Store(int64(len(u.debts)))
}

func (u *unsent) has(t token.Target) bool {
	if u.n.Load() == 0 {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.debts[t]
	return ok
}

// send tries each once, until the server seems to be down. The next call goes
// on from there.
func (g *Gateway) send(ctx context.Context) {
	u := &g.unsent
	failures := 0
	for range u.n.Load() {
		t, d, ok := u.next()
		if !ok {
			return
		}
		err := g.config.Guard.Revoke(ctx, t, d.before)
		u.tried(t, d, err == nil || !passing(err))
		failures++
		if err == nil {
			failures = 0
		}
		if ctx.Err() != nil || failures == maxFailures {
			return
		}
	}
}

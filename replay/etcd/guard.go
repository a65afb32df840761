package etcd

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// Guard spends tokens on etcd, and implements [token.Guard]. Make it with
// [New]; a zero or nil Guard refuses everything. It is safe for concurrent use,
// must not be copied, and runs a few goroutines until [Guard.Close].
type Guard struct {
	config  Config
	began   time.Time
	link    link
	revoked replay.Revocations
	tokens  replay.Revocations // single tokens again, with less room
	count   counters
	synced  atomic.Pointer[time.Time] // when the latest read began

	ctx    context.Context // ends with the guard
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	wake   chan struct{} // capacity 1: there may be a batch to form

	mu      sync.Mutex
	history history
	belief  belief
	doubted bool // until the next join, believe nothing
	leases  leases
	queue   []*call
	waiting int // calls not answered, abandoned ones too
	recent  []recent

	updating chan struct{} // capacity 1; update holds it to use the rest
	beatsOn  *lease        // of the own key
	owing    bool          // recent has to be written back
}

// New makes a guard. To find missing permissions now, it sends everything that
// a guard writes in a transaction that is not executed. The errors are those
// above, or say which field of c is outside its limits. New takes twice
// Config.Timeout at most, and not longer than ctx.
//
// The guard refuses what was issued before now: see [Guard.ReadyAt].
func New(ctx context.Context, c Config) (*Guard, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Guard{
		config:   c,
		began:    time.Now(),
		revoked:  replay.Revocations{MaxEntries: c.MaxRevocations},
		tokens:   replay.Revocations{MaxEntries: max(1, c.MaxRevocations*3/4)},
		belief:   belief{gateway: c.Prefix + gatewayKey},
		leases:   leases{},
		wake:     make(chan struct{}, 1),
		updating: make(chan struct{}, 1),
	}
	g.link.config, g.link.count = &g.config, &g.count
	g.history = start(g.instant())
	g.ctx, g.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(ctx, 2*c.Timeout)
	defer cancel()
	err = heed(ctx, func() error {
		return persist(ctx, func() error {
			if err := g.rehearse(ctx); err != nil {
				return err
			}
			return g.update(ctx, false)
		})
	})
	if err != nil {
		g.Close()
		return nil, err
	}
	g.tasks.Go(g.beat)
	for range workers {
		g.tasks.Go(g.work)
	}
	return g, nil
}

// Format writes what [Config.Format] does.
func (g *Guard) Format(f fmt.State, verb rune) { g.shown().Format(f, verb) }

// LogValue returns what [Config.LogValue] does.
func (g *Guard) LogValue() slog.Value { return g.shown().LogValue() }

func (g *Guard) shown() Config {
	if !g.made() {
		return Config{}
	}
	return g.config
}

// made reports whether g comes from New.
func (g *Guard) made() bool { return g != nil && g.cancel != nil }

// Close ends the guard and its connection. Calls that wait return [ErrClosed].
// It may be called more than once.
func (g *Guard) Close() {
	if !g.made() {
		return
	}
	g.cancel()
	g.link.close()
	g.tasks.Wait()
}

// instant reads both clocks. If the process stood still in between, it reads
// them again, because they would seem to have moved apart.
func (g *Guard) instant() instant {
	for {
		before := time.Since(g.began)
		wall := g.config.Now()
		if steady := time.Since(g.began); steady-before < time.Second {
			return instant{millisOf(wall), duration(steady)}
		}
	}
}

// Spend reports whether the token is fresh, and marks it as spent on every
// gateway. The error is [token.ErrRevoked] or [token.ErrAllRevoked], or says
// why the guard could not tell. At now the caller found the token unexpired.
// Spend waits for Config.Timeout at most and not longer than ctx, and retains
// nothing of s.
func (g *Guard) Spend(ctx context.Context, now time.Time, s token.Summary) (fresh bool, err error) {
	if !g.made() {
		return false, ErrClosed
	}
	fresh, err = g.spend(ctx, now, s)
	g.count.add(fresh, err)
	return fresh, err
}

func (g *Guard) spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	switch {
	case g.ctx.Err() != nil:
		return false, ErrClosed
	case ctx.Err() != nil:
		return false, ErrCanceled
	}
	if err := g.revoked.Revoked(s); err != nil {
		return false, err
	}
	c, err := g.enter(now, s)
	if err != nil {
		return false, err
	}
	fresh, err := g.wait(ctx, c)
	if fresh {
		err = g.revoked.Revoked(s) // the reply may have told of it
	}
	return fresh && err == nil, err
}

// enter puts a call into the queue, or returns why it refuses it at once.
func (g *Guard) enter(now time.Time, s token.Summary) (*call, error) {
	s.RoomIdentifier, s.UserID = nil, nil
	c := &call{
		token:  s,
		key:    g.config.Prefix + spentKey + string(s.TokenID[:]),
		value:  random(),
		now:    millisOf(now),
		answer: make(chan answer, 1),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c.began = g.instant()
	g.history.notice(c.began)
	if err := g.history.ruling(s, c.now, c.began); err != nil {
		return nil, err
	}
	if g.waiting == g.config.MaxWaiting {
		return nil, ErrBusy
	}
	g.history.attempt(s)
	g.waiting++
	g.queue = append(g.queue, c)
	g.signal()
	return c, nil
}

// random returns 128 bits.
func random() string {
	var b [16]byte
	rand.Read(b[:])
	return string(b[:])
}

// wait waits until c is answered. An error says why it gave up before.
func (g *Guard) wait(ctx context.Context, c *call) (fresh bool, err error) {
	timer := time.NewTimer(g.config.Timeout)
	defer timer.Stop()
	select {
	case a := <-c.answer:
		return a.fresh, a.err
	case <-timer.C:
		err = errTimeout
	case <-ctx.Done():
		err = ErrCanceled
	case <-g.ctx.Done():
		err = ErrClosed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c.left = true
	select {
	case a := <-c.answer: // at the last moment
		return a.fresh, a.err
	default:
	}
	if err == errTimeout && c.failed != nil {
		err = c.failed
	}
	return false, err
}

// Revoked returns [token.ErrRevoked] or [token.ErrAllRevoked] if the token, or
// the session that it opened, was revoked, and nil otherwise. It goes by what
// this gateway had learned at [Guard.Synced]. It sends no request, takes no
// lock and does not allocate.
func (g *Guard) Revoked(s token.Summary) error {
	if !g.made() {
		return ErrClosed
	}
	return g.revoked.Revoked(s)
}

// ReadyAt returns the moment from which on all newly issued tokens are
// accepted, if the issuer's clock agrees with this one. Until then some are
// refused with [ErrDataLost], and a gateway should not report itself ready. It
// is ClockSkew and a second after the guard was made. It moves ahead if data
// may have been lost or a clock was set back. It goes by [Config.Limits]:
// tokens of a ring with a larger ClockSkew are refused for longer, by the
// difference. For a zero or nil Guard it is the end of the year 9999.
//
// It does not say whether the cluster can be reached now; [Guard.Synced] does.
func (g *Guard) ReadyAt() time.Time {
	if !g.made() {
		return time.Unix(maxSecond, 0).UTC()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	mark := g.history.mark.time().Truncate(time.Second)
	return mark.Add(g.config.Limits.ClockSkew + time.Second)
}

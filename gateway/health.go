package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// maxUnsynced is how long a ready gateway may not know what others revoked.
const maxUnsynced = time.Minute

// Ready returns nil if a load balancer should send users here. Otherwise the
// error says why not:
//
//   - the gateway is draining, or Run does not run;
//   - the guard's ReadyAt is still to come, as after a start or a failover;
//   - the guard's limits are below the ring's;
//   - the gateway has not learned what others revoked for over a minute;
//   - the keys are not healthy: see [Keys].
//
// It doesn't ask whether a server answers now. If the guard's server is down
// for more than a minute, all gateways are unready. Use Ready for readiness
// only, never to restart a gateway: that ends its sessions and cures nothing.
func (g *Gateway) Ready(now time.Time) error {
	if g.state.draining.Load() {
		return ErrDraining
	}
	if !g.alive(time.Now()) {
		return errNotRunning
	}
	if err := g.opener.Validate(); err != nil {
		return err
	}
	if at := g.config.Guard.ReadyAt(); now.Before(at) {
		return fmt.Errorf("gateway: the guard is ready at %s", at.Format(time.RFC3339))
	}
	if old := now.Sub(g.config.Guard.Synced()); old.Abs() > maxUnsynced { // ahead if the clock was set back
		return fmt.Errorf("gateway: what others revoked is not known since %v", old.Truncate(time.Second))
	}
	if still := time.Duration(g.uptime() - g.state.synced.Load()); still > maxUnsynced {
		return fmt.Errorf("gateway: the guard's Sync, or an OnEnd, stands still since %v", still.Truncate(time.Second))
	}
	return g.config.Keys.Health(now)
}

// Kind is what an [Event] is about. The zero Kind is none.
type Kind uint8

const (
	_       Kind = iota
	Entered      // a participant is in
	Refused      // a request or a Renew was refused
	Renewed      // a session took the place of another
	Ended        // a participant ended, other than by Leave
)

// String returns "none", "entered", "refused", "renewed" or "ended".
func (k Kind) String() string {
	if k > Ended {
		k = 0
	}
	return [...]string{"none", "entered", "refused", "renewed", "ended"}[k]
}

// Event is a decision or an end. It has no secret.
type Event struct {
	Kind    Kind
	Reason  string        // why Refused or Ended: one of [Reasons], or Admit's own; else ""
	Took    time.Duration // the decision; 0 for Ended
	TokenID token.ID      // for logs; zero before the token is known to be authentic
}

// Reasons returns the words that Event.Reason and Refusal.Reason may be, so
// that counters can be declared in advance.
func Reasons() []string {
	words := []string{
		"malformed", "unknown-key", "revoked-key", "forged", "payload", "not-yet-valid", "expired", "spent",
		"revoked", "all-revoked", "unavailable", "canceled", "refused", "session-expired", "not-permitted", "invalid",
	}
	seen := map[string]bool{}
	for _, r := range refusals {
		if !seen[r.Reason] {
			seen[r.Reason] = true
			words = append(words, r.Reason)
		}
	}
	return words
}

// Causes returns the words that Event.Reason may be when a participant ends, so
// that counters can be declared in advance. [Reasons] has them too.
func Causes() []string {
	return []string{"session-expired", "revoked", "all-revoked", "draining", "stopped"}
}

// Stats is the state of a gateway, for its operators. Counts start at [New].
type Stats struct {
	Live     int    `json:"live"`     // participants
	Present  int    `json:"present"`  // and those that have ended but not left
	MaxLive  int    `json:"maxLive"`  // as configured
	Entered  uint64 `json:"entered"`  // were let in
	Refused  uint64 `json:"refused"`  // requests and Renews
	Ended    uint64 `json:"ended"`    // other than by Leave
	Unsent   int    `json:"unsent"`   // revocations that the fleet doesn't know yet
	Running  bool   `json:"running"`  // Run ticks; otherwise nobody enters
	Draining bool   `json:"draining"` // Drain was called

	Now       time.Time     `json:"now"`       // by Config.Now
	Synced    time.Time     `json:"synced"`    // what others revoked is known up to then
	Refreshed time.Time     `json:"refreshed"` // when the keys' Refresh last succeeded; New's time before that
	Overdue   time.Duration `json:"overdue"`   // how late the next key is: keyring.Ring.Overdue

	// SyncError and RefreshError are the last errors of the guard's Sync
	// and of the keys' Refresh, and nil after a success.
	SyncError, RefreshError error `json:"-"`
}

// Stats returns the state.
func (g *Gateway) Stats() Stats {
	st := Stats{
		MaxLive:  g.config.MaxLive,
		Refused:  g.counts.refusals.Load(),
		Ended:    g.counts.ends.Load(),
		Unsent:   int(g.unsent.n.Load()),
		Running:  g.alive(time.Now()),
		Draining: g.state.draining.Load(),
		Synced:   g.config.Guard.Synced(),
		Now:      g.config.Now(),
	}
	st.Overdue = g.config.Keys.Ring().Overdue(st.Now)
	st.Entered, st.Live, st.Present = g.reg.count()
	st.Refreshed, st.SyncError, st.RefreshError = g.counts.last()
	return st
}

// counts are what Stats shows.
type counts struct {
	refusals, ends atomic.Uint64

	mu                  sync.Mutex
	refreshedAt         time.Time
	syncErr, refreshErr error
}

func (c *counts) synced(err error) {
	c.mu.Lock()
	c.syncErr = err
	c.mu.Unlock()
}

func (c *counts) refreshed(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refreshErr = err
	if err == nil {
		c.refreshedAt = now
	}
}

func (c *counts) last() (refreshed time.Time, syncErr, refreshErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refreshedAt, c.syncErr, c.refreshErr
}

// refused makes a Refusal of the caller's own of an error.
func (v *visit) refused(err error) *Refusal {
	r := *v.judge(err)
	return &r
}

func (v *visit) judge(err error) *Refusal {
	v.g.counts.refusals.Add(1)
	refusal := refuse(err, v.g.opener.Ring.Limits().ClockSkew)
	v.g.observe(Event{Kind: Refused, Reason: refusal.Reason, TokenID: v.id}, v.began)
	return refusal
}

func (g *Gateway) ended(id token.ID, cause error) {
	g.counts.ends.Add(1)
	if g.config.Observe == nil {
		return
	}
	g.observe(Event{Kind: Ended, Reason: refuse(cause, 0).Reason, TokenID: id}, time.Time{})
}

func (g *Gateway) observe(e Event, began time.Time) {
	if g.config.Observe == nil {
		return
	}
	if !began.IsZero() {
		e.Took = time.Since(began)
	}
	contain(func() { g.config.Observe(e) })
}

package valkey

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Stats is the state of a [Guard] for operators. Counts are since the guard was
// made.
type Stats struct {
	// Waiting is how many calls of Spend take a place of MaxWaiting. Some
	// may have returned already.
	Waiting int `json:"waiting"`

	Fresh   uint64 `json:"fresh"`   // accepted
	Spent   uint64 `json:"spent"`   // refused: not fresh
	Revoked uint64 `json:"revoked"` // refused: revoked, alone or with all

	Unavailable uint64 `json:"unavailable"` // refused with another error

	// Reasons counts by a word the refusals of Spend, but for revoked
	// tokens, and the failures to ask a server every five seconds:
	//
	//	ErrUnreachable  timeout, connection, changing
	//	ErrServer       loading, read-only, out-of-memory, replicas,
	//	                persistence, slot, version, eviction,
	//	                no-append-only-file, reply
	//	ErrClock        server-behind, server-ahead,
	//	                token-ahead, token-over
	//	ErrAuth         auth, credentials
	//	themselves      data-lost, busy, canceled, closed
	//	any other       other
	Reasons map[string]uint64 `json:"reasons,omitempty"`

	// Losses is how often data may have been lost, once for each server.
	// The start counts.
	Losses      uint64 `json:"losses"`
	Connections uint64 `json:"connections"` // attempts to connect

	// Servers is how many are in use: one, or the primaries of the Cluster.
	Servers int `json:"servers"`
}

type counters struct {
	fresh, spent, revoked, unavailable, losses, connections atomic.Uint64

	mu      sync.Mutex
	reasons map[string]uint64
}

// add counts the outcome of a Spend.
func (c *counters) add(fresh bool, err error) {
	switch {
	case fresh:
		c.fresh.Add(1)
	case err == nil:
		c.spent.Add(1)
	case errors.Is(err, token.ErrRevoked):
		c.revoked.Add(1)
	default:
		c.unavailable.Add(1)
		c.note(err)
	}
}

// note counts an error, if it is one, by its word.
func (c *counters) note(err error) {
	if err == nil {
		return
	}
	word := "other"
	if f := (*fault)(nil); errors.As(err, &f) {
		word = f.word
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[word]++
}

// Stats returns the state. It asks no server.
func (g *Guard) Stats() Stats {
	if !g.made() {
		return Stats{}
	}
	c := &g.count
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Waiting:     int(g.waiting.Load()),
		Fresh:       c.fresh.Load(),
		Spent:       c.spent.Load(),
		Revoked:     c.revoked.Load(),
		Unavailable: c.unavailable.Load(),
		Reasons:     maps.Clone(c.reasons),
		Losses:      c.losses.Load(),
		Connections: c.connections.Load(),
		Servers:     len(g.topology.Load().nodes),
	}
}

// ReadyAt returns the moment from which on newly issued tokens are accepted, if
// the issuer's clock agrees with this one. Until then some are refused with
// [ErrDataLost], and a gateway should not report itself ready. It is ClockSkew
// and a second after the guard was made, and moves ahead if data may have been
// lost. If it is further away, a clock was ahead. It does not say whether the
// server can be reached now. For a zero or nil Guard it is the end of the year
// 9999.
func (g *Guard) ReadyAt() time.Time {
	if !g.made() {
		return time.Unix(maxSecond, 0).UTC()
	}
	var latest clock
	for _, mark := range g.topology.Load().marks {
		latest = max(latest, mark)
	}
	return readyAt(latest, g.config.Limits.ClockSkew)
}

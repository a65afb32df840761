package etcd

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// Stats is the state of a [Guard] for those who operate it. Counts are since the
// guard was made.
type Stats struct {
	Waiting int `json:"waiting"` // calls of Spend that take a place of MaxWaiting; some may have returned already

	Fresh   uint64 `json:"fresh"`   // tokens that were let in
	Spent   uint64 `json:"spent"`   // refused because they were not fresh
	Revoked uint64 `json:"revoked"` // refused with token.ErrRevoked or token.ErrAllRevoked

	DataLost    uint64 `json:"dataLost"`    // refused with ErrDataLost
	Busy        uint64 `json:"busy"`        // refused with ErrBusy
	Unavailable uint64 `json:"unavailable"` // refused with any other error

	// Reasons counts errors by a word: each refusal of a Spend but for revoked
	// tokens, and each failure of the guard's own requests. "timeout", "connection",
	// "no-leader", "lease" and "changing" are of ErrUnreachable; "no-space", "limit",
	// "revocations" and "reply" of ErrServer; "token-ahead", "token-long",
	// "token-over" and "forgotten" of ErrClock; "data-lost", "busy", "canceled",
	// "closed", "auth" and "other" speak for themselves.
	Reasons map[string]uint64 `json:"reasons,omitempty"`

	Losses      uint64 `json:"losses"`      // how often data may have been lost, the start included
	Connections uint64 `json:"connections"` // attempts to connect

	// The member's database in bytes, as of the last half minute. Quota is zero if
	// the member does not tell: those before version 3.6 do not.
	Size  int64 `json:"size"`
	InUse int64 `json:"inUse"` // the rest is free for use again
	Quota int64 `json:"quota"`

	Revocations replay.RevocationStats `json:"revocations"` // known here
}

type counters struct {
	fresh, spent, revoked, dataLost, busy, unavailable, losses atomic.Uint64
	size, inUse, quota                                         atomic.Int64

	reasons sync.Map // *fault to *atomic.Uint64
}

// errOther stands for errors that are none of this package.
var errOther = &fault{word: "other"}

// add counts the outcome of a Spend.
func (c *counters) add(fresh bool, err error) {
	switch {
	case fresh:
		c.fresh.Add(1)
		return
	case err == nil:
		c.spent.Add(1)
		return
	case errors.Is(err, token.ErrRevoked):
		c.revoked.Add(1)
		return
	case err == ErrDataLost:
		c.dataLost.Add(1)
	case err == ErrBusy:
		c.busy.Add(1)
	default:
		c.unavailable.Add(1)
	}
	c.note(err)
}

// note counts an error, if it is one, by its word.
func (c *counters) note(err error) {
	if err == nil {
		return
	}
	f, ok := err.(*fault)
	if !ok {
		f = errOther
	}
	n, ok := c.reasons.Load(f)
	if !ok {
		n, _ = c.reasons.LoadOrStore(f, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// Stats returns the state. It asks nobody.
func (g *Guard) Stats() Stats {
	if !g.made() {
		return Stats{}
	}
	c := &g.count
	reasons := make(map[string]uint64)
	for f, n := range c.reasons.Range {
		reasons[f.(*fault).word] = n.(*atomic.Uint64).Load()
	}
	g.mu.Lock()
	waiting := g.waiting
	g.mu.Unlock()
	g.link.mu.Lock()
	dials := g.link.dials
	g.link.mu.Unlock()
	return Stats{
		Waiting:     waiting,
		Fresh:       c.fresh.Load(),
		Spent:       c.spent.Load(),
		Revoked:     c.revoked.Load(),
		DataLost:    c.dataLost.Load(),
		Busy:        c.busy.Load(),
		Unavailable: c.unavailable.Load(),
		Reasons:     reasons,
		Losses:      c.losses.Load(),
		Connections: dials,
		Size:        c.size.Load(),
		InUse:       c.inUse.Load(),
		Quota:       c.quota.Load(),
		Revocations: g.revoked.Stats(),
	}
}

package etcd

import (
	"errors"
	"maps"
	"sync"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// Stats is the state of a [Guard] for those who operate it. Counts are since
// the guard was made.
type Stats struct {
	Waiting int `json:"waiting"` // calls of Spend that take a place of MaxWaiting; some may have returned already

	Fresh   uint64 `json:"fresh"`   // tokens that were let in
	Spent   uint64 `json:"spent"`   // refused because they were not fresh
	Revoked uint64 `json:"revoked"` // refused with token.ErrRevoked or token.ErrAllRevoked

	// Reasons counts all other refusals, and the failures of the guard's own
	// requests, by a word. "timeout", "connection", "no-leader", "lease" and
	// "changing" are of ErrUnreachable; "no-space", "limit", "revocations" and
	// "reply" of ErrServer; "token-ahead", "token-long", "token-over" and
	// "forgotten" of ErrClock; "data-lost", "busy", "canceled", "closed" and
	// "auth" are what they say.
	Reasons map[string]uint64 `json:"reasons,omitempty"`

	Losses      uint64 `json:"losses"`      // how often data may have been lost, the start included
	Connections uint64 `json:"connections"` // attempts to connect

	// The member's database in bytes, as of the last half minute.
	Size  int64 `json:"size"`
	InUse int64 `json:"inUse"` // the rest is free for use again
	Quota int64 `json:"quota"` // zero if the member does not tell: before version 3.6

	Revocations replay.RevocationStats `json:"revocations"` // known here
}

type counters struct {
	mu    sync.Mutex
	stats Stats
}

func (c *counters) change(how func(s *Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	how(&c.stats)
}

// add counts the outcome of a Spend.
func (c *counters) add(fresh bool, err error) {
	c.change(func(s *Stats) {
		switch {
		case fresh:
			s.Fresh++
		case err == nil:
			s.Spent++
		case errors.Is(err, token.ErrRevoked):
			s.Revoked++
		}
	})
	c.note(err)
}

// note counts a fault by its word.
func (c *counters) note(err error) {
	if f, ok := err.(*fault); ok {
		c.change(func(s *Stats) {
			if s.Reasons == nil {
				s.Reasons = make(map[string]uint64)
			}
			s.Reasons[f.word]++
		})
	}
}

// Stats returns the state. It asks nobody.
func (g *Guard) Stats() (s Stats) {
	if !g.made() {
		return Stats{}
	}
	g.count.change(func(counted *Stats) {
		s = *counted
		s.Reasons = maps.Clone(s.Reasons)
	})
	s.Revocations = g.revoked.Stats()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Waiting = g.waiting
	return s
}

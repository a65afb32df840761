package etcd

import (
	"errors"
	"maps"
	"sync"

	"github.com/seed17cb2b26/chattoken/replay"
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

	// Reasons counts all other refusals, and the failures of the guard's
	// own requests, by a word:
	//
	//	ErrUnreachable  timeout, connection, no-leader, lease,
	//	                changing
	//	ErrServer       no-space, limit, revocations, reply
	//	ErrClock        token-ahead, token-long, token-over, forgotten
	//	themselves      data-lost, busy, canceled, closed, auth
	Reasons map[string]uint64 `json:"reasons,omitempty"`

	// Losses is how often data may have been lost. The start counts.
	Losses      uint64 `json:"losses"`
	Connections uint64 `json:"connections"` // attempts to connect

	// The member's database in bytes, at most half a minute old.
	Size  int64 `json:"size"`
	InUse int64 `json:"inUse"` // the rest is free for use again
	Quota int64 `json:"quota"` // zero before version 3.6

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

// Stats returns the state. It sends no request.
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

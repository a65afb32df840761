package valkey

import (
	"errors"
	"sync/atomic"
)

// Stats is the state of a [Guard] for those who operate it. Counts are since the
// guard was made.
type Stats struct {
	Waiting int `json:"waiting"` // calls of Spend that take a place of MaxWaiting; some may have returned already

	Fresh   uint64 `json:"fresh"`   // tokens that were let in
	Spent   uint64 `json:"spent"`   // refused because they were not fresh
	Revoked uint64 `json:"revoked"` // refused with ErrRevoked or ErrAllRevoked

	DataLost    uint64 `json:"dataLost"`    // refused with ErrDataLost
	Busy        uint64 `json:"busy"`        // refused with ErrBusy
	Unavailable uint64 `json:"unavailable"` // refused with any other error

	Losses      uint64 `json:"losses"`      // how often this gateway found that data may have been lost
	Connections uint64 `json:"connections"` // attempts to connect
	Servers     int    `json:"servers"`     // in use: one, or the primaries of the Cluster
}

type counters struct {
	fresh, spent, revoked, dataLost, busy, unavailable, losses, connections atomic.Uint64
}

func (c *counters) add(fresh bool, err error) {
	switch {
	case fresh:
		c.fresh.Add(1)
	case err == nil:
		c.spent.Add(1)
	case errors.Is(err, ErrRevoked):
		c.revoked.Add(1)
	case err == ErrDataLost:
		c.dataLost.Add(1)
	case err == ErrBusy:
		c.busy.Add(1)
	default:
		c.unavailable.Add(1)
	}
}

// Stats returns the state. It asks no server and takes no lock.
func (g *Guard) Stats() Stats {
	if !g.made() {
		return Stats{}
	}
	c := &g.count
	return Stats{
		Waiting:     int(g.waiting.Load()),
		Fresh:       c.fresh.Load(),
		Spent:       c.spent.Load(),
		Revoked:     c.revoked.Load(),
		DataLost:    c.dataLost.Load(),
		Busy:        c.busy.Load(),
		Unavailable: c.unavailable.Load(),
		Losses:      c.losses.Load(),
		Connections: c.connections.Load(),
		Servers:     len(g.topology.Load().nodes),
	}
}

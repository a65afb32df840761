// Package valkey lets each chat token be used once by a whole fleet of
// gateways. The gateways share a Valkey or Redis server, or a Cluster.
//
// [New] makes a [Guard]; set it as [token.Opener.Guard] on every gateway. It
// has the methods of a [replay.Guard], so going from one process to a fleet
// changes one line. [Guard.Revoke] on one gateway holds on all of them: each
// later Spend refuses the tokens, without a further round trip.
//
// # Guarantee
//
// Of all calls of [Guard.Spend] with one token, on any gateway with the same
// servers and Prefix, at most one returns true. That holds within one history
// of the servers' data: see "What no rule closes". A late or lost reply does
// not make a fresh token look spent. If the guard cannot tell, it refuses. The
// error says why, and matches [token.ErrUnavailable].
//
// A spend is one round trip. Spends that wait at the same time share a
// pipeline, and what comes after the last SET:
//
//	SET <prefix><token ID> <value of this call> NX GET PX <what is left of the token + a minute>
//	GET <prefix>{n}:guard-nonce
//	GET <prefix>{n}:guard-revision
//	INFO replication
//	TIME
//
// Two replies to the SET mean that the token is fresh: nil, and the value of
// this call, which an earlier attempt has set. They count only if the rest says
// that the same server with the same data answered.
//
// # Loss of data
//
// Every server has a nonce, which the gateways keep alive for 15 seconds at a
// time. It is gone after FLUSHALL, a restart without data, or 15 seconds
// without any gateway. A promoted replica or a restored data set does not have
// it either. A gateway that notices writes a new one. Each gateway then refuses
// the tokens that count as issued before it noticed: those made already, and
// those of the next ClockSkew and a second. [Guard.ReadyAt] says until when. A
// gateway that starts does the same, because it does not know what was lost
// before. SPEC.md, section 11, has the rules and why they hold; a model in the
// tests explores them.
//
// # What no rule closes
//
// Replication is asynchronous. Three things can make a token work twice:
//
//   - Split brain: a primary that is cut off still serves some gateways while
//     its promoted replica serves others. Each accepts a token once, for as
//     long as that lasts. On a primary without its replica,
//     min-replicas-to-write 1 ends it after min-replicas-max-lag; in a Cluster,
//     cluster-node-timeout ends it.
//   - A server comes back within 15 seconds, with the data that it had.
//     Gateways spent tokens at another one meanwhile, and the first still has
//     its nonce. Keep it away for longer than 15 seconds plus any step back of
//     its clock, however short tokens live.
//   - A virtual machine goes on from a snapshot of its memory. Restart the
//     server.
//
// If two entries for one token must be impossible in every partition, use
// [github.com/seed17cb2b26/chattoken/replay/etcd], or one server without
// failover: while that is down, every token is refused. SIZING.md says how to
// move a fleet to another server and how to run behind a managed failover.
//
// # Clocks
//
// The guard compares the server's clock with its own when it connects, and
// every five seconds. If they are further apart than ClockSkew, it refuses with
// [ErrClock], and [Stats.Reasons] says which is ahead. A spend also reads the
// server's clock. It is refused if the token was issued more than ClockSkew
// ahead of that, or if that is off by about half a minute. If all clocks were
// far ahead when a guard started, it is not ready until they show that time
// again: restart it. So run NTP on servers and gateways, let it adjust clocks
// gradually, and monitor it.
//
// # Server
//
// The server must be of version 7.0 or later, with maxmemory-policy noeviction,
// and the append-only file on. New refuses anything else, and Spend does so
// within five seconds after a change. [Config.AcceptEviction] and
// [Config.AcceptNoAppendOnlyFile] lift the last two conditions.
//
// The connection may pass through a proxy for TCP or TLS. It must not pass
// through one that speaks the protocol, which could change servers without a
// new connection. The guard does not ask Sentinel; give it a name or an address
// that follows the primary.
//
// SIZING.md says what memory, how many servers and which latency to plan for,
// and which commands the guard needs. It tries them at the start.
package valkey

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/replay"
)

// Guard spends tokens on Valkey or Redis, and implements [token.Guard]. Make it
// with [New]; a zero or nil Guard refuses everything. It is safe for concurrent
// use, must not be copied, and runs three goroutines for each server until
// [Guard.Close].
type Guard struct {
	config Config

	waiting  atomic.Int64 // unanswered calls of Spend
	requests sync.Pool    // of *request
	topology atomic.Pointer[topology]
	revoked  replay.Revocations
	synced   atomic.Pointer[time.Time]
	closed   chan struct{}
	count    counters

	mu       sync.Mutex // held to change topology, marks or a belief
	surveyed time.Time  // when the Cluster's topology was last asked for
	mapped   time.Time  // when the current topology was asked for

	recentMu sync.Mutex
	recent   []revocation // what this process revoked lately
}

// New makes a guard. It asks the server, or those of the Cluster, whether they
// are fit. If they are not, or don't answer, it fails with one of the errors
// above, which then prints what the Dialer or TLS said. Another error says
// which field of c is outside its limits. New takes Config.Timeout at most, and
// not longer than ctx.
//
// The guard refuses what was issued before now: see [Guard.ReadyAt].
func New(ctx context.Context, c Config) (*Guard, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Guard{
		config:  c,
		revoked: replay.Revocations{MaxEntries: moreRoom * c.MaxRevocations},
		closed:  make(chan struct{}),
	}
	g.count.reasons = make(map[string]uint64)
	g.topology.Store(new(topology))
	g.requests.New = func() any {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return &request{timer: timer, done: make(chan struct{}, 1)}
	}
	began := c.Now()
	g.synced.Store(&began)
	err = g.within(ctx, func(until time.Time) error {
		err := g.survey(until)
		if err == nil {
			// One attempt.
			err = g.each(time.Now(), func(n *node) error { return n.askAnew(until) })
		}
		return err
	})
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// made reports whether g comes from New.
func (g *Guard) made() bool { return g != nil && g.closed != nil }

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

// Close ends the guard and its connections. Calls that wait return [ErrClosed].
// It may be called more than once.
func (g *Guard) Close() {
	if !g.made() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended() {
		return
	}
	close(g.closed) // no other topology is installed now
	for _, n := range g.topology.Load().nodes {
		n.retire()
	}
}

// ended reports whether g is closed.
func (g *Guard) ended() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

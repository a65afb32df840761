// Package valkey lets each chat token be used once by a whole fleet of
// gateways. Their common memory is a Valkey or Redis server, or a Cluster.
//
// [New] makes a [Guard], which goes into token.Opener.Guard of every gateway.
// [Guard.RevokeUser] and its siblings revoke what was issued to a user, to a room or
// to everyone. Called on one gateway, they are in force on all: each later Spend,
// wherever it is, refuses the tokens, and needs no further round trip for that.
//
// # What is promised
//
// Of all calls of [Guard.Spend] with one token, on any gateway with the same
// servers and Prefix, at most one returns true. A reply that is late or lost does
// not make a fresh token look spent: each call writes a random value of its own,
// the same one in all its attempts. If it finds that value in the reply, an earlier
// attempt has succeeded. Where the guard cannot tell, it refuses with an error that
// says why and matches [replay.ErrUnavailable].
//
// A spend is one round trip:
//
//	SET <prefix><token ID> <value of this call> NX GET PX <what is left of the token + Margin>
//	GET <prefix>{n}:guard-state
//	TIME
//
// Calls that wait at the same time travel in one pipeline, and share the last two
// commands. Only two replies to the SET mean that the token is fresh: nil, and the
// value of this call.
//
// # Loss of data
//
// A server that restarts may have lost what was spent, and so may a replica that
// takes over. The guard notices both before it believes an answer: such a server
// can only be reached over a new connection, and the first thing that the guard
// asks over a new connection is which process is there. If it is not the same as
// before, or has another replication history or count of evictions, the tokens
// issued before that moment are refused, by the rule in the documentation of
// package replay: those that were made already, and those made in the next
// ClockSkew and a second. [Guard.ReadyAt] says until when.
//
// The state key says for which process the data are complete, and since when. The
// guard reads it with each spend, so it also notices FLUSHALL, a data set that was
// swapped or restored, and a loss that another gateway has found. Where a single
// server's data are complete, a gateway that starts is ready at once, which a
// replay.Guard is not.
//
// Over a connection that stays open, the guard asks every five seconds. Two things
// escape it:
//
//   - A primary is made a replica of another server and a primary again, all within
//     five seconds, and the state key that it copied is the same as its own was.
//     Afterwards, close its connections: CLIENT KILL TYPE normal.
//   - A virtual machine goes on from an earlier snapshot of its memory. Afterwards,
//     restart the server.
//
// # Failover
//
// Replication is asynchronous. What a replica did not receive before it took over
// is no danger: the tokens concerned were issued before, and are refused as above.
// What remains is two primaries at once. While one that is cut off still serves
// some gateways, and its promoted replica serves others, each of the two lets a
// token in once. Config.Replicas closes that case as far as WAIT can, by refusing
// what no replica has confirmed; the server's min-replicas-to-write limits how long
// it lasts. Neither is consensus. If two entries for one token must be impossible in
// every partition, use one server without failover: while it is down, all is
// refused.
//
// # Clocks
//
// No gateway's clock can make a spent token good again. Each reply carries the
// server's clock. By that clock a token is let in only until half of Margin after
// its expiration, and the server remembers it for longer. Where the clocks of
// gateway and server differ by so much that this is not certain, the guard refuses
// with [ErrClock]. One gap is left: a server whose clock jumps ahead by more than
// half of Margin, and back again, forgets early. So run NTP on servers and gateways,
// have it adjust clocks gradually, and monitor it.
//
// # The server
//
// It has to be of version 7.0 or later, with maxmemory-policy noeviction, and the
// append-only file on. New refuses anything else, and Spend does so within five
// seconds after a change. [Config].AcceptEviction and AcceptNoAppendOnlyFile lift
// the last two conditions.
//
// The guard needs the commands AUTH, HELLO, PING, SET, GET, TIME, INFO and EVAL,
// and within EVAL the commands HGET, HSET, HDEL, PEXPIRE, PTTL, ZADD, ZCARD, ZRANGE,
// ZRANGEBYSCORE, ZREM and ZREVRANGE; WAIT with Config.Replicas; CLUSTER SLOTS in a
// Cluster.
//
// The connection may pass through a proxy for TCP or TLS, but not through one that
// speaks the protocol: it could change servers without a new connection. The guard
// does not ask Sentinel; give it a name or an address that follows the primary.
//
// SIZING.md says what memory, how many servers and which latency to plan for.
//
// # Errors
//
// A token that was spent is not an error: Spend reports that it is not fresh. Errors
// are allocated once, and contain nothing of the token and nothing that the
// server said.
package valkey

import (
	"context"

	"github.com/seed17cb2b26/chattoken/internal/verdict"
	"github.com/seed17cb2b26/chattoken/replay"
)

// The errors for tokens that were revoked: [ErrRevoked] where the token was issued
// before its user or its room was revoked, and [ErrAllRevoked], which matches it,
// where only everyone was. They are those of package token.
var (
	ErrRevoked    = replay.ErrRevoked
	ErrAllRevoked = replay.ErrAllRevoked
)

// The reasons of a [Guard] for not telling. All match replay.ErrUnavailable,
// which is token.ErrUnavailable. After one, the token may be spent or not.
var (
	// ErrDataLost says that the token was issued before the servers may have lost
	// what was spent. Tokens that are issued from [Guard.ReadyAt] on are accepted;
	// this one never will be.
	ErrDataLost = verdict.Unavailable("valkey: issued before the server may have lost data")

	// ErrTooLong says that the token expires later, or was issued further ahead
	// of the clock, than the guard was configured for: Config.MaxTTL or ClockSkew
	// is less than the ring's.
	ErrTooLong = replay.ErrTooLong

	// ErrBusy says that Config.MaxWaiting calls are waiting already.
	ErrBusy = verdict.Unavailable("valkey: too many calls are waiting")

	// ErrTimeout says that there was no reply within Config.Timeout.
	ErrTimeout = verdict.Unavailable("valkey: no reply in time")

	// ErrCanceled says that the context of the call ended first.
	ErrCanceled error = &canceled{}

	// ErrConnection says that the server cannot be reached, or hangs up.
	ErrConnection = verdict.Unavailable("valkey: no connection to the server")

	// ErrAuth says that the server refused user, password or a command.
	ErrAuth = verdict.Unavailable("valkey: not authorized by the server")

	// ErrLoading says that the server is still reading its data from disk, or is
	// kept busy by somebody's script.
	ErrLoading = verdict.Unavailable("valkey: the server is loading or busy")

	// ErrReadOnly says that the server is a replica, and that the guard knows of no
	// primary in its place.
	ErrReadOnly = verdict.Unavailable("valkey: the server is a read-only replica")

	// ErrOutOfMemory says that the server has reached its maxmemory.
	ErrOutOfMemory = verdict.Unavailable("valkey: the server is out of memory")

	// ErrReplicas says that fewer replicas confirmed the write than
	// Config.Replicas or the server's min-replicas-to-write ask for.
	ErrReplicas = verdict.Unavailable("valkey: not enough replicas")

	// ErrPersistence says that the server refuses writes because it cannot save
	// them.
	ErrPersistence = verdict.Unavailable("valkey: the server cannot write to disk")

	// ErrCluster says that the Cluster is down, or is moving this token's slot.
	ErrCluster = verdict.Unavailable("valkey: the cluster does not serve this slot")

	// ErrClock says that the clocks of server and gateway differ by too much.
	ErrClock = verdict.Unavailable("valkey: the clocks of server and gateway differ")

	// ErrVersion says that the server is older than 7.0.
	ErrVersion = verdict.Unavailable("valkey: the server is older than version 7.0")

	// ErrEviction says that the server may evict keys: see
	// Config.AcceptEviction.
	ErrEviction = verdict.Unavailable("valkey: the server's maxmemory-policy is not noeviction")

	// ErrNoAppendOnlyFile says that the server keeps no append-only file: see
	// Config.AcceptNoAppendOnlyFile.
	ErrNoAppendOnlyFile = verdict.Unavailable("valkey: the server has no append-only file")

	// ErrReply says that a reply is none of those that are expected.
	ErrReply = verdict.Unavailable("valkey: unexpected reply")

	// ErrClosed says that the guard is closed, or was not made with [New].
	ErrClosed = verdict.Unavailable("valkey: the guard is closed")
)

// canceled matches the errors of package context, as well as ErrUnavailable.
type canceled struct{}

func (*canceled) Error() string { return "valkey: the context of the call ended" }

func (*canceled) Is(target error) bool {
	return target == replay.ErrUnavailable || target == context.Canceled || target == context.DeadlineExceeded
}

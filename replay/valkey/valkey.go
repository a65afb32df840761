// Package valkey lets each chat token be used once by a whole fleet of
// gateways. Their common memory is a Valkey or Redis server, or a Cluster.
//
// [New] makes a [Guard], which goes into token.Opener.Guard of every gateway.
// Users, rooms or all are revoked with [Guard.RevokeUser] and its siblings, on
// any gateway; all of them refuse the tokens from then on, without another
// round trip.
//
// # What is promised
//
// Of all calls of [Guard.Spend] with one token, on any gateway with the same
// servers and Prefix, at most one returns true. A token that nobody has spent is
// never called spent because a reply was late or lost: each call has a random
// value of its own, its attempts are repeated with that, and an attempt that
// succeeded unheard is recognized by it. Where the guard cannot tell, it refuses
// with an error that says why and matches [replay.ErrUnavailable].
//
// A spend is one round trip:
//
//	SET <prefix><token ID> <value of this call> NX GET PX <what is left of the token + Margin>
//	GET <prefix>{n}:guard-state
//	TIME
//
// Calls that wait at the same time travel in one pipeline, and share the last two
// commands. Only two replies to the SET are ever taken for yes: nil, and the value
// of this call.
//
// # Loss of data
//
// A server that restarts may have lost what was spent, and so may a replica that
// takes over. Both are noticed before any answer of theirs is believed: they can
// only be reached by a new connection, and over each of those the guard first
// asks who is there. If it is another process than before, or one whose
// replication history or evictions changed, the tokens issued before that moment
// are refused, by the rule in the documentation of package replay: for about
// ClockSkew and a second, tokens have to be fetched anew. [Guard.ReadyAt] says
// until when.
//
// Over a connection that stays, the guard asks every five seconds. So what it
// does not see in time is a primary that is made a replica and a primary again in
// less than that, and has the state of another one whose data was the same before.
// Nor does it see a machine that goes on from a snapshot of its memory. Close the
// connections (CLIENT KILL TYPE normal) after the former, and restart the server
// after the latter.
//
// The state key holds for which process the data is whole, and since when. It is
// read together with each spend, so that FLUSHALL, a swapped or restored data set
// and what other gateways found out are noticed too. A gateway that starts, and
// finds the data whole, need not wait as a replay.Guard has to.
//
// # Failover
//
// Replication is asynchronous. What a replica did not receive before it took
// over is covered by the above, as the tokens concerned were issued before. What
// remains is two primaries at once: while one that is cut off still serves some
// gateways, and its promoted replica others, each of them lets a token in once.
// Config.Replicas closes that case as far as WAIT can, by refusing what no replica
// has confirmed; min-replicas-to-write bounds it. Neither is consensus. Where two
// entries for one token must be impossible in every partition, use one server
// without failover: while it is down, all is refused.
//
// # Clocks
//
// No gateway's clock can make a spent token good again. The reply has the server's
// clock, and by that a token counts only until half of Margin after its
// expiration, while it is remembered for longer than that. A gateway whose clock,
// or a server whose clock, is wrong by so much that this cannot be told refuses
// with [ErrClock]. What is left is a server's clock that jumps ahead by more than
// half of Margin, and back again: it forgets early. So run NTP on servers and
// gateways, let it slew, and monitor it.
//
// # The server
//
// Version 7.0 or later; maxmemory-policy noeviction; the append-only file on. New
// refuses anything else, and so does Spend within five seconds after it has changed,
// unless a setting whose name begins with Accept accepts it. The guard needs the commands AUTH, HELLO,
// PING, SET, GET, TIME, INFO, EVAL, and in it HGET, HSET, HDEL, PEXPIRE, PTTL,
// ZADD, ZCARD, ZRANGE, ZRANGEBYSCORE, ZREM and ZREVRANGE; WAIT with
// Config.Replicas; CLUSTER SLOTS in a Cluster. The connection may pass through
// a proxy for TCP or TLS, but not through one that speaks the protocol: it could
// change servers behind the guard's back. Sentinel is not asked; a name or an
// address that follows the primary will do.
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
// before its user or its room was, and [ErrAllRevoked], which matches it, where that
// was everyone. They are those of package token.
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
	// of the clock, than the guard was configured for.
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

	// ErrLoading says that the server is reading its data from disk, or runs a
	// script for too long.
	ErrLoading = verdict.Unavailable("valkey: the server is loading or busy")

	// ErrReadOnly says that the server is a replica, and that nobody told the
	// guard of its primary.
	ErrReadOnly = verdict.Unavailable("valkey: the server is a read-only replica")

	// ErrOutOfMemory says that the server has no room for another token.
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

// canceled matches the errors of a context besides.
type canceled struct{}

func (*canceled) Error() string { return "valkey: the context of the call ended" }

func (*canceled) Is(target error) bool {
	return target == replay.ErrUnavailable || target == context.Canceled || target == context.DeadlineExceeded
}

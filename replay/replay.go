// Package replay lets each chat token be used once, and takes tokens back.
//
// [New] makes a [Guard], which goes into token.Opener.Guard and remembers, in
// memory, every token that was spent until it expires. [Guard.Revoke] ends the
// tokens and sessions of a user, a room or everyone that were issued before
// some moment, or a single one.
//
// # What is promised
//
// Of all calls of [Guard.Spend] with one token, at most one returns true: not
// one more because many ask at once, because the clock was set, forward, back
// or both, because the guard is full, or because a goroutine or the process
// stood still for longer than a token lives. If the guard cannot know, it
// refuses.
//
// The promise is one guard's. Two guards, and two processes, let a token in
// once each: for several gateways there are replay/valkey and replay/etcd, with
// the same methods. A new guard does not know what an earlier one let in, so it
// refuses all tokens issued before it was made: see [Guard.ReadyAt].
//
// Both restarts and revocations judge what was issued before a moment as
// token.Summary.IssuedBefore has it, because the minter's clock may be ahead.
//
// # Errors
//
// A token that was spent is not an error: Spend reports that it is not fresh.
// The sentinels below say why Spend could not tell, and match
// token.ErrUnavailable. No error contains anything of the token.
package replay

import "github.com/seed17cb2b26/chattoken/token"

// What the zero value of a field means.
const (
	DefaultRate           = 10_000  // Config.Rate
	DefaultMaxRevocations = 1 << 16 // Config.MaxRevocations, Revocations.MaxEntries
)

// The reasons of a [Guard] for not telling.
var (
	// ErrFull says that as many tokens are remembered as there is room for. It
	// ends when some of them expire. From Revoke it says that there is no room
	// for another revocation, and nothing was revoked.
	ErrFull = token.Unavailable("replay: full")

	// ErrBeforeStart says that the token was issued before the guard was made,
	// so that an earlier one may have let it in. Those that are issued from
	// [Guard.ReadyAt] on are accepted; this one never will be.
	ErrBeforeStart = token.Unavailable("replay: issued before the guard started")

	// ErrForgotten says that the token expires in a second of which the guard
	// has forgotten what was spent: it is over, or the clock was once beyond
	// it.
	ErrForgotten = token.Unavailable("replay: expiration already forgotten")

	// ErrTooLong says that the token expires later, or was issued further ahead
	// of the clock, than the guard was configured for: Config.Limits are below
	// the ring's.
	ErrTooLong = token.Unavailable("replay: the token lives longer or is further ahead than Config.Limits allow")
)

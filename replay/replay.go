// Package replay lets each chat token be used once, and revokes tokens.
//
// [New] makes a [Guard]; set it as [token.Opener.Guard]. It remembers in memory
// every spent token until that expires. [Guard.Revoke] ends the tokens and
// sessions of a user, a room or everyone that were issued before some moment,
// or a single token.
//
// # Guarantee
//
// Of all calls of [Guard.Spend] with one token, at most one returns true. That
// holds with concurrent calls, a clock set forward or back, a full guard, and a
// process that stands still for longer than a token lives. If the guard cannot
// know, it refuses.
//
// The guarantee covers one guard. Two guards, or two processes, accept a token
// once each. For several gateways there are
// [github.com/seed17cb2b26/chattoken/replay/valkey] and
// [github.com/seed17cb2b26/chattoken/replay/etcd], with the same methods. A new
// guard doesn't know what an earlier one accepted, so it refuses all tokens
// issued before it was made: see [Guard.ReadyAt].
//
// Restarts and revocations compare by [token.Summary.IssuedBefore], because the
// issuer's clock may be ahead.
//
// # Errors
//
// A spent token is not an error: Spend reports that it isn't fresh. The errors
// below say why Spend could not tell, and match [token.ErrUnavailable]. No
// error contains anything of the token.
package replay

import "github.com/seed17cb2b26/chattoken/token"

// Defaults of [Config] and [Revocations].
const (
	DefaultRate           = 10_000  // Config.Rate
	DefaultMaxRevocations = 1 << 16 // and Revocations.MaxEntries
)

// Why a [Guard] could not tell.
var (
	// ErrFull: the guard remembers as many tokens as it has room for. Room
	// returns as they expire. From Revoke: there is no room for another
	// revocation, and nothing was revoked.
	ErrFull = token.Unavailable("replay: full")

	// ErrBeforeStart: the token was issued before the guard was made, so an
	// earlier guard may have accepted it. It is never accepted; tokens
	// issued from [Guard.ReadyAt] on are.
	ErrBeforeStart = token.Unavailable("replay: issued before the guard started")

	// ErrForgotten: the token expires in a second that the guard has
	// forgotten. Either that second is past, or the clock was once beyond
	// it.
	ErrForgotten = token.Unavailable("replay: expiration already forgotten")

	// ErrTooLong: the token expires later, or was issued further ahead of
	// the clock, than Config.Limits allow. They are below the ring's.
	ErrTooLong = token.Unavailable("replay: the token lives longer or is further ahead than Config.Limits allow")
)

// Package replay lets each chat token be used once, and takes tokens back that
// were not used yet.
//
// [New] makes a [Guard], which goes into token.Opener.Guard and remembers, in
// memory, every token that was spent until it expires. [Revocations] refuses
// the tokens of a user or a room that were issued before some moment; its
// Check method goes into token.Opener.Revoked.
//
// # What is promised
//
// Of all calls of [Guard.Spend] with one token, at most one returns true: not
// one more because many ask at once, because the clock was set, forward, back
// or both, because the guard is full, or because a goroutine or the process
// stood still for longer than a token lives. Where the guard cannot know, it
// refuses.
//
// The promise is one guard's. Two guards, and two processes, let a token in
// once each: for several gateways there is replay/valkey. A new guard does not
// know what an earlier one let in, so it refuses all tokens issued before it
// was made: see [Guard.ReadyAt].
//
// # Issued before
//
// Tokens carry the second in which they were issued, by a clock that may be
// ahead of this one by the ClockSkew of the ring's policy. A token therefore
// counts as issued before a moment T unless its issued-at is later than T,
// rounded down to the second, plus ClockSkew. Restarts and revocations both go
// by that rule; SPEC.md shows that simpler ones let replays through.
//
// # Errors
//
// A token that was spent is not an error: Spend reports that it is not fresh.
// Errors say why the guard could not tell; they match [ErrUnavailable], are
// allocated once, and contain nothing of the token.
package replay

import "github.com/seed17cb2b26/chattoken/internal/verdict"

var (
	// ErrRevoked says that the token was issued before its user or its room was
	// revoked. It is token.ErrRevoked.
	ErrRevoked = verdict.ErrRevoked

	// ErrAllRevoked says that the token was issued before everyone was revoked,
	// and matches ErrRevoked. It is token.ErrAllRevoked.
	ErrAllRevoked = verdict.ErrAllRevoked

	// ErrUnavailable is what all reasons of a [Guard] for not telling match. It
	// is token.ErrUnavailable.
	ErrUnavailable = verdict.ErrUnavailable
)

// The reasons of a [Guard] for not telling.
var (
	// ErrFull says that as many tokens are remembered as there is room for. It
	// ends when some of them expire.
	ErrFull = verdict.Unavailable("replay: full")

	// ErrBeforeStart says that the token was issued before the guard was made,
	// so that an earlier one may have let it in. Those that are issued from
	// [Guard.ReadyAt] on are accepted; this one never will be.
	ErrBeforeStart = verdict.Unavailable("replay: issued before the guard started")

	// ErrForgotten says that the token expires in a second of which the guard
	// has forgotten what was spent: it is over, or the clock was once beyond it.
	ErrForgotten = verdict.Unavailable("replay: expiration already forgotten")

	// ErrTooLong says that the token expires later, or was issued further ahead
	// of the clock, than the guard was configured for: Config.MaxTTL or ClockSkew
	// is less than the ring's.
	ErrTooLong = verdict.Unavailable("replay: expires or was issued later than the guard is configured for")
)

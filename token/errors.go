package token

import (
	"context"
	"errors"

	"github.com/seed17cb2b26/chattoken/internal/verdict"
)

// ErrInvalid is what an unauthenticated token is. The kinds below match it and
// have its text.
var ErrInvalid = errors.New("token: invalid")

// The kinds of [ErrInvalid]. They are not those of package keyring, which
// Opener never returns.
var (
	ErrMalformed  error = &invalid{"malformed"}   // not the text of a token
	ErrUnknownKey error = &invalid{"unknown-key"} // no such key in the ring, or no longer
	ErrRevokedKey error = &invalid{"revoked-key"} // its key was revoked
	ErrForged     error = &invalid{"forged"}      // made or changed by someone without the key
)

// Errors about authentic tokens.
var (
	ErrPayload      = errors.New("token: authentic, but not understood by this version")
	ErrNotYetValid  = errors.New("token: issued in the future")
	ErrTokenExpired = errors.New("token: expired")
	ErrSpent        = errors.New("token: already used")

	// ErrRevoked says that the tokens of this user or room issued up to some
	// moment were revoked.
	ErrRevoked = verdict.ErrRevoked

	// ErrAllRevoked says that everyone's tokens issued up to some moment were
	// revoked, and not this user's or room's alone: later ones will do. It
	// matches ErrRevoked.
	ErrAllRevoked = verdict.ErrAllRevoked

	// ErrUnavailable says that a guard or an admission rule could not tell (it
	// is down or full): the token is refused. A guard that failed may have
	// spent it.
	ErrUnavailable = verdict.ErrUnavailable
)

// Errors of [Session.Authorize].
var (
	ErrSessionExpired = errors.New("token: session expired")
	ErrNotPermitted   = errors.New("token: not permitted")
)

// invalid is a kind of ErrInvalid.
type invalid struct{ kind string }

func (*invalid) Error() string        { return ErrInvalid.Error() }
func (*invalid) Is(target error) bool { return target == ErrInvalid }

// Advice is what a client whose token was refused should do. The zero value is
// no advice.
type Advice uint8

const (
	// FetchNewToken: ask the application for another token, with backoff, and
	// never present the same one again.
	FetchNewToken Advice = iota + 1
	// GiveUp: another token will not help.
	GiveUp
	// TryLater: the server is in trouble, or has just revoked everyone's tokens;
	// wait, then fetch a new one.
	TryLater
)

// HTTPStatus returns the status to refuse a WebSocket upgrade with: 401, 403 or
// 503. For no advice it is 200.
func (a Advice) HTTPStatus() int {
	switch a {
	case FetchNewToken:
		return 401
	case GiveUp:
		return 403
	case TryLater:
		return 503
	}
	return 200
}

// String returns "none", "fetch-new-token", "give-up" or "try-later".
func (a Advice) String() string {
	switch a {
	case FetchNewToken:
		return "fetch-new-token"
	case GiveUp:
		return "give-up"
	case TryLater:
		return "try-later"
	}
	return "none"
}

// refusals lists every error of this package with its name in [Reason] and the
// advice that goes with it. The finer kinds come before what they match.
//
// An invalid token asks for a new one, like an expired one: a key that was lost
// in a restart makes honest tokens invalid.
var refusals = [...]struct {
	err    error
	reason string
	advice Advice
}{
	{ErrMalformed, "malformed", FetchNewToken},
	{ErrUnknownKey, "unknown-key", FetchNewToken},
	{ErrRevokedKey, "revoked-key", FetchNewToken},
	{ErrForged, "forged", FetchNewToken},
	{ErrInvalid, "invalid", FetchNewToken},
	{ErrPayload, "payload", FetchNewToken},
	{ErrNotYetValid, "not-yet-valid", FetchNewToken},
	{ErrTokenExpired, "expired", FetchNewToken},
	{ErrSpent, "spent", FetchNewToken},
	{ErrAllRevoked, "all-revoked", TryLater},
	{ErrRevoked, "revoked", GiveUp},
	{ErrUnavailable, "unavailable", TryLater},
	{ErrSessionExpired, "session-expired", FetchNewToken},
	{ErrNotPermitted, "not-permitted", GiveUp},
	{context.Canceled, "canceled", TryLater},
	{context.DeadlineExceeded, "canceled", TryLater},
}

// Action tells a gateway what a client should do after err, which [Opener.Open]
// or [Session.Authorize] returned. An error that this package does not know is
// an admission rule's own refusal: GiveUp. That of a context that has ended is
// known: TryLater. For nil there is no advice.
func Action(err error) Advice {
	advice, _ := judge(err)
	return advice
}

// Reason names err for counters and logs, in one of a fixed set of words. From
// Open they are "malformed", "unknown-key", "revoked-key", "forged", "payload",
// "not-yet-valid", "expired", "spent", "revoked", "all-revoked", "unavailable", and
// "canceled" where a rule returned the error of a context; from Authorize
// "session-expired" and "not-permitted". "refused" is any other error, as an
// admission rule's own, "invalid" is [ErrInvalid] itself, "" is nil. The words
// are not for the client, who is to learn no more than the error's text.
func Reason(err error) string {
	_, reason := judge(err)
	return reason
}

func judge(err error) (Advice, string) {
	if err == nil {
		return 0, ""
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.advice, r.reason
		}
	}
	return GiveUp, "refused"
}

package token

import (
	"context"
	"errors"
)

// What an unauthenticated token is. All match [ErrInvalid] and have its text, so
// that a stranger learns nothing else.
var (
	ErrInvalid          = errors.New("token: invalid")
	ErrMalformed  error = &invalid{"malformed"}   // not the text of a token
	ErrUnknownKey error = &invalid{"unknown-key"} // no such key in the ring, or no longer
	ErrRevokedKey error = &invalid{"revoked-key"} // its key was revoked
	ErrForged     error = &invalid{"forged"}      // made or changed by someone without the key
)

// Errors about authentic tokens, and of [Session.Authorize].
var (
	ErrPayload      = errors.New("token: authentic, but not understood by this version")
	ErrNotYetValid  = errors.New("token: issued in the future")
	ErrTokenExpired = errors.New("token: expired")
	ErrSpent        = errors.New("token: already used")

	// ErrRevoked says that this token was revoked, or those of its user or room
	// that were issued up to some moment. A later one will do.
	ErrRevoked = errors.New("token: revoked")

	// ErrAllRevoked says that everyone's tokens issued up to some moment were
	// revoked, and not this user's or room's alone. It matches ErrRevoked.
	ErrAllRevoked error = allRevoked{}

	// ErrUnavailable says that a guard or an admission rule could not tell (it
	// is down or full): the token is refused. A guard that failed may have
	// spent it.
	ErrUnavailable = errors.New("token: unavailable")

	ErrSessionExpired = errors.New("token: session expired")
	ErrNotPermitted   = errors.New("token: not permitted")
)

// Unavailable returns an error with a text of its own that matches
// [ErrUnavailable], for the sentinels of a [Guard].
func Unavailable(text string) error { return &unavailable{text} }

type unavailable struct{ text string }

func (e *unavailable) Error() string      { return e.text }
func (*unavailable) Is(target error) bool { return target == ErrUnavailable }

type allRevoked struct{}

func (allRevoked) Error() string        { return "token: all revoked" }
func (allRevoked) Is(target error) bool { return target == ErrRevoked }

// errNotSpent is ErrNotPermitted with a text that helps who calls the wrong
// method.
var errNotSpent error = notSpent{}

type notSpent struct{}

func (notSpent) Error() string {
	return "token: not permitted: the token was opened without spending it"
}
func (notSpent) Is(target error) bool { return target == ErrNotPermitted }

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
	// FetchNewTokenLater: the same, after the ring's ClockSkew and a second. A
	// token that is minted earlier may count as revoked, too. Whether the user may
	// come back is up to the application, which mints another token or does not.
	FetchNewTokenLater
	// GiveUp: another token will not help.
	GiveUp
	// TryLater: the server is in trouble; wait, then fetch a new token.
	TryLater
)

// advices has the name and the HTTP status of each Advice.
var advices = [...]struct {
	name   string
	status int
}{
	0:                  {"none", 200},
	FetchNewToken:      {"fetch-new-token", 401},
	FetchNewTokenLater: {"fetch-new-token-later", 401},
	GiveUp:             {"give-up", 403},
	TryLater:           {"try-later", 503},
}

// HTTPStatus returns the status to refuse a WebSocket upgrade with: 401, 403 or
// 503. For no advice it is 200.
func (a Advice) HTTPStatus() int { return advices[a.index()].status }

// String returns "none", "fetch-new-token", "fetch-new-token-later", "give-up" or
// "try-later".
func (a Advice) String() string { return advices[a.index()].name }

func (a Advice) index() int {
	if int(a) >= len(advices) {
		return 0
	}
	return int(a)
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
	{ErrAllRevoked, "all-revoked", FetchNewTokenLater},
	{ErrRevoked, "revoked", FetchNewTokenLater},
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

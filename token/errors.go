package token

import (
	"context"
	"errors"
)

// What an unauthenticated token is. All match [ErrInvalid] and have its text,
// so that a stranger learns nothing else.
var (
	ErrInvalid          = errors.New("token: invalid")
	ErrMalformed  error = &invalid{"malformed"}   // not the text of a token
	ErrUnknownKey error = &invalid{"unknown-key"} // no such key in the ring, or no longer
	ErrRevokedKey error = &invalid{"revoked-key"} // its key was revoked
	ErrForged     error = &invalid{"forged"}      // made or changed by someone without the key
)

// Errors about authentic tokens, and of [Session.Authorize].
var (
	// ErrPayload says that a later version minted the token, or another program
	// that has the keys.
	ErrPayload = errors.New("token: authentic, but not understood by this version")

	// ErrNotYetValid says that a clock is wrong by more than ClockSkew.
	ErrNotYetValid = errors.New("token: issued in the future")

	// ErrTokenExpired says that the token can open no connection any more.
	ErrTokenExpired = errors.New("token: expired")

	// ErrSpent says that the token was used before.
	ErrSpent = errors.New("token: already used")

	// ErrRevoked says that this token was revoked, or those of its user or room
	// that were issued before some moment.
	ErrRevoked = errors.New("token: revoked")

	// ErrAllRevoked says that everyone's tokens issued before some moment were
	// revoked, and not this user's or room's alone. It matches ErrRevoked.
	ErrAllRevoked error = allRevoked{}

	// ErrUnavailable says that a guard or an admission rule could not tell (it
	// is down or full), that the Opener is not set up, or that the Session was
	// in use. The token is refused. A guard that failed may have spent it.
	ErrUnavailable = errors.New("token: unavailable")

	// ErrSessionExpired says that the connection is to be closed.
	ErrSessionExpired = errors.New("token: session expired")

	// ErrNotPermitted says that the token does not have the capability.
	ErrNotPermitted = errors.New("token: not permitted")
)

// Unavailable returns a new error with this text. It matches [ErrUnavailable].
// Guards make their sentinels with it.
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
	// FetchNewTokenLater: the same, not before Limits.ClockSkew of the ring and
	// a second have passed; say so with Retry-After. A token that is minted
	// earlier counts as revoked, too. Whether the user may come back is up to
	// the application, which mints another token or does not.
	FetchNewTokenLater
	// GiveUp: another token will not help.
	GiveUp
	// TryLater: the server is in trouble; wait, then fetch a new token.
	TryLater
)

// advices has the name, the HTTP status and the close code of each Advice.
var advices = [...]struct {
	name   string
	status int
	code   int
}{
	0:                  {"none", 200, 1000},
	FetchNewToken:      {"fetch-new-token", 401, 4401},
	FetchNewTokenLater: {"fetch-new-token-later", 401, 4401},
	GiveUp:             {"give-up", 403, 4403},
	TryLater:           {"try-later", 503, 1013},
}

// HTTPStatus returns the status to refuse a WebSocket upgrade with: 401, 403 or
// 503. For no advice it is 200.
func (a Advice) HTTPStatus() int { return advices[a.index()].status }

// CloseCode returns the WebSocket close code (RFC 6455, section 7.4) to end a
// connection with: 4401 for a new token, 4403 to give up, 1013 to try later. A
// browser sees it, but not the status of an upgrade that was refused. For no
// advice it is 1000.
func (a Advice) CloseCode() int { return advices[a.index()].code }

// String returns "none", "fetch-new-token", "fetch-new-token-later", "give-up"
// or "try-later".
func (a Advice) String() string { return advices[a.index()].name }

// index of what is no Advice is GiveUp, to fail closed.
func (a Advice) index() Advice {
	if int(a) >= len(advices) {
		return GiveUp
	}
	return a
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
// or [Session.Authorize] returned. The error of a context is TryLater. Any
// other error that this package does not know comes from Admit: GiveUp. For nil
// there is no advice.
func Action(err error) Advice {
	advice, _ := judge(err)
	return advice
}

// Reason names err for counters and logs, in one of a fixed set of words. From
// Open they are "malformed", "unknown-key", "revoked-key", "forged", "payload",
// "not-yet-valid", "expired", "spent", "revoked", "all-revoked", "unavailable",
// and "canceled" for the error of a context, a deadline's too; from Authorize
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

package token

import (
	"context"
	"errors"
)

// Errors about tokens that are not authentic. All match [ErrInvalid] and have
// its text, so a stranger learns nothing more.
var (
	ErrInvalid = errors.New("token: invalid")

	// ErrMalformed says that the text is not that of a token.
	ErrMalformed error = &invalid{"malformed"}

	// ErrUnknownKey says that the ring doesn't have the key, or that it
	// expired.
	ErrUnknownKey error = &invalid{"unknown-key"}

	// ErrRevokedKey says that the token's key was revoked.
	ErrRevokedKey error = &invalid{"revoked-key"}

	// ErrForged says that someone without the key made or changed the
	// token.
	ErrForged error = &invalid{"forged"}
)

// Errors about authentic tokens, and those of [Session.Authorize].
var (
	// ErrPayload says that a later version minted the token, or another
	// program that has the keys.
	ErrPayload = errors.New("token: authentic, but not understood by this version")

	// ErrNotYetValid says that a clock is wrong by more than ClockSkew.
	ErrNotYetValid = errors.New("token: issued in the future")

	// ErrTokenExpired says that the token can no longer open a connection.
	ErrTokenExpired = errors.New("token: expired")

	// ErrSpent says that the token was used before.
	ErrSpent = errors.New("token: already used")

	// ErrRevoked says that a revocation covers the token: of its ID, or of
	// all tokens of its user or room issued before some moment.
	ErrRevoked = errors.New("token: revoked")

	// ErrAllRevoked says that a revocation covers all tokens issued before
	// some moment, not only this user's or room's. It matches ErrRevoked.
	ErrAllRevoked error = allRevoked{}

	// ErrUnavailable says that the guard or Admit could not tell because it
	// is down or full, that the Opener is not set up, or that the Session
	// was in use. A guard that failed may have spent the token.
	ErrUnavailable = errors.New("token: unavailable")

	// ErrSessionExpired says that the connection has to end.
	ErrSessionExpired = errors.New("token: session expired")

	// ErrNotPermitted says that the token does not have the capability.
	ErrNotPermitted = errors.New("token: not permitted")
)

// Unavailable returns a new error with this text that matches [ErrUnavailable].
// Guards make their sentinels with it.
func Unavailable(text string) error { return &unavailable{text} }

type unavailable struct{ text string }

func (e *unavailable) Error() string      { return e.text }
func (*unavailable) Is(target error) bool { return target == ErrUnavailable }

type allRevoked struct{}

func (allRevoked) Error() string        { return "token: all revoked" }
func (allRevoked) Is(target error) bool { return target == ErrRevoked }

// errNotSpent is ErrNotPermitted with a text for whoever calls the wrong
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

// Advice is what a client should do after its token was refused. The zero value
// is no advice.
type Advice uint8

const (
	// FetchNewToken: ask the application for another token, with backoff.
	// Never present the same one again.
	FetchNewToken Advice = iota + 1
	// FetchNewTokenLater: as FetchNewToken, but first wait for the ring's
	// Limits.ClockSkew and one second more. Tell the client with
	// Retry-After. A token minted earlier counts as revoked, too. The
	// application decides whether the user may come back: it mints another
	// token, or doesn't.
	FetchNewTokenLater
	// GiveUp: another token won't help.
	GiveUp
	// TryLater: the server is in trouble. Wait, then fetch a new token.
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

// HTTPStatus returns the status with which to refuse a WebSocket upgrade: 401,
// 403 or 503. For no advice it is 200.
func (a Advice) HTTPStatus() int { return advices[a.index()].status }

// CloseCode returns the WebSocket close code (RFC 6455, section 7.4) with which
// to end a connection: 4401 for a new token, 4403 to give up, 1013 to try
// later. For no advice it is 1000. A page in a browser sees the close code, but
// not the status of a refused upgrade.
func (a Advice) CloseCode() int { return advices[a.index()].code }

// String returns "none", "fetch-new-token", "fetch-new-token-later", "give-up"
// or "try-later".
func (a Advice) String() string { return advices[a.index()].name }

// index fails closed: if a is no Advice, it returns GiveUp.
func (a Advice) index() Advice {
	if int(a) >= len(advices) {
		return GiveUp
	}
	return a
}

// refusals lists every error of this package, its name in [Reason], and its
// advice. The finer kinds come before what they match.
//
// The advice for an invalid token is a new one, because a key that is lost in a
// restart makes honest tokens invalid.
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

// Action returns what a client should do after [Opener.Open] or
// [Session.Authorize] returned err. For nil there is no advice. The error of a
// context is TryLater. Any other error that this package doesn't know comes
// from [Opener.Admit] and is GiveUp.
func Action(err error) Advice {
	advice, _ := judge(err)
	return advice
}

// Reason names err for counters and logs, with one word of a fixed set:
//
//	Open           malformed, unknown-key, revoked-key, forged, payload,
//	               not-yet-valid, expired, spent, revoked, all-revoked,
//	               unavailable
//	Authorize      session-expired, not-permitted
//	a context      canceled, also for a deadline
//	Admit          refused, and for any other error
//	ErrInvalid     invalid, only for that error itself
//	nil            the empty string
//
// Don't send the word to the client, who may learn no more than the error's
// text.
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

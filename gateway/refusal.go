package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/token"
)

// Refusal is the error of [Gateway.Enter] and its like: why the user isn't let
// in, or can't renew. It matches Err with errors.Is and errors.As. Err is for
// logs: the rest tells a stranger nothing secret. Each Refusal is the caller's
// own.
//
// Config.Admit may return one. Zero fields mean 403, 4403 and "refused", as for
// any other error of Admit.
type Refusal struct {
	Status     int           // HTTP status of the answer: 400 to 599
	CloseCode  int           // WebSocket close code after the upgrade
	Reason     string        // one of [Reasons], or Admit's own, for counters and logs
	RetryAfter time.Duration // how long to wait before the next attempt, or 0
	Err        error         // the cause
}

// Error is a short sentence without details.
func (r *Refusal) Error() string { return "gateway: refused: " + r.word() }

// word is Reason for strangers. They don't learn in what way a token is
// invalid.
func (r *Refusal) word() string {
	if errors.Is(r.Err, token.ErrInvalid) {
		return token.Reason(token.ErrInvalid)
	}
	return r.Reason
}

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// What is wrong with a request, whatever its token.
var (
	errHandshake  = errors.New("gateway: not a WebSocket handshake")
	errVersion    = errors.New("gateway: another version of the WebSocket protocol")
	errHijack     = errors.New("gateway: the connection cannot be taken over: HTTP/2, or a ResponseWriter without Hijack")
	errOrigin     = errors.New("gateway: a page of another origin")
	errMethod     = errors.New("gateway: a stream is requested with GET")
	errFlush      = errors.New("gateway: the ResponseWriter cannot be flushed")
	errSite       = errors.New("gateway: a cookie without Origin from another site")
	errNoToken    = errors.New("gateway: no token")
	errTwoTokens  = errors.New("gateway: more than one token")
	errRoom       = errors.New("gateway: a token for another room")
	errAnother    = errors.New("gateway: a token of another user or room")
	errFull       = errors.New("gateway: full")
	errUserFull   = errors.New("gateway: too many participants of one user")
	errNotRunning = errors.New("gateway: Run does not run")
	errAdmit      = errors.New("gateway: refused by Config.Admit")
)

// Causes of an end, beside those of package token, and an error of Revoke.
var (
	// ErrDraining says that the gateway is about to stop. Connect to
	// another.
	ErrDraining = errors.New("gateway: draining")

	// ErrStopped says that Run has returned.
	ErrStopped = errors.New("gateway: stopped")

	// ErrLeft says that the participant has left.
	ErrLeft = errors.New("gateway: left")

	// ErrNotRepeated says, in an error of [Gateway.Revoke], that Run won't
	// repeat the call to the guard: 4096 revocations wait already, or the
	// error is permanent.
	ErrNotRepeated = errors.New("gateway: the revocation will not be repeated")
)

// revocation is the cause of an end by [Gateway.Revoke] or [Participant.End].
func revocation(reason string) error {
	if reason == "" {
		return token.ErrRevoked
	}
	return &kicked{reason}
}

// kicked has a moderator's reason.
type kicked struct{ reason string }

func (k *kicked) Error() string      { return k.reason }
func (*kicked) Is(target error) bool { return target == token.ErrRevoked }

// The close codes that package token does not know.
const (
	closeRestart  = 1012 // RFC 6455's registry: service restart
	closeTryLater = 1013 // try again later
	closePolicy   = 1008
	statusUpgrade = http.StatusUpgradeRequired
	statusTooMany = http.StatusTooManyRequests
	restartAfter  = time.Second
)

// refusals has the answers for the errors of this package. Package token has
// those for its own.
var refusals = [...]Refusal{
	{Err: errHandshake, Reason: "handshake", Status: http.StatusBadRequest, CloseCode: closePolicy},
	{Err: errVersion, Reason: "handshake", Status: statusUpgrade, CloseCode: closePolicy},
	{Err: errHijack, Reason: "handshake", Status: http.StatusInternalServerError, CloseCode: closePolicy},
	{Err: errMethod, Reason: "handshake", Status: http.StatusMethodNotAllowed, CloseCode: closePolicy},
	{Err: errFlush, Reason: "handshake", Status: http.StatusInternalServerError, CloseCode: closePolicy},
	{Err: errOrigin, Reason: "origin", Status: http.StatusForbidden, CloseCode: 4403},
	{Err: errSite, Reason: "origin", Status: http.StatusForbidden, CloseCode: 4403},
	{Err: errNoToken, Reason: "no-token", Status: http.StatusUnauthorized, CloseCode: 4401},
	{Err: errTwoTokens, Reason: "two-tokens", Status: http.StatusBadRequest, CloseCode: 4403},
	{Err: errRoom, Reason: "room", Status: http.StatusForbidden, CloseCode: 4403},
	{Err: errAnother, Reason: "another", Status: http.StatusForbidden, CloseCode: 4403},
	{Err: errFull, Reason: "full", Status: http.StatusServiceUnavailable, CloseCode: closeTryLater, RetryAfter: 5 * time.Second},
	{Err: errUserFull, Reason: "user-full", Status: statusTooMany, CloseCode: closeTryLater, RetryAfter: 5 * time.Second},
	{Err: errNotRunning, Reason: "not-running", Status: http.StatusServiceUnavailable, CloseCode: closeTryLater, RetryAfter: 5 * time.Second},
	{Err: ErrDraining, Reason: "draining", Status: http.StatusServiceUnavailable, CloseCode: closeRestart, RetryAfter: restartAfter},
	{Err: ErrStopped, Reason: "stopped", Status: http.StatusServiceUnavailable, CloseCode: closeRestart, RetryAfter: restartAfter},
	{Err: ErrLeft, Reason: "left", Status: http.StatusConflict, CloseCode: 1000},
}

// refuse returns the Refusal of err, which may be shared. skew is the ring's
// ClockSkew.
func refuse(err error, skew time.Duration) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.complete()
	}
	for i := range refusals {
		if errors.Is(err, refusals[i].Err) {
			return &refusals[i]
		}
	}
	advice := token.Action(err)
	r := &Refusal{Status: advice.HTTPStatus(), CloseCode: advice.CloseCode(), Reason: token.Reason(err), Err: err}
	switch advice {
	case token.FetchNewTokenLater:
		r.RetryAfter = skew + time.Second
	case token.TryLater:
		r.RetryAfter = 5 * time.Second
	}
	return r
}

// complete returns a copy that has no zero fields but RetryAfter.
func (r *Refusal) complete() *Refusal {
	c := *r
	if c.Status < 400 || c.Status > 599 {
		c.Status = token.GiveUp.HTTPStatus()
	}
	if c.CloseCode == 0 {
		c.CloseCode = token.GiveUp.CloseCode()
	}
	if c.Reason == "" {
		c.Reason = token.Reason(errAdmit)
	}
	if c.Err == nil {
		c.Err = errAdmit
	}
	return &c
}

// originError is errOrigin with what came and what the configuration expects.
type originError struct{ got, want []string }

func (*originError) Is(target error) bool { return target == errOrigin }

// Error is for logs, so it cuts what a stranger sent.
func (e *originError) Error() string {
	return fmt.Sprintf("%v: %.100q, where one of %.300q is expected", errOrigin, e.got, e.want)
}

// maxCloseReason is how many bytes a close frame has for the reason, after the
// code (RFC 6455, section 5.5).
const maxCloseReason = 125 - 2

// CloseFrame returns what to close a WebSocket with, for the cause of an end or
// a [*Refusal]. The code tells the client what to do: 4401, fetch a new token;
// 4403, give up; 1013, try later; 1012, connect to another host. The reason is
// that of [Gateway.Revoke], cut to the 123 bytes that fit, or else a word such
// as "session-expired". For nil they are 1000 and "".
func CloseFrame(cause error) (code int, reason string) {
	if cause == nil {
		return token.Advice(0).CloseCode(), ""
	}
	r := refuse(cause, 0)
	if kicked, ok := errors.AsType[*kicked](cause); ok {
		return r.CloseCode, cut(kicked.reason, maxCloseReason)
	}
	return r.CloseCode, r.word()
}

// cut returns as much of s as fits into n bytes, in valid UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// write answers the request. An EventSource asks again with a token that is
// spent or expired by then. 204 makes it stop.
func (r *Refusal) write(w http.ResponseWriter, stream bool) {
	h := w.Header()
	h.Del("Sec-WebSocket-Protocol")
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((r.RetryAfter+time.Second-1)/time.Second)))
	}
	switch {
	case stream && (r.Err == token.ErrSpent || r.Err == token.ErrTokenExpired):
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case r.Status == statusUpgrade:
		h.Set("Sec-WebSocket-Version", "13")
	case r.Status == http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	}
	http.Error(w, http.StatusText(r.Status), r.Status)
}

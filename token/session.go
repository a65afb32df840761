package token

import (
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/payload"
)

// Session is what a verified token says. Only an [Opener] can fill one in, so
// a Session that has claims is proof that a token was verified. The zero value
// has none, authorizes nothing, and is ready to be opened into.
//
// A Session from [Opener.OpenWithoutSpending] shows the same and authorizes
// nothing either.
//
// A Session owns its memory, of about the size of the claims; keep one per
// connection. The []byte that its accessors return are lent: they must not be
// written to, and are valid until the Session is opened into again or reset;
// [Session.Claims] copies everything out. Reading is safe for concurrent use.
// A Session must not be copied; there is [Session.Clone].
//
// Printed with fmt or slog, a *Session shows its token's ID and times only. A
// Session that is itself a field of another struct is out of reach for that: to
// print the struct prints the bytes of the claims.
type Session struct {
	_   noCopy
	v   verified
	buf []byte // what v.payload is a view of
}

// noCopy makes go vet report copies of what contains it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Authorize reports whether the session may do all of want at now: nil, or an
// error that matches [ErrSessionExpired] or [ErrNotPermitted]. Ask it before
// every message. An empty want is never authorized. A zero Session, and one
// whose token was not spent, authorize nothing. Authorize does not know of
// revocations made since the token was opened.
func (s *Session) Authorize(now time.Time, want claims.Capabilities) error {
	if !s.v.isZero() && !s.v.spent {
		return errNotSpent
	}
	if s.Expired(now) {
		return ErrSessionExpired
	}
	if !s.v.payload.Capabilities.Has(want) {
		return ErrNotPermitted
	}
	return nil
}

// Expired reports whether the session is over at now. A zero Session always is,
// and so is one whose token was not spent, which never began. It decides
// whether a user may still watch; what a user does takes [Session.Authorize].
func (s *Session) Expired(now time.Time) bool {
	return !s.v.spent || now.Unix() >= s.v.sessionExpiration()
}

// Spent reports whether [Opener.Open] spent the token and let its user in. It
// is false for a zero Session and after [Opener.OpenWithoutSpending].
func (s *Session) Spent() bool { return s.v.spent }

// TokenID returns the ID of the token that opened the session.
func (s *Session) TokenID() ID { return s.v.id }

// RoomIdentifier lends the room identifier. It is 1–128 bytes of UTF-8; that
// it has the form of an ARN is the minter's promise.
func (s *Session) RoomIdentifier() []byte { return s.v.payload.RoomIdentifier() }

// UserID lends the user ID, byte for byte as it was when minting.
func (s *Session) UserID() []byte { return s.v.payload.UserID() }

// Capabilities returns the capabilities for display. To decide, use
// [Session.Authorize], which heeds the deadline too.
func (s *Session) Capabilities() claims.Capabilities { return s.v.payload.Capabilities }

// Attributes yields the attributes, lent: shorter keys first, keys of one
// length in bytewise order.
func (s *Session) Attributes() iter.Seq2[[]byte, []byte] { return s.v.payload.Attributes() }

// Attribute lends the value of one attribute and reports whether it is there.
func (s *Session) Attribute(key string) (value []byte, ok bool) {
	return s.v.payload.Attribute(key)
}

// IssuedAt returns when the token was made, floored to the second.
func (s *Session) IssuedAt() time.Time {
	if s.v.isZero() {
		return time.Time{}
	}
	return unixTime(s.v.payload.IssuedAt)
}

// SessionExpiration returns the first moment at which the session is over, for
// a timer that closes the connection.
func (s *Session) SessionExpiration() time.Time {
	if s.v.isZero() {
		return time.Time{}
	}
	return unixTime(s.v.sessionExpiration())
}

// Claims copies everything out. Of a zero Session it is the zero Claims.
func (s *Session) Claims() claims.Claims { return s.v.payload.Claims() }

// Summary returns what a guard needs to know to tell whether this session was
// revoked since. It lends the room identifier and the user ID.
func (s *Session) Summary() Summary { return s.v.summary() }

// Clone returns a copy that shares nothing with s.
func (s *Session) Clone() *Session {
	c := &Session{v: s.v}
	c.buf = c.v.payload.MoveTo(make([]byte, 0, len(s.buf)))
	return c
}

// Reset makes s zero and clears the claims from its memory, which it keeps for
// the next token.
func (s *Session) Reset() {
	s.v = verified{}
	clear(s.buf)
	s.buf = s.buf[:0]
}

// Format writes the token's ID and times, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) {
	if s == nil || s.v.isZero() {
		fmt.Fprint(f, "token.Session(zero)")
		return
	}
	fmt.Fprintf(f, "token.Session(%v issued %s session expires %s)", s.v.id,
		s.IssuedAt().Format(time.RFC3339), s.SessionExpiration().Format(time.RFC3339))
}

// LogValue is the token's ID and times as a group.
func (s *Session) LogValue() slog.Value {
	if s == nil || s.v.isZero() {
		return slog.StringValue("zero")
	}
	return slog.GroupValue(
		slog.String("id", s.v.id.String()),
		slog.Time("issued", s.IssuedAt()),
		slog.Time("sessionExpires", s.SessionExpiration()))
}

// verified is the outcome of opening a token.
type verified struct {
	payload payload.Payload
	id      ID
	spent   bool
	skew    time.Duration // of the ring's policy
}

// isZero reports whether there is nothing: a payload has at least a minute.
func (v *verified) isZero() bool { return v.payload.SessionMinutes == 0 }

// checkTimes judges the token's times. All of them, and the skew, are whole
// seconds, so that comparing them with now, which is floored, is exact to the
// nanosecond.
func (v *verified) checkTimes(now int64) error {
	p, skew := &v.payload, int64(v.skew/time.Second)
	if p.IssuedAt-skew > now {
		return ErrNotYetValid
	}
	session := uint64(p.SessionMinutes) * 60
	if p.TTL < uint64(MinTTL/time.Second) || p.TTL > min(uint64(MaxTTL/time.Second), session) {
		return ErrPayload
	}
	if now >= v.expiration() {
		return ErrTokenExpired
	}
	return nil
}

// expiration is the token's, in Unix seconds.
func (v *verified) expiration() int64 { return v.payload.IssuedAt + int64(v.payload.TTL) }

// sessionExpiration is in Unix seconds: comparing it with the floor of a time
// is exact.
func (v *verified) sessionExpiration() int64 {
	return v.payload.IssuedAt + int64(v.payload.SessionMinutes)*60
}

func (v *verified) summary() Summary {
	if v.isZero() {
		return Summary{}
	}
	return Summary{
		TokenID:        v.id,
		IssuedAt:       unixTime(v.payload.IssuedAt),
		Expiration:     unixTime(v.expiration()),
		ClockSkew:      v.skew,
		RoomIdentifier: v.payload.RoomIdentifier(),
		UserID:         v.payload.UserID(),
	}
}

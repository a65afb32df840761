package token

import (
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/payload"
)

// Session is what a verified token says. Only an [Opener] can fill one in, so a
// Session that has claims proves that a token was verified. The zero value has
// no claims, authorizes nothing, and is ready for [Opener.Open]. A Session from
// [Opener.OpenWithoutSpending] has claims, but authorizes nothing.
//
// Keep one Session per connection. It owns its memory, about the size of the
// claims. The slices that its methods return are views of that memory: don't
// write to them, and don't use them after the next Open or Reset.
// [Session.Claims] copies everything. Reading is safe for concurrent use. Don't
// copy a Session; use [Session.Clone].
//
// With fmt and slog, a *Session prints its token's ID and times only. A struct
// with a field of type Session, not *Session, prints the claims.
type Session struct {
	_   noCopy
	v   verified
	buf []byte // v.payload is a view of it
}

// noCopy makes go vet report copies of what contains it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Authorize returns nil if the session may do all of want at now. Otherwise the
// error matches [ErrSessionExpired] or [ErrNotPermitted]. Call it before every
// message. It permits nothing if want is empty, if the Session is zero, or if
// its token was not spent. It does not know of revocations since Open;
// Guard.Revoked does.
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

// Expired reports whether the session is over at now. A zero Session, or one
// whose token was not spent, is always over. Expired decides whether a user may
// still watch; for whatever a user does, call [Session.Authorize].
func (s *Session) Expired(now time.Time) bool {
	return !s.v.spent || now.Unix() >= s.v.sessionExpiration()
}

// Spent reports whether [Opener.Open] accepted and spent the token. It is false
// for a zero Session and after [Opener.OpenWithoutSpending].
func (s *Session) Spent() bool { return s.v.spent }

// TokenID returns the ID of the token that opened the session.
func (s *Session) TokenID() ID { return s.v.id }

// RoomIdentifier returns a view of the room identifier: 1–128 bytes of UTF-8.
// Whether it is an ARN depends on [Sealer.Room]; Open doesn't check that.
func (s *Session) RoomIdentifier() []byte { return s.v.payload.RoomIdentifier() }

// UserID returns a view of the user ID, byte for byte as minted.
func (s *Session) UserID() []byte { return s.v.payload.UserID() }

// Capabilities returns the capabilities, for display. To decide, call
// [Session.Authorize], which checks the deadline too.
func (s *Session) Capabilities() claims.Capabilities { return s.v.payload.Capabilities }

// Attributes yields views of the attributes: shorter keys first, keys of one
// length in bytewise order.
func (s *Session) Attributes() iter.Seq2[[]byte, []byte] { return s.v.payload.Attributes() }

// Attribute returns a view of one attribute's value, and whether it is there.
func (s *Session) Attribute(key string) (value []byte, ok bool) {
	return s.v.payload.Attribute(key)
}

// IssuedAt returns when the token was minted, rounded down to the second.
func (s *Session) IssuedAt() time.Time {
	if s.v.isZero() {
		return time.Time{}
	}
	return unixTime(s.v.payload.IssuedAt)
}

// SessionExpiration returns the first moment at which the session is over.
// Close the connection then.
func (s *Session) SessionExpiration() time.Time {
	if s.v.isZero() {
		return time.Time{}
	}
	return unixTime(s.v.sessionExpiration())
}

// Claims returns a copy of the claims. For a zero Session it is zero.
func (s *Session) Claims() claims.Claims { return s.v.payload.Claims() }

// Summary returns what Guard.Revoked needs. Its slices are views of the
// Session.
func (s *Session) Summary() Summary { return s.v.summary() }

// Clone returns a copy that shares nothing with s.
func (s *Session) Clone() *Session {
	c := &Session{v: s.v}
	c.buf = c.v.payload.MoveTo(make([]byte, 0, len(s.buf)))
	return c
}

// Reset makes s zero and overwrites the claims. It keeps the memory for the
// next token.
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

// LogValue returns the token's ID and times as a group.
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

// isZero reports whether v is empty: a payload has a session of at least a
// minute.
func (v *verified) isZero() bool { return v.payload.SessionMinutes == 0 }

// checkTimes checks the token's times. They and the skew are whole seconds, so
// comparing them with now, which is rounded down, is exact.
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

// expiration returns the token's expiration, in Unix seconds.
func (v *verified) expiration() int64 { return v.payload.IssuedAt + int64(v.payload.TTL) }

// sessionExpiration returns the session's expiration, in Unix seconds.
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

package token

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/keyring"
)

var (
	errSealerRing = errors.New("token: Sealer.Ring is nil or the zero Ring")
	errTTL        = errors.New("token: Sealer.TTL is not whole seconds from 5 s to 10 min")
	errRingTTL    = errors.New("token: Sealer.TTL is above MaxTTL of the ring's policy")
	errClock      = errors.New("token: the clock is before 1970 or after 9999")
)

// Sealer mints tokens. Its fields are set before first use and not changed
// after; it is then safe for concurrent use, and may be copied.
type Sealer struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// TTL is how long a token can be used, in whole seconds from [MinTTL] to
	// [MaxTTL], and no longer than the ring's policy allows. Zero means
	// [DefaultTTL], or ClockSkew and [MinTTL] if that is more, or the ring's
	// MaxTTL if that is less. A token is never valid for longer than its
	// session: for a session of a minute the TTL is cut to a minute.
	TTL time.Duration

	// Room is the grammar of room identifiers. Nil means claims.IsRoomARN.
	// Only valid UTF-8 of 1–128 bytes reaches it.
	Room func(roomIdentifier string) bool

	// Now is the clock, read once per token. Nil means time.Now.
	Now func() time.Time
}

// ChatToken is a minted token and its deadlines. Its JSON form is that of a
// CreateChatToken response, for the application; to a chat client pass Token
// and SessionExpiration only. Printed with fmt or slog it shows the ID and the
// deadlines only. Two cases show the token itself: a struct that has it in an
// unexported field, printed with fmt; and a struct, slice or map that has it,
// logged with slog's JSON handler, which writes its JSON form.
type ChatToken struct {
	// Token is the bearer secret that goes to the client.
	Token string `json:"token"`
	Minted
}

// Minted describes a minted token without its text. Times are whole seconds in
// UTC.
type Minted struct {
	// ID is the token's, as [Session.TokenID] returns it. Log it to connect the
	// two. Target{Token: ID} revokes the token, or its session. It is no
	// secret.
	ID ID `json:"-"`

	// TokenExpiration is the first moment at which the token opens no
	// connection. It is meant for the application. Do not pass it to a chat
	// client: some open a new connection each time it has passed, although the
	// connection lasts until the session's deadline.
	TokenExpiration time.Time `json:"tokenExpirationTime"`

	// SessionExpiration is the first moment at which the connection that was
	// opened with the token is over.
	SessionExpiration time.Time `json:"sessionExpirationTime"`
}

// Format writes the ID and the deadlines, whatever the verb.
func (t ChatToken) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "token.ChatToken(%v token expires %s session expires %s)", t.ID,
		t.TokenExpiration.Format(time.RFC3339), t.SessionExpiration.Format(time.RFC3339))
}

// LogValue is the ID and the deadlines as a group.
func (t ChatToken) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", t.ID.String()),
		slog.Time("tokenExpires", t.TokenExpiration),
		slog.Time("sessionExpires", t.SessionExpiration))
}

// Validate returns an error if no token can be minted: Ring is nil or the zero
// Ring, or TTL is outside its limits. Call it at the start; Create and Seal
// return the same error.
func (s *Sealer) Validate() error {
	_, _, err := s.times(clock(s.Now), 0)
	return err
}

// Create mints a token. The error is a *claims.ValidationError that lists every
// field outside the limits, or one about the Sealer's own fields or clock.
func (s *Sealer) Create(c claims.Claims) (ChatToken, error) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	text, minted, err := s.seal(ws, ws.text[:0], c)
	if err != nil {
		return ChatToken{}, err
	}
	defer clear(text)
	return ChatToken{string(text), minted}, nil
}

// Seal is [Sealer.Create] without an allocation: it appends the token's text to
// dst. It does not allocate where dst has room for the token, of which [MaxLen]
// bytes are always enough. c is neither changed nor retained. On an error dst
// is returned as it was, and Minted is zero.
func (s *Sealer) Seal(dst []byte, c *claims.Claims) ([]byte, Minted, error) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	return s.seal(ws, dst, *c)
}

func (s *Sealer) seal(ws *workspace, dst []byte, c claims.Claims) ([]byte, Minted, error) {
	now := clock(s.Now)
	issuedAt, ttl, err := s.times(now, c.SessionMinutes)
	if err != nil {
		return dst, Minted{}, err
	}
	// The payload is written where it is encrypted in place, so that no
	// plaintext is left in the workspace.
	b, err := ws.encoder.Append(ws.box[:box.Ciphertext], c, s.Room, issuedAt, ttl)
	if err != nil {
		return dst, Minted{}, err
	}
	sealed, err := s.Ring.SealBox(box.Inside(), ws.box[:0], b[box.Ciphertext:], now)
	if err != nil {
		clear(b)
		return dst, Minted{}, err
	}
	minted := Minted{
		ID:                ID(sealed[box.Nonce:]),
		TokenExpiration:   unixTime(issuedAt + ttl),
		SessionExpiration: unixTime(issuedAt).Add(c.SessionDuration()),
	}
	body := sealed[len(Prefix):]
	dst = slices.Grow(dst, len(Prefix)+base64url.EncodedLen(len(body)))
	return base64url.Append(append(dst, Prefix...), body), minted, nil
}

// times settles when a token that is made now counts as issued, in Unix
// seconds, and for how many seconds it is valid.
func (s *Sealer) times(now time.Time, sessionMinutes int) (issuedAt, seconds int64, err error) {
	if s.Ring == nil {
		return 0, 0, errSealerRing
	}
	issuedAt = now.Unix()
	if issuedAt < 0 || issuedAt > limits.MaxUnix {
		return 0, 0, errClock
	}
	limit := s.Ring.Limits()
	longest, ttl := limit.MaxTTL, s.TTL
	switch {
	case longest == 0:
		return 0, 0, errSealerRing
	case ttl == 0:
		// Not less than a clock that is ahead by ClockSkew leaves of it.
		ttl = min(max(DefaultTTL, limit.ClockSkew+MinTTL), longest)
	case !limits.Whole(ttl, MinTTL, MaxTTL):
		return 0, 0, errTTL
	case ttl > longest:
		return 0, 0, errRingTTL
	}
	if sessionMinutes > 0 {
		ttl = min(ttl, time.Duration(sessionMinutes)*time.Minute)
	}
	return issuedAt, int64(ttl / time.Second), nil
}

// clock reads now, or the system's clock.
func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

package token

import (
	"cmp"
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

// Sealer mints tokens. Set its fields before first use and don't change them
// after; it is then safe for concurrent use. It may be copied.
type Sealer struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// TTL is how long a token can be used, in whole seconds. It may be
	// [MinTTL] to [MaxTTL], and at most the MaxTTL of the ring's policy.
	// Zero means [DefaultTTL], but at least ClockSkew + [MinTTL] and at
	// most MaxTTL of that policy. A token never outlives its session: for a
	// session of a minute the TTL is cut to a minute.
	TTL time.Duration

	// Room reports whether a room identifier is well-formed. Nil means
	// [claims.IsRoomARN]. It sees only valid UTF-8 of 1–128 bytes.
	Room func(roomIdentifier string) bool

	// Now is the clock, read once per token. Nil means time.Now.
	Now func() time.Time
}

// ChatToken is a minted token and its deadlines. Its JSON form is that of a
// CreateChatToken response, for the application. Give the chat client only
// Token and SessionExpiration.
//
// With fmt and slog it prints the ID and the deadlines, without the token. Two
// cases do show the token: fmt prints a struct that has the ChatToken in an
// unexported field, and slog's JSON handler writes a struct, slice or map that
// has it.
type ChatToken struct {
	// Token is the bearer secret for the client.
	Token string `json:"token"`
	Minted
}

// Minted describes a minted token without its text. Times are whole seconds in
// UTC.
type Minted struct {
	// ID is what [Session.TokenID] returns at the gateway. Log it on both
	// sides; it is not secret. Target{Token: ID} revokes the token and its
	// session.
	ID ID `json:"-"`

	// TokenExpiration is the first moment at which the token can't open a
	// connection. It is for the application. Don't give it to a chat
	// client: some reconnect each time it has passed, although the
	// connection lasts until SessionExpiration.
	TokenExpiration time.Time `json:"tokenExpirationTime"`

	// SessionExpiration is the first moment at which the token's connection
	// is over.
	SessionExpiration time.Time `json:"sessionExpirationTime"`
}

// Format writes the ID and the deadlines, whatever the verb.
func (t ChatToken) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "token.ChatToken(%v token expires %s session expires %s)", t.ID,
		t.TokenExpiration.Format(time.RFC3339), t.SessionExpiration.Format(time.RFC3339))
}

// LogValue returns the ID and the deadlines as a group.
func (t ChatToken) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", t.ID.String()),
		slog.Time("tokenExpires", t.TokenExpiration),
		slog.Time("sessionExpires", t.SessionExpiration))
}

// Validate returns an error if s can mint no token: Ring is nil or the zero
// Ring, or TTL is outside its limits. Create and Seal return the same error.
// Call Validate at the start.
func (s *Sealer) Validate() error {
	_, _, err := s.times(clock(s.Now), 0)
	return err
}

// Create mints a token. The error is a [*claims.ValidationError] that lists
// every wrong field, or it is about the Sealer's own fields or clock.
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

// Seal is [Sealer.Create] with your own buffer: it appends the token's text to
// dst. It doesn't allocate if dst has room for the token; [MaxLen] bytes are
// always enough. It neither changes nor retains c. On an error it returns dst
// unchanged and a zero Minted.
func (s *Sealer) Seal(dst []byte, c *claims.Claims) ([]byte, Minted, error) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	return s.seal(ws, dst, *c)
}

func (s *Sealer) seal(ws *workspace, dst []byte, c claims.Claims) ([]byte, Minted, error) {
	now := clock(s.Now)
	issuedAt, ttl, err := s.times(now, c.SessionMinutes)
	if err != nil {
		// SPEC.md, section 5: errors in the request come first.
		return dst, Minted{}, cmp.Or(c.Validate(s.Room), err)
	}
	// Write the payload where SealBox encrypts it in place, so that no
	// plaintext stays in the workspace.
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

// times returns when a token made now is issued, in Unix seconds, and for how
// many seconds it is valid.
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
		// A gateway whose clock is ahead by ClockSkew still sees
		// MinTTL.
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

package token

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/keyring"
)

var (
	errSealerRing = errors.New("token: Sealer.Ring is nil or the zero Ring")
	errTTL        = errors.New("token: Sealer.TTL is not whole seconds from 5 s to 10 min")
	errRingTTL    = errors.New("token: Sealer.TTL is longer than the keyring's longest")
	errClock      = errors.New("token: the clock is before 1970 or after 9999")
)

// Sealer mints tokens. Its fields are set before first use and not changed
// after; it is then safe for concurrent use, and may be copied.
type Sealer struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// TTL is how long a token can be used, in whole seconds from [MinTTL] to
	// [MaxTTL], and no longer than the ring's policy allows. Zero means
	// [DefaultTTL], or the ring's longest where that is shorter. A token is
	// never valid for longer than its session: for a session of a minute,
	// Sealer shortens what is more.
	TTL time.Duration

	// Room is the grammar of room identifiers. Nil means claims.IsRoomARN.
	// Only valid UTF-8 of 1–128 bytes reaches it.
	Room func(roomIdentifier string) bool

	// Now is the clock, read once per token. Nil means time.Now.
	Now func() time.Time
}

// ChatToken is a minted token and its deadlines: the members of a
// CreateChatToken response, whose JSON form it has. Printed with fmt or slog
// it shows the ID and the deadlines only. Two cases show the token itself: a
// struct that has it in an unexported field, printed with fmt; and a struct, slice
// or map that has it, logged with slog's JSON handler, which writes its JSON form.
type ChatToken struct {
	// ID is what [Session.TokenID] says of the session that Token opens. It is
	// no secret: in a log it tells who was given the token of which session.
	ID claims.TokenID `json:"-"`

	// Token is the bearer secret that goes to the client.
	Token string `json:"token"`

	// TokenExpiration is the first moment at which Token opens no connection.
	// It is meant for the application. Do not pass it to a chat client: some
	// open a new connection each time it has passed, although the connection
	// lasts until the session's deadline.
	TokenExpiration time.Time `json:"tokenExpirationTime"`

	// SessionExpiration is the first moment at which the connection that was
	// opened with Token is over.
	SessionExpiration time.Time `json:"sessionExpirationTime"`
}

// Format writes the ID and the deadlines, whatever the verb.
func (t ChatToken) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "token.ChatToken(%v expires %s session %s)", t.ID,
		t.TokenExpiration.Format(time.RFC3339), t.SessionExpiration.Format(time.RFC3339))
}

// LogValue is the ID and the deadlines as a group.
func (t ChatToken) LogValue() slog.Value {
	return slog.GroupValue(slog.String("token", t.ID.String()), slog.Time("expires", t.TokenExpiration), slog.Time("session", t.SessionExpiration))
}

// Create mints a token. Times are whole seconds in UTC. The error is a
// *claims.ValidationError that lists every field outside the limits, or one
// about the Sealer's own fields or clock.
func (s *Sealer) Create(c claims.Claims) (ChatToken, error) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	text, is, err := s.seal(ws, ws.text[:0], &c)
	if err != nil {
		return ChatToken{}, err
	}
	defer clear(text)
	issued := unixTime(is.issuedAt)
	return ChatToken{
		ID:                is.id,
		Token:             string(text),
		TokenExpiration:   issued.Add(time.Duration(is.ttl) * time.Second),
		SessionExpiration: issued.Add(c.SessionDuration()),
	}, nil
}

// Seal mints a token and appends it to dst. It does not allocate where dst has
// room for the token, of which [MaxLen] bytes are always enough. c is neither
// changed nor retained. On an error, as listed at [Sealer.Create], dst is
// returned as it was.
func (s *Sealer) Seal(dst []byte, c *claims.Claims) ([]byte, error) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	dst, _, err := s.seal(ws, dst, c)
	return dst, err
}

// issue is what Sealer decides of a token: its times, in whole seconds since 1970
// and from then on, and, once it is sealed, its ID.
type issue struct {
	issuedAt, ttl int64
	id            claims.TokenID
}

func (s *Sealer) seal(ws *workspace, dst []byte, c *claims.Claims) ([]byte, issue, error) {
	now := clock(s.Now)
	is, err := s.issue(now, c.SessionMinutes)
	if err != nil {
		return dst, is, err
	}
	// The payload is written where it is encrypted in place, so that no
	// plaintext is left in the workspace.
	payload, err := ws.encoder.Append(ws.box[:boxHeader], c, s.Room, is.issuedAt, is.ttl)
	if err != nil {
		return dst, is, err
	}
	box, err := s.Ring.Seal(ws.box[:0], payload[boxHeader:], now)
	if err != nil {
		clear(payload)
		return dst, is, err
	}
	copy(is.id[:], box[len(Prefix)+len(keyring.ID{}):])
	box = box[len(Prefix):]
	dst = slices.Grow(dst, len(Prefix)+base64url.EncodedLen(len(box)))
	return base64url.Append(append(dst, Prefix...), box), is, nil
}

// issue settles issued-at and validity of a token that is made now.
func (s *Sealer) issue(now time.Time, sessionMinutes int) (issue, error) {
	if s.Ring == nil {
		return issue{}, errSealerRing
	}
	is := issue{issuedAt: now.Unix()}
	if is.issuedAt < 0 || is.issuedAt > limits.MaxUnix {
		return issue{}, errClock
	}
	longest := s.Ring.MaxTTL()
	ttl := s.TTL
	switch {
	case longest == 0:
		return issue{}, errSealerRing
	case ttl == 0:
		ttl = min(DefaultTTL, longest)
	case !limits.Whole(ttl, MinTTL, MaxTTL):
		return issue{}, errTTL
	case ttl > longest:
		return issue{}, errRingTTL
	}
	if sessionMinutes > 0 {
		ttl = min(ttl, time.Duration(sessionMinutes)*time.Minute)
	}
	is.ttl = int64(ttl / time.Second)
	return is, nil
}

// clock reads now, or the system's clock.
func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

package token

import (
	"context"
	"encoding/hex"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// Guard remembers which tokens were spent and whose were revoked. Package replay
// has one for a process, and replay/valkey one for a fleet. A guard is safe for
// concurrent use.
type Guard interface {
	// Spend uses a token up and reports whether it was fresh: of all calls with
	// the same token, at any time and from anywhere, at most one may return true.
	// The token is authentic and, at now, timely and admitted. A token is known by
	// its ID and its Expiration, which one ID never has two of.
	//
	// A guard that cannot tell returns an error, and the token is refused: with
	// [ErrAllRevoked] or [ErrRevoked] if the error matches that, with the error
	// itself if it matches [ErrUnavailable], else with ErrUnavailable. What s
	// lends is not retained.
	Spend(ctx context.Context, now time.Time, s Summary) (fresh bool, err error)

	// Revoked returns nil, [ErrRevoked] or [ErrAllRevoked], as far as this process
	// knows. It makes no network call, takes no lock and does not allocate, so it
	// can be asked for every live session. What s lends is not retained.
	Revoked(s Summary) error
}

// ID identifies one token: 16 random bytes, authenticated with it. It is no
// secret.
type ID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes, or as many hexadecimal digits in
// upper case. On an error id is left as it was.
func (id *ID) UnmarshalText(text []byte) error {
	var parsed ID
	if len(text) != hex.EncodedLen(len(id)) {
		return errID
	}
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return errID
	}
	*id = parsed
	return nil
}

// Summary is what a guard or an admission rule needs to know of an authentic
// token. It is small and passed by value.
type Summary struct {
	TokenID    ID
	IssuedAt   time.Time // whole seconds, UTC
	Expiration time.Time // of the token, not of its session; whole seconds, UTC

	// ClockSkew is how far ahead the clock that issued the token may have been,
	// in whole seconds. An Opener takes it from the policy of its ring. Zero, in a
	// Summary that is made by hand, means 5 s.
	ClockSkew time.Duration

	// RoomIdentifier and UserID are lent: copy them to keep them, and do not write
	// to them, because they may be those of a [Session].
	RoomIdentifier, UserID []byte
}

// IssuedBefore reports whether the token counts as issued before t: unless its
// issued-at is later than t, rounded down to the second, plus ClockSkew. The
// minter's clock may be ahead of the one that t was read from by as much, and
// tokens carry whole seconds. Restarts and revocations go by this rule; SPEC.md
// shows that simpler ones let a token in twice.
func (s Summary) IssuedBefore(t time.Time) bool {
	skew := s.ClockSkew / time.Second
	if skew == 0 {
		skew = limits.DefaultClockSkew / time.Second
	}
	return s.IssuedAt.Unix()-int64(skew) <= t.Unix()
}

// Target names whose tokens are revoked. It is one of: a Room; a User, in every
// room; a Room and a User, which is that user in that room; one Token; Everyone.
type Target struct {
	Room     string // a room identifier
	User     string // a user ID
	Token    ID     // as [ChatToken] and [Session.TokenID] have it
	Everyone bool
}

// Validate returns an error unless t is one of what [Target] lists, and could
// name a token: a room or a user that is longer than claims allow, or not UTF-8,
// is nobody's.
func (t Target) Validate() error {
	named := Target{Room: t.Room, User: t.User}
	switch t {
	case Target{}:
		return errNoTarget
	case Target{Everyone: true}, Target{Token: t.Token}:
		return nil
	case named:
		if !t.nameable() {
			return errTargetName
		}
		return nil
	}
	return errTargetMixed
}

func (t Target) nameable() bool {
	return len(t.Room) <= claims.MaxRoomIdentifierBytes && utf8.ValidString(t.Room) &&
		utf8.RuneCountInString(t.User) <= claims.MaxUserIDRunes && utf8.ValidString(t.User)
}

var (
	errID          = errors.New("token: a token ID is 32 hexadecimal digits")
	errNoTarget    = errors.New("token: the Target names nobody")
	errTargetMixed = errors.New("token: a Target has a Room, a User or both, or a Token, or Everyone")
	errTargetName  = errors.New("token: no token has the Target's Room or User: too long, or not UTF-8")
)

package claims

import (
	"encoding/hex"
	"errors"
	"time"
)

// TokenID identifies one token: 16 random bytes, authenticated with it. It is
// not a secret.
type TokenID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String does.
func (id TokenID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes, or as many hexadecimal digits in
// upper case. On an error id is left as it was.
func (id *TokenID) UnmarshalText(text []byte) error {
	var parsed TokenID
	if len(text) != hex.EncodedLen(len(id)) {
		return errTokenID
	}
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return errTokenID
	}
	*id = parsed
	return nil
}

var errTokenID = errors.New("claims: a token ID is 32 hexadecimal digits")

// Summary is what a replay guard, an admission rule or a revocation list needs
// to know of an authentic token. It is small and passed by value.
type Summary struct {
	TokenID    TokenID
	IssuedAt   time.Time // whole seconds, UTC
	Expiration time.Time // of the token, not of its session; whole seconds, UTC

	// ClockSkew is how far ahead the clock that issued the token may have been,
	// in whole seconds. An Opener takes it from the policy of its ring. Zero, in a
	// Summary that is made by hand, means 5 s.
	ClockSkew time.Duration

	// RoomIdentifier and UserID are lent: copy them to keep them, and do not write
	// to them, because they may be those of a token.Session.
	RoomIdentifier, UserID []byte
}

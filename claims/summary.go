package claims

import (
	"encoding/hex"
	"time"
)

// TokenID identifies one token: 16 random bytes, authenticated with it. It is
// not a secret.
type TokenID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// Summary is what a replay guard, an admission rule or a revocation list needs
// to know of an authentic token. It is small and passed by value.
type Summary struct {
	TokenID    TokenID
	IssuedAt   time.Time // whole seconds, UTC
	Expiration time.Time // of the token, not of its session; whole seconds, UTC

	// RoomIdentifier and UserID are lent: who keeps them copies them.
	RoomIdentifier, UserID []byte
}

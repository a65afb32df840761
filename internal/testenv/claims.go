package testenv

import (
	"strings"

	"github.com/seed17cb2b26/chattoken/claims"
)

// LongestClaims returns the claims of the longest legal token. Its 1,024 bytes
// hold the most attributes: all keys of one byte, then keys of two.
func LongestClaims() claims.Claims {
	attributes := map[string]string{}
	for i := range 128 {
		attributes[string(rune(i))] = ""
	}
	for i := range 448 {
		attributes[string([]byte{byte('A' + i/26), byte('a' + i%26)})] = ""
	}
	return claims.Claims{
		RoomIdentifier: LongestRoom(),
		UserID:         strings.Repeat("\U0010FFFF", claims.MaxUserIDRunes),
		Capabilities:   claims.SendMessage | claims.DisconnectUser | claims.DeleteMessage,
		Attributes:     attributes,
		SessionMinutes: claims.MaxSessionMinutes,
	}
}

// LongestRoom returns a room identifier of the greatest length.
func LongestRoom() string {
	const room = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"
	return room + strings.Repeat("x", claims.MaxRoomIdentifierBytes-len(room))
}

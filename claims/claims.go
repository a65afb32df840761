// Package claims defines what a chat token says: one user may enter one chat
// room, with these capabilities and attributes, for this long.
//
// An application fills in a [Claims] and passes it to a
// [github.com/seed17cb2b26/chattoken/token.Sealer]. A gateway gets the same
// claims from a verified token.Session. An HTTP server reads a CreateChatToken
// request with [ParseJSON].
//
// # Limits
//
// The limits are those of the operation CreateChatToken in the Amazon IVS Chat
// service model, API version 2020-07-14:
//
//	room identifier    1–128 bytes of UTF-8; by default the ARN of a room
//	user ID            1–128 Unicode code points of UTF-8
//	capabilities       any subset of the three, possibly none
//	attributes         keys and values of UTF-8, no empty key, and at most
//	                   1,024 bytes in all keys and values together
//	session duration   1–180 whole minutes, 60 if absent
//
// Package token checks them when it mints a token, and returns a
// [*ValidationError] that lists every wrong field. It checks them again when it
// opens one, except the form of the room identifier. SPEC.md says how a token
// encodes them.
package claims

import (
	"cmp"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/internal/text"
)

// The limits of a token's claims.
const (
	MaxRoomIdentifierBytes = 128
	MaxUserIDRunes         = 128 // Unicode code points

	// MaxAttributeBytes is 1,024, for all keys and values together.
	MaxAttributeBytes = limits.MaxAttributeBytes

	MinSessionMinutes     = 1
	MaxSessionMinutes     = 180
	DefaultSessionMinutes = 60
)

// Claims is what an application asks for. The JSON form has the member names of
// a CreateChatToken request. To read a client's request use [ParseJSON], which
// is stricter than encoding/json.
type Claims struct {
	// RoomIdentifier names the room: 1–128 bytes, by default an ARN; see
	// [IsRoomARN].
	RoomIdentifier string `json:"roomIdentifier"`

	// UserID names the user within the application: 1–128 code points of
	// UTF-8. It is kept byte for byte, without normalization, so the
	// application must not take two spellings for one user.
	UserID string `json:"userId"`

	// Capabilities is what the user may do besides viewing.
	Capabilities Capabilities `json:"capabilities,omitempty"`

	// Attributes are shown with the user's messages. The token encrypts
	// them, but every client in the room is meant to see them.
	Attributes map[string]string `json:"attributes,omitempty"`

	// SessionMinutes is how long the connection may last, in minutes after
	// the token is minted. Zero means [DefaultSessionMinutes].
	SessionMinutes int `json:"sessionDurationInMinutes,omitempty"`
}

// Validate checks c against every limit. room reports whether a room identifier
// is well-formed; nil means [IsRoomARN]. The limit of 128 bytes of UTF-8 holds
// in any case. The error is a [*ValidationError]. For valid claims Validate
// does not allocate.
func (c *Claims) Validate(room func(string) bool) error {
	var sum limits.Attributes
	for key, value := range c.Attributes {
		sum.Add(key, value)
	}
	var v violations
	v.roomIdentifier(c.RoomIdentifier, room)
	v.userID(c.UserID)
	if !c.Capabilities.Valid() {
		v.add(fieldCapabilities, "unknown bits are set; allowed: "+allNames)
	}
	v.attributes(sum)
	if n := c.SessionMinutes; n != 0 {
		v.sessionMinutes(n)
	}
	return v.err()
}

// SessionDuration returns how long the connection may last, or the default.
func (c *Claims) SessionDuration() time.Duration {
	return time.Duration(cmp.Or(c.SessionMinutes, DefaultSessionMinutes)) * time.Minute
}

func (v *violations) roomIdentifier(s string, room func(string) bool) {
	form := "not in the form of a room identifier"
	if room == nil {
		room, form = IsRoomARN, "not in the form arn:aws:ivschat:REGION:ACCOUNT:room/ID"
	}
	switch {
	case s == "":
		v.add(fieldRoom, fmt.Sprintf("required; 1–%d bytes allowed", MaxRoomIdentifierBytes))
	case len(s) > MaxRoomIdentifierBytes:
		v.add(fieldRoom, fmt.Sprintf("%d bytes used; 1–%d allowed", len(s), MaxRoomIdentifierBytes))
	case !text.Valid(s):
		v.add(fieldRoom, "not valid UTF-8")
	case !room(s):
		v.add(fieldRoom, form)
	}
}

func (v *violations) userID(s string) {
	if !text.Valid(s) {
		v.add(fieldUserID, "not valid UTF-8")
		return
	}
	if s == "" {
		v.add(fieldUserID, fmt.Sprintf("required; 1–%d code points allowed", MaxUserIDRunes))
	} else if len(s) <= MaxUserIDRunes {
		return // a code point has at least one byte
	} else if n := utf8.RuneCountInString(s); n > MaxUserIDRunes {
		v.add(fieldUserID, fmt.Sprintf("%d code points used; 1–%d allowed", n, MaxUserIDRunes))
	}
}

func (v *violations) attributes(sum limits.Attributes) {
	if sum.EmptyKey {
		v.add(fieldAttributes, "an empty key is not allowed")
	}
	if sum.BadText {
		v.add(fieldAttributes, "not valid UTF-8")
	}
	if sum.Bytes > MaxAttributeBytes {
		v.add(fieldAttributes, fmt.Sprintf("%d bytes used by keys and values; %d allowed", sum.Bytes, MaxAttributeBytes))
	}
}

func (v *violations) sessionMinutes(n int) {
	if n < MinSessionMinutes || n > MaxSessionMinutes {
		v.add(fieldSession, fmt.Sprintf("out of range; %d–%d minutes allowed", MinSessionMinutes, MaxSessionMinutes))
	}
}

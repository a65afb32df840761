// Package claims defines what a chat token says: one user may enter one chat
// room, with these capabilities and attributes, for this long.
//
// An application fills in a [Claims] and hands it to token.Sealer; a gateway
// gets the same claims back from a verified token.Session. An HTTP front end
// reads the request of CreateChatToken with [ParseJSON].
//
// # Limits
//
// The limits are those of the Amazon IVS Chat service model, API version
// 2020-07-14, operation CreateChatToken. Each is enforced when a token is
// minted, with a [*ValidationError] that lists every offending field, and
// again, but for the grammar of the room identifier, when one is opened:
//
//	room identifier   1–128 bytes of UTF-8; by default the ARN of a room
//	user ID           1–128 Unicode code points of UTF-8
//	capabilities      any subset of the three, possibly none
//	attributes        keys and values of UTF-8, no empty key, and at most
//	                  1,024 bytes in all keys and values together
//	session duration  1–180 whole minutes, 60 where absent
//
// How they are written into a token is in SPEC.md.
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
	MaxRoomIdentifierBytes = 128                      // bytes of a room identifier
	MaxUserIDRunes         = 128                      // Unicode code points of a user ID
	MaxAttributeBytes      = limits.MaxAttributeBytes // 1,024 bytes of all attribute keys and values together
	MinSessionMinutes      = 1                        // shortest session
	MaxSessionMinutes      = 180                      // longest session
	DefaultSessionMinutes  = 60                       // session where none is stated
)

// Claims is what an application asks for. The JSON form has the member names
// of a CreateChatToken request; to read one from a client, use [ParseJSON],
// which is strict where encoding/json is not.
type Claims struct {
	// RoomIdentifier names the room: 1–128 bytes, by default an ARN as
	// [IsRoomARN] describes it.
	RoomIdentifier string `json:"roomIdentifier"`

	// UserID names the user within the application: 1–128 code points of
	// UTF-8, returned byte for byte. No normalization is applied, so the
	// application must not take two spellings for one user.
	UserID string `json:"userId"`

	// Capabilities is what the user may do beside viewing, which is implicit.
	Capabilities Capabilities `json:"capabilities,omitempty"`

	// Attributes are shown beside the user's messages. They are encrypted in
	// the token, but every client in the room is meant to see them.
	Attributes map[string]string `json:"attributes,omitempty"`

	// SessionMinutes is how long the connection may last, in minutes from the
	// moment the token is made. Zero means [DefaultSessionMinutes].
	SessionMinutes int `json:"sessionDurationInMinutes,omitempty"`
}

// Validate checks c against every limit. room is the grammar of the room
// identifier; nil means [IsRoomARN], and the limit of 128 bytes of UTF-8 holds
// whatever it says. The error is a [*ValidationError]. A valid c costs no
// allocation.
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

// SessionDuration returns how long the connection may last, with the default
// filled in.
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
		return // a code point has a byte at least
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

package token

import (
	"errors"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
)

// Target says whose tokens a guard's Revoke revokes. Targets are comparable.
// One of these is set:
//
//	Room            everyone in that room
//	User            that user, in every room
//	Room and User   that user, in that room
//	Token           one token
//	Everyone        everyone, in every room
type Target struct {
	Room     string // a room identifier
	User     string // a user ID
	Token    ID     // of Minted or Session.TokenID
	Everyone bool
}

var (
	errNoTarget    = errors.New("token: the Target is empty")
	errTargetMixed = errors.New("token: a Target has a Room, a User or both, or a Token, or Everyone")
	errTargetName  = errors.New("token: the Target's Room or User is too long or not UTF-8")
)

// Validate returns an error unless t is a row of the table above, and Room and
// User are valid UTF-8 within the limits of package claims. Nothing else names
// a token.
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

package token

import (
	"errors"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
)

// Target names whose tokens a guard's Revoke revokes. It is one of: a Room; a
// User, in every room; a Room and a User, which is that user in that room; one
// Token; Everyone. Targets can be compared and used as keys of a map.
type Target struct {
	Room     string // a room identifier
	User     string // a user ID
	Token    ID     // as [Minted] and [Session.TokenID] have it
	Everyone bool   // in every room
}

var (
	errNoTarget    = errors.New("token: the Target is empty")
	errTargetMixed = errors.New("token: a Target has a Room, a User or both, or a Token, or Everyone")
	errTargetName  = errors.New("token: the Target's Room or User is too long or not UTF-8")
)

// Validate returns an error unless t is one of what [Target] lists, and could
// name a token: a room or a user that is longer than claims allow, or not
// UTF-8, is nobody's.
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

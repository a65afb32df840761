// Package verdict holds the sentinel errors that package token and the guards
// share. Both export them under their own names, as the same values, so that
// neither has to import the other.
package verdict

import "errors"

var (
	// Revoked says that this token was issued before a revocation of its user
	// or room.
	Revoked = errors.New("chattoken: revoked")

	// Unavailable says that whoever had to decide could not: the token is
	// refused, and nothing is known about it.
	Unavailable = errors.New("chattoken: cannot tell now")
)

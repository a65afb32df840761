// Package verdict holds the sentinel errors that package token and the guards
// share. Both export them under their own names, as the same values, so that
// neither has to import the other.
package verdict

import "errors"

var (
	// ErrRevoked says that this token was issued before a revocation of its user
	// or room.
	ErrRevoked = errors.New("chattoken: revoked")

	// ErrUnavailable says that whoever had to decide could not: the token is
	// refused, and nothing is known about it.
	ErrUnavailable = errors.New("chattoken: unavailable")
)

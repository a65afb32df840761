// Package verdict holds the sentinel errors that package token and the guards
// share. Both export them under their own names, as the same values, so that
// neither has to import the other.
package verdict

import "errors"

var (
	// ErrRevoked says that this token was issued before a revocation of its user
	// or room.
	ErrRevoked = errors.New("chattoken: revoked")

	// ErrAllRevoked says that it was issued before a revocation of everyone. It
	// matches ErrRevoked.
	ErrAllRevoked error = allRevoked{}

	// ErrUnavailable says that whoever had to decide could not: the token is
	// refused, and nothing is known about it.
	ErrUnavailable = errors.New("chattoken: unavailable")
)

type allRevoked struct{}

func (allRevoked) Error() string        { return "chattoken: all revoked" }
func (allRevoked) Is(target error) bool { return target == ErrRevoked }

// Unavailable returns an error with a text of its own that matches
// [ErrUnavailable].
func Unavailable(text string) error { return &unavailable{text} }

type unavailable struct{ text string }

func (e *unavailable) Error() string      { return e.text }
func (*unavailable) Is(target error) bool { return target == ErrUnavailable }

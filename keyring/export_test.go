package keyring

import (
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

// What the tests need to make rings that this package would not.
var (
	Derive = derive
	Seal   = seal
)

// What Ring.Open says to package token.
var (
	ErrMalformed  = box.ErrMalformed
	ErrExpiredKey = box.ErrExpiredKey
	ErrRevokedKey = box.ErrRevokedKey
	ErrForged     = box.ErrForged
)

const (
	Magic    = box.Magic
	Overhead = box.Overhead
)

// Box and Unbox are SealBox and OpenBox as package token calls them.
func (r *Ring) Box(dst, plaintext []byte, now time.Time) ([]byte, error) {
	return r.SealBox(box.Inside(), dst, plaintext, now)
}

func (r *Ring) Unbox(dst, sealed []byte, now time.Time) ([]byte, error) {
	return r.OpenBox(box.Inside(), dst, sealed, now)
}

// Snapshot returns what the ring holds behind its atomic pointer, past which no
// dumper looks.
func (r *Ring) Snapshot() any { return r.load() }

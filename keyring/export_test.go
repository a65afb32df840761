package keyring

import (
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

// What the tests need to make rings that this package would not.
var (
	Derive  = derive
	Seal    = seal
	NewAEAD = newAEAD
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

// Class is the word of SPEC.md for an error of Load and Update. That of a KEK
// is any error of its own.
func Class(err error) string {
	if err == nil {
		return ""
	}
	for class, errs := range map[string][]error{
		"format":        {errNotSealed, errSealedForm, errTooLarge},
		"forged":        {errDamaged},
		"context":       {ErrContext},
		"rollback":      {ErrRollback},
		"conflict":      {ErrConflict},
		"too-far-ahead": {errAhead},
		"document": {
			errDocument, errZeroSecret, errDuplicate, errKeyCount, errSerial, errTimes, errChain,
			errMaxTTL, errClockSkew, errPeriod, errLead,
		},
	} {
		for _, e := range errs {
			if errors.Is(err, e) {
				return class
			}
		}
	}
	return "kek"
}

// Restrict puts MinSerial and RefuseForm1 of c in force, as if the ring had been
// made with them.
func (r *Ring) Restrict(c Config) {
	n, _ := newRing(c)
	r.minSerial, r.lowest = n.minSerial, n.lowest
}

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

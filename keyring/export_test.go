package keyring

import (
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

// Tests make rings with these that this package would not.
var (
	Derive  = derive
	Seal    = seal
	NewAEAD = newAEAD
)

// The errors of OpenBox.
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

// Class is SPEC.md's word for an error of Load and Update. A KEK's is any error
// of its own.
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

// Restrict puts c's MinSerial and RefuseForm1 in force, as if the ring had been
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

// Snapshot returns what is behind the ring's atomic pointer. No dumper looks
// past that.
func (r *Ring) Snapshot() any { return r.load() }

package keyring

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

// Seal is for package token, whose Sealer validates what it mints; for all other
// callers it is an error. It encrypts plaintext under the key that is primary at
// now and appends the box to dst. It does not allocate where dst has room for
// len(plaintext) + [box.Overhead] bytes, and writes nothing beyond them.
// plaintext may overlap that room in any way; where it is dst[len(dst)+32:], it
// is not even moved.
//
// The nonce is drawn from crypto/rand for each box. A ring that [New] or [Load]
// made always has a key to seal with.
func (r *Ring) Seal(by box.Caller, dst, plaintext []byte, now time.Time) ([]byte, error) {
	if by.Refused() {
		return dst, box.ErrCaller
	}
	s := r.load()
	if len(s.chain) == 0 {
		return dst, errNoKeys
	}
	k := s.entries[s.primary(now.Unix())].key
	n := len(dst)
	dst = slices.Grow(dst, len(plaintext)+box.Overhead)[:n+box.Ciphertext+len(plaintext)]
	b := dst[n:]
	// The plaintext moves first: the header must not be written over it.
	copy(b[box.Ciphertext:], plaintext)
	copy(b, box.Magic)
	copy(b[len(box.Magic):], k.id[:])
	rand.Read(b[box.Nonce:box.Ciphertext])
	body := b[box.Ciphertext:]
	k.seal(body[:0], b[box.Nonce:box.Ciphertext], body, b[:box.Nonce])
	return dst[:len(dst)+box.TagSize], nil
}

// Open is for package token, as [Ring.Seal] is. It decrypts sealed, if its key
// may open at now, and appends the plaintext to dst. It does not allocate where
// dst has room for len(sealed) - [box.Overhead] bytes. The room must not overlap
// sealed, except that sealed[32:32] as dst decrypts in place. Any other overlap
// with the ciphertext panics; one with the header or the tag alone destroys them,
// and the second may be taken for a forgery.
//
// The errors are those of package box; dst is then returned as it was. After
// [box.ErrForged] the room is zero, and so is the ciphertext that was to be
// decrypted in place. Exactly one key is tried: the one that the box names.
func (r *Ring) Open(by box.Caller, dst, sealed []byte, now time.Time) ([]byte, error) {
	if by.Refused() {
		return dst, box.ErrCaller
	}
	if len(sealed) < box.Overhead || string(sealed[:len(box.Magic)]) != box.Magic {
		return dst, box.ErrMalformed
	}
	k := r.load().find(ID(sealed[len(box.Magic):box.Nonce]))
	if k == nil {
		return dst, box.ErrUnknownKey
	}
	switch k.state(now.Unix()) {
	case Expired:
		return dst, box.ErrExpiredKey
	case Revoked:
		return dst, box.ErrRevokedKey
	}
	plaintext, err := k.key.open(dst, sealed[box.Nonce:box.Ciphertext], sealed[box.Ciphertext:], sealed[:box.Nonce])
	if err != nil {
		return dst, box.ErrForged
	}
	return plaintext, nil
}

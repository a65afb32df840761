package keyring

import (
	"crypto/rand"
	"slices"
	"time"
)

const (
	// Magic begins every box. It names format and version, and is
	// authenticated.
	Magic = "ct1_"

	// Overhead is by how many bytes a box is longer than its plaintext.
	Overhead = headerSize + tagSize
)

const (
	nonceOffset = len(Magic) + len(ID{})
	nonceSize   = 24
	headerSize  = nonceOffset + nonceSize
	tagSize     = 16
)

// Seal encrypts plaintext under the key that is primary at now and appends the
// box to dst. It does not allocate where dst has room for len(plaintext) +
// [Overhead] bytes, and writes nothing beyond them. plaintext may overlap that
// room in any way; where it is dst[len(dst)+32:], it is not even moved.
//
// The nonce is drawn from crypto/rand for each box. A ring that [New] or [Load]
// made always has a key to seal with; the error is about the zero Ring only.
func (r *Ring) Seal(dst, plaintext []byte, now time.Time) ([]byte, error) {
	s := r.load()
	if len(s.chain) == 0 {
		return dst, errNoKeys
	}
	k := s.entries[s.primary(now.Unix())].key
	n := len(dst)
	dst = slices.Grow(dst, len(plaintext)+Overhead)[:n+headerSize+len(plaintext)]
	box := dst[n:]
	// The plaintext moves first: the header must not be written over it.
	copy(box[headerSize:], plaintext)
	copy(box, Magic)
	copy(box[len(Magic):], k.id[:])
	rand.Read(box[nonceOffset:headerSize])
	body := box[headerSize:]
	k.seal(body[:0], box[nonceOffset:headerSize], body, box[:nonceOffset])
	return dst[:len(dst)+tagSize], nil
}

// Open decrypts box, if its key may open at now, and appends the plaintext to
// dst. It does not allocate where dst has room for len(box) - [Overhead] bytes.
// The room must not overlap box, except that box[32:32] as dst decrypts in
// place. Any other overlap with the ciphertext panics; one with the header or the
// tag alone destroys them, and the second may be taken for a forgery.
//
// The errors are [ErrMalformed], [ErrUnknownKey], [ErrExpiredKey],
// [ErrRevokedKey] and [ErrForged]; dst is then returned as it was. After
// ErrForged the room is zero, and so is the ciphertext that was to be decrypted
// in place. Exactly one key is tried: the one that the box names.
func (r *Ring) Open(dst, box []byte, now time.Time) ([]byte, error) {
	if len(box) < Overhead || string(box[:len(Magic)]) != Magic {
		return dst, ErrMalformed
	}
	k := r.load().find(ID(box[len(Magic):nonceOffset]))
	if k == nil {
		return dst, ErrUnknownKey
	}
	switch k.state(now.Unix()) {
	case Expired:
		return dst, ErrExpiredKey
	case Revoked:
		return dst, ErrRevokedKey
	}
	plaintext, err := k.key.open(dst, box[nonceOffset:headerSize], box[headerSize:], box[:nonceOffset])
	if err != nil {
		return dst, ErrForged
	}
	return plaintext, nil
}

package keyring

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

// SealBox is for package token only, and package internal/box documents it. To
// mint, use a token.Sealer, which validates what it seals.
func (r *Ring) SealBox(by box.Caller, dst, plaintext []byte, now time.Time) ([]byte, error) {
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
	// The plaintext moves first, or the header could overwrite it.
	copy(b[box.Ciphertext:], plaintext)
	copy(b, box.Magic)
	copy(b[len(box.Magic):], k.id[:])
	rand.Read(b[box.Nonce:box.Ciphertext])
	body := b[box.Ciphertext:]
	k.seal(body[:0], b[box.Nonce:box.Ciphertext], body, b[:box.Nonce])
	return dst[:len(dst)+box.TagSize], nil
}

// OpenBox is for package token only. To open tokens, use a token.Opener.
func (r *Ring) OpenBox(by box.Caller, dst, sealed []byte, now time.Time) ([]byte, error) {
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

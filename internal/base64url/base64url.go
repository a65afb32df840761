// Package base64url is the text encoding of a token: base64url without padding
// (RFC 4648, section 5). Every byte string has exactly one encoding: whatever
// [Decode] accepts, [Append] would have written.
//
// It differs from encoding/base64's RawURLEncoding.Strict in two ways: it
// refuses CR and LF, and it is faster.
//
// Nothing here runs in constant time: table look-ups show the characters in the
// cache. That is no harm to a token, whose text the client knows. Don't use it
// for keys that a stranger can have decoded. The text of a KEK is decoded once,
// when it is loaded.
package base64url

import (
	"encoding/binary"
	"slices"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// EncodedLen returns the number of characters that encode n bytes. It overflows
// if n is above three quarters of the largest int.
func EncodedLen(n int) int { return n/3*4 + (n%3*8+5)/6 }

// DecodedLen returns the number of bytes that n characters decode to, rounded
// down. No encoding has n = 1 modulo 4 characters; [Decode] refuses those.
func DecodedLen(n int) int { return n/4*3 + n%4*6/8 }

// Append appends the encoding of src to dst and returns the extended slice. It
// doesn't allocate if dst has room for [EncodedLen](len(src)) more bytes, and
// never writes beyond them. That room must not overlap src.
func Append(dst, src []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, EncodedLen(len(src)))[:n+EncodedLen(len(src))]
	encoding.encode(dst[n:], src)
	return dst
}

// Decode decodes src into dst and returns the number of bytes written,
// [DecodedLen](len(src)). It never writes beyond them, and never allocates.
//
// It reports false, with n = 0, in these cases:
//   - dst is shorter than DecodedLen(len(src))
//   - the length of src is 1 modulo 4
//   - a character is outside the alphabet, such as padding or a line break
//   - the spare bits of the last character are not zero
//
// If dst is long enough, its first DecodedLen(len(src)) bytes are then
// unspecified, but hold only bits of src.
func Decode(dst []byte, src string) (n int, ok bool) {
	n = DecodedLen(len(src))
	if len(src)%4 == 1 || len(dst) < n || !decoding.decode(dst[:n], src) {
		return 0, false
	}
	return n, true
}

// An encoder maps 12 bits to their two characters. The low byte has the first.
type encoder [1 << 12]uint16

var encoding = newEncoder()

func newEncoder() *encoder {
	t := new(encoder)
	for i := range t {
		t[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&63])<<8
	}
	return t
}

// encode fills dst, which has exactly the length of the encoding.
func (t *encoder) encode(dst, src []byte) {
	// More than a round must be left, because quad loads one byte too many.
	// To check both lengths is redundant, but lets the compiler drop every
	// bounds check.
	for len(src) > 12 && len(dst) > 16 {
		t.quad(dst, src)
		t.quad(dst[4:], src[3:])
		t.quad(dst[8:], src[6:])
		t.quad(dst[12:], src[9:])
		dst, src = dst[16:], src[12:]
	}
	for len(src) > 3 && len(dst) > 4 {
		t.quad(dst, src)
		dst, src = dst[4:], src[3:]
	}
	var v [4]byte
	copy(v[:], src)
	x := binary.BigEndian.Uint32(v[:])
	for i := range dst {
		dst[i] = alphabet[x>>26]
		x <<= 6
	}
}

// quad encodes src[:3] to dst[:4]. It also loads src[3].
func (t *encoder) quad(dst, src []byte) {
	x := binary.BigEndian.Uint32(src)
	binary.LittleEndian.PutUint16(dst, t[x>>20])
	binary.LittleEndian.PutUint16(dst[2:], t[x>>8&0xfff])
}

// A decoder maps a character, by its position in a group of four, to its six
// bits where the group's three bytes have them; the low byte is the first. So
// the group is the OR of four entries, written with one store.
//
// Two loads a character bound the speed. Two alternatives are slower:
// arithmetic on eight characters in a register takes three times as long, and a
// table of character pairs fills a first-level cache.
type decoder [4][256]uint32

// invalid marks a character outside the alphabet. It is a bit above the three
// bytes, so the OR of all entries shows in the end whether there was one.
const invalid = 1 << 24

var decoding = newDecoder()

func newDecoder() *decoder {
	t := new(decoder)
	for i := range t {
		for c := range t[i] {
			t[i][c] = invalid
		}
		for v := range alphabet {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(v)<<(26-6*i))
			t[i][alphabet[v]] = binary.LittleEndian.Uint32(b[:])
		}
	}
	return t
}

// decode fills dst, which has exactly the decoded length, and reports whether
// src is an encoding. The length of src is not 1 modulo 4.
func (t *decoder) decode(dst []byte, src string) bool {
	var seen uint32
	// More than a round must be left, because quad stores one byte too
	// many, which the next store overwrites. To check both lengths is
	// redundant, but lets the compiler drop every bounds check.
	for len(src) > 16 && len(dst) > 12 {
		seen |= t.quad(dst, src)
		seen |= t.quad(dst[3:], src[4:])
		seen |= t.quad(dst[6:], src[8:])
		seen |= t.quad(dst[9:], src[12:])
		dst, src = dst[12:], src[16:]
	}
	for len(src) > 4 && len(dst) > 3 {
		seen |= t.quad(dst, src)
		dst, src = dst[3:], src[4:]
	}
	var last uint32
	for i := range len(src) {
		last |= t[i][src[i]]
	}
	for i := range dst {
		dst[i] = byte(last)
		last >>= 8
	}
	// What is left of last are its spare bits, and invalid.
	return seen < invalid && last == 0
}

// quad decodes src[:4] to dst[:3] and returns the OR of the entries. It also
// stores to dst[3].
func (t *decoder) quad(dst []byte, src string) uint32 {
	v := t[0][src[0]] | t[1][src[1]] | t[2][src[2]] | t[3][src[3]]
	binary.LittleEndian.PutUint32(dst, v)
	return v
}

// Package box defines the bytes of a token, before they become text, and who
// may seal and open them:
//
//	"ct1_" ‖ key ID [4] ‖ nonce [24] ‖ ciphertext ‖ tag [16]
//
// The cipher is XChaCha20-Poly1305. The first 8 bytes are its additional data.
//
// # Sealing
//
// Ring.SealBox encrypts a plaintext under the key that is primary at now and
// appends the box to dst. It draws a nonce from crypto/rand for each box. It
// doesn't allocate if dst has room for the plaintext and [Overhead] more bytes,
// and writes nothing beyond them. The plaintext may overlap that room in any
// way. If it is dst[len(dst)+32:], it isn't even moved.
//
// # Opening
//
// Ring.OpenBox decrypts a box, if its key may open at now, and appends the
// plaintext to dst. It tries exactly one key: the one that the box names. It
// doesn't allocate if dst has room for the plaintext. On an error it returns
// dst unchanged. After [ErrForged] the room is zero, and so is a ciphertext
// that was to be decrypted in place.
//
// To decrypt in place, pass box[32:32] as dst. Otherwise the room must not
// overlap the box. An overlap with the ciphertext panics. One with only the
// header or the tag destroys them, and may look like a forgery.
package box

import "errors"

const (
	// Magic begins every box and every token. It names format and version,
	// and is authenticated.
	Magic = "ct1_"

	KeyIDSize = 4
	NonceSize = 24
	TagSize   = 16

	// Nonce and Ciphertext are the indexes at which these begin.
	Nonce      = len(Magic) + KeyIDSize
	Ciphertext = Nonce + NonceSize

	// Overhead is how many bytes longer a box is than its plaintext.
	Overhead = Ciphertext + TagSize
)

// Caller proves that a call comes from this module: only its packages can
// import this one. A keyring.Ring seals and opens boxes for no one else,
// because others could make tokens beyond all limits. A stranger can still make
// the zero Caller, with reflect or a type parameter; the Ring refuses it.
// Nothing stops code that uses unsafe or reflect.NewAt, but such code can read
// the keys anyway.
type Caller struct{ inside *byte }

var inside = new(byte)

// Inside returns the Caller that a Ring accepts.
func Inside() Caller { return Caller{inside} }

// Refused reports whether c is not from [Inside].
func (c Caller) Refused() bool { return c.inside != inside }

// Why a ring doesn't open a box. The texts say nothing about the input.
var (
	ErrMalformed  = errors.New("keyring: malformed box")
	ErrUnknownKey = errors.New("keyring: unknown key")
	ErrExpiredKey = errors.New("keyring: expired key")
	ErrRevokedKey = errors.New("keyring: revoked key")

	// ErrForged says that the box is not authentic: forged, damaged, or
	// sealed under another key with the same ID.
	ErrForged = errors.New("keyring: forged box")

	// ErrCaller says that the Caller is not from [Inside].
	ErrCaller = errors.New("keyring: boxes are sealed and opened by package token only")
)

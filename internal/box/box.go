// Package box is the layout of a token before it is text, and who may make and
// open one:
//
//	"ct1_" ‖ key ID [4] ‖ nonce [24] ‖ ciphertext ‖ tag [16]
//
// of XChaCha20-Poly1305 with the first 8 bytes as additional data.
//
// # Sealing
//
// Ring.SealBox encrypts a plaintext under the key that is primary at now and
// appends the box to dst. It does not allocate if dst has room for the
// plaintext and [Overhead] more bytes, and writes nothing beyond them. The
// plaintext may overlap that room in any way; if it is dst[len(dst)+32:], it is
// not even moved. The nonce is drawn from crypto/rand for each box.
//
// # Opening
//
// Ring.OpenBox decrypts a box, if its key may open at now, and appends the
// plaintext to dst. It does not allocate if dst has room. The room must not
// overlap the box, except that box[32:32] as dst decrypts in place. Any other
// overlap with the ciphertext panics; one with the header or the tag alone
// destroys them, and the second may be taken for a forgery. On an error dst is
// returned as it was. After [ErrForged] the room is zero, and so is the
// ciphertext that was to be decrypted in place. Exactly one key is tried: the
// one that the box names.
package box

import "errors"

const (
	// Magic begins every box and every token. It names format and version, and
	// is authenticated.
	Magic = "ct1_"

	KeyIDSize = 4
	NonceSize = 24
	TagSize   = 16

	// Nonce and Ciphertext are where these begin.
	Nonce      = len(Magic) + KeyIDSize
	Ciphertext = Nonce + NonceSize

	// Overhead is by how many bytes a box is longer than its plaintext.
	Overhead = Ciphertext + TagSize
)

// Caller shows that a call comes from this module, whose path a package must
// have to import this one. A keyring.Ring seals and opens boxes for no one
// else, or what a token says could be made up past all limits. A stranger can
// still make the zero Caller, with reflect or a type parameter: it is refused.
// Nothing stops who writes to memory past the type system, with unsafe or
// reflect.NewAt; that reads the keys, too.
type Caller struct{ inside *byte }

var inside = new(byte)

// Inside is the caller that is obeyed.
func Inside() Caller { return Caller{inside} }

// Refused reports whether c is not from [Inside].
func (c Caller) Refused() bool { return c.inside != inside }

// Why a box is not opened. None says anything about the input.
var (
	ErrMalformed  = errors.New("keyring: malformed box")
	ErrUnknownKey = errors.New("keyring: unknown key")
	ErrExpiredKey = errors.New("keyring: expired key")
	ErrRevokedKey = errors.New("keyring: revoked key")

	// ErrForged says that the box is not authentic: forged, damaged, or sealed
	// under another key that has the same ID.
	ErrForged = errors.New("keyring: forged box")

	// ErrCaller says that a stranger tried.
	ErrCaller = errors.New("keyring: boxes are sealed and opened by package token only")
)

// Package box is the layout of a token before it is text, and who may make and
// open one:
//
//	"ct1_" ‖ key ID [4] ‖ nonce [24] ‖ ciphertext ‖ tag [16]
//
// of XChaCha20-Poly1305 with the first 8 bytes as additional data.
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

// Caller shows that a call comes from this module, which alone can import this
// package. A keyring.Ring seals and opens boxes for no one else, or what a token
// says could be made up past all limits. A stranger can still make the zero
// Caller, with reflect or a type parameter: it is refused.
type Caller struct{ inside bool }

// Inside is the caller that is obeyed.
func Inside() Caller { return Caller{inside: true} }

// Refused reports whether c is not from [Inside].
func (c Caller) Refused() bool { return !c.inside }

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

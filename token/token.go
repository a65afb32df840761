// Package token mints and verifies chat tokens, one-time tickets for a WebSocket:
// short, encrypted, single-use strings that let one user into one chat room.
//
// An application server mints with [Sealer.Create]. The user's client presents
// the token when it opens a WebSocket. The gateway verifies it with
// [Opener.Open], which fills in a [Session]. Keep that for the life of the
// connection, and call [Session.Authorize] before each message. Neither makes a
// network call; both share a keyring.Ring.
//
// A token has two deadlines, both fixed when it is made. Until the token
// expiration, a minute later by default, it can open a connection. Until the
// session expiration, 1 to 180 minutes later, that connection may live.
//
// # Format
//
// A token is text of at most [MaxLen] characters that are all legal in an HTTP
// header, in JSON without escapes, in the WebSocket subprotocol and in a URL
// (where it does not belong, because URLs are logged):
//
//	"ct1_" base64url( key ID [4] ‖ nonce [24] ‖ ciphertext ‖ tag [16] )
//
// sealed with XChaCha20-Poly1305; the prefix and the key ID are authenticated.
// Every token has exactly one spelling. SPEC.md has the format, its test
// vectors and the threat model. Version 1 is a promise: tokens that this
// package mints are opened by every later version of it that knows "ct1_".
//
// # Single use
//
// [Opener.Open] spends the token, as its very last check: after that, the same
// token is refused with [ErrSpent], even if the connection then failed. The
// client asks for another one. The [Guard] remembers the spent tokens, and
// whose were revoked; package replay has one for a process, and package
// replay/valkey one for a fleet.
//
// # Errors
//
// Whatever is not an authentic token gives an error that matches [ErrInvalid]
// and has its text, so that a stranger learns nothing else; operators tell the
// kinds apart with errors.Is or [Reason]. All others are about authentic
// tokens, except [ErrUnavailable] from an Opener that is not set up. [Action]
// tells a gateway what its client should do. On every error the Session is
// zero.
//
// A token is a bearer secret until it is spent or expires: never log one.
package token

import (
	"encoding/hex"
	"errors"
	"sync"

	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/internal/payload"
)

const (
	// Prefix begins every token. It names format and version for secret
	// scanners, and keeps a token from looking like a command-line flag.
	Prefix = box.Magic // "ct1_"

	// MinLen and MaxLen are the lengths in characters, all ASCII, of the
	// shortest and the longest legal token. A buffer of MaxLen bytes holds
	// every token.
	MinLen = 76
	MaxLen = 3850

	// DefaultTTL is the validity of a token where the Sealer states none;
	// MinTTL and MaxTTL are its limits.
	DefaultTTL = limits.DefaultTTL // 60 s
	MinTTL     = limits.MinTTL     // 5 s
	MaxTTL     = limits.MaxTTL     // 10 min
)

// maxBox is the size of the longest box: what MaxLen characters decode to, and
// the prefix, which is part of it in clear.
const maxBox = len(Prefix) + (MaxLen-len(Prefix))*3/4

// ID identifies one token: 16 random bytes, authenticated with it. It is no
// secret.
type ID [16]byte

var errID = errors.New("token: a token ID is 32 hexadecimal digits")

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes, or as many hexadecimal digits in
// upper case. On an error id is left as it was.
func (id *ID) UnmarshalText(text []byte) error {
	var parsed ID
	if len(text) != hex.EncodedLen(len(id)) {
		return errID
	}
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return errID
	}
	*id = parsed
	return nil
}

// workspace is the memory in which one token is sealed or opened. It is on the
// heap because arguments of a cipher.AEAD escape, and pooled because one would
// otherwise be allocated for every token that a stranger makes up.
type workspace struct {
	box     [maxBox]byte
	text    [MaxLen]byte // for those who want a string of it
	encoder payload.Encoder
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

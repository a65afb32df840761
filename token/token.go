// Package token mints and verifies chat tokens: short, encrypted, single-use
// strings. Each lets one user into one chat room, over a WebSocket.
//
// An application server mints a token with [Sealer.Create]. The user's client
// presents it when it opens a WebSocket. The gateway verifies it with
// [Opener.Open], which fills in a [Session]. Keep the Session as long as the
// connection, and call [Session.Authorize] before each message. Sealer and
// Opener share a [keyring.Ring] and make no network call.
//
// A token has two deadlines, both fixed when it is minted. It can open a
// connection until the token expiration, by default a minute later. That
// connection may last until the session expiration, 1 to 180 minutes later.
//
// # Format
//
// A token is text of at most [MaxLen] characters, sealed with
// XChaCha20-Poly1305. The prefix and the key ID are authenticated:
//
//	"ct1_" base64url( key ID [4] ‖ nonce [24] ‖ ciphertext ‖ tag [16] )
//
// Every character is legal in an HTTP header, a WebSocket subprotocol, a URL,
// and JSON without escapes. Keep tokens out of URLs, because URLs are logged.
//
// A token has exactly one spelling. SPEC.md has the format, its test vectors
// and the threat model. Version 1 is a promise: every later version of this
// package that knows "ct1_" opens the tokens that this one mints.
//
// # Single use
//
// [Opener.Open] spends the token as its last check. From then on it refuses the
// token with [ErrSpent], even if the connection failed; the client asks for
// another one. The [Guard] remembers which tokens were spent and which are
// revoked. Package [github.com/seed17cb2b26/chattoken/replay] has one for a
// process. Packages replay/valkey and replay/etcd have one for a fleet.
//
// # Errors
//
// If a token isn't authentic, the error matches [ErrInvalid] and has its text,
// so a stranger learns nothing more. Operators tell the kinds apart with
// [errors.Is] or [Reason]. All other errors are about authentic tokens, except
// [ErrUnavailable] from an Opener that is not set up. [Action] says what the
// client should do next. On every error the Session is zero.
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
	// Prefix begins every token. It names the format and version. Secret
	// scanners find tokens by it, and no token looks like a command-line
	// flag.
	Prefix = box.Magic // "ct1_"

	// MinLen and MaxLen are the lengths of the shortest and the longest
	// legal token, in ASCII characters. A buffer of MaxLen bytes holds
	// every token.
	MinLen = 76
	MaxLen = 3850

	// DefaultTTL is how long a token can be used if [Sealer.TTL] is zero.
	// MinTTL and MaxTTL are the limits of that field.
	DefaultTTL = limits.DefaultTTL // 60 s
	MinTTL     = limits.MinTTL     // 5 s
	MaxTTL     = limits.MaxTTL     // 10 min
)

// maxBox is the size of the longest box: the prefix as it is, and the other
// characters decoded.
const maxBox = len(Prefix) + (MaxLen-len(Prefix))*3/4

// ID identifies one token: 16 random bytes, authenticated with it. It is not
// secret.
type ID [16]byte

var errID = errors.New("token: a token ID is 32 hexadecimal digits")

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 32 hexadecimal digits, in either case. On an error id
// keeps its value.
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
// heap because arguments of a cipher.AEAD escape. It is pooled so that a
// stranger's input doesn't allocate.
type workspace struct {
	box     [maxBox]byte
	text    [MaxLen]byte // for Create
	encoder payload.Encoder
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

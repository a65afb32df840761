package peers_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

// A peer mints and verifies tokens under keys of its own. It is safe for
// concurrent use.
type peer interface {
	// mint returns a token for g, valid from now for lifetime. g has no
	// times.
	mint(g grant) (string, error)

	// verify fills in g, which is zero, from an authentic and timely token.
	verify(text string, g *grant) error
}

// peers are all peers.
var peers = []struct {
	name string // part of a benchmark's name: neither slash nor space
	make func(testing.TB) peer
}{
	{"chattoken", newChattoken},
	{"chattoken-copied", newChattokenCopied},
	{"tink-aes-gcm", newTinkAESGCM},
	{"tink-xchacha20", newTinkXChaCha20},
	{"fernet", newFernet},
	{"securecookie", newSecurecookie},
	{"macaroon", newMacaroon},
	{"kataras-jwt", newKataras},
	{"jose2go-jwe", newJose2go},
	{"go-jose-jwe", newGoJose},
	{"jwx-jwe", newJWX},
	{"golang-jwt-hs256", newGolangJWTHS256},
	{"golang-jwt-eddsa", newGolangJWTEdDSA},
	{"o1egl-paseto-v2", newO1egl},
	{"go-paseto-v4", newGoPaseto},
	{"go-cose-eddsa", newGoCOSE},
}

// lifetime is how long the tokens are valid: long enough for a benchmark, and,
// in seconds, as few bytes as a minute.
const lifetime = 4 * time.Minute

// grant is what a token says: in CBOR an array, in JSON an object.
type grant struct {
	_              struct{}          `cbor:",toarray" json:"-"`
	Room           string            `json:"room"`
	User           string            `json:"user"`
	Capabilities   uint8             `json:"cap"`
	Attributes     map[string]string `json:"attr"`
	IssuedAt       int64             `json:"iat"`
	Expires        int64             `json:"exp"`
	SessionMinutes int               `json:"ses"`
}

var errGrant = errors.New("expired, from the future, or outside the limits")

// stamped returns g with its times set.
func (g grant) stamped(now time.Time) grant {
	g.IssuedAt = now.Unix()
	g.Expires = now.Add(lifetime).Unix()
	return g
}

// check does what a library leaves undone that checks no claims.
func (g *grant) check(now time.Time) error {
	t := now.Unix()
	if g.Room == "" || len(g.Room) > 128 || g.User == "" || g.Capabilities > 7 ||
		g.SessionMinutes < 1 || g.SessionMinutes > 180 ||
		t >= g.Expires || g.IssuedAt > t+5 {
		return errGrant
	}
	return nil
}

// Modes are fast if made once.
var (
	cborEncoder = must(cbor.EncOptions{}.EncMode())
	cborDecoder = must(cbor.DecOptions{}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// toCBOR is for schemes without claims of their own: it returns what they mint.
// fromCBOR reads what they verified.
func toCBOR(g grant) ([]byte, error) { return cborEncoder.Marshal(g.stamped(time.Now())) }

func fromCBOR(payload []byte, g *grant) error {
	if err := cborDecoder.Unmarshal(payload, g); err != nil {
		return err
	}
	return g.check(time.Now())
}

// toJSON and fromJSON are the same for the family of JWT.
func toJSON(g grant) ([]byte, error) { return json.Marshal(g.stamped(time.Now())) }

func fromJSON(payload []byte, g *grant) error {
	if err := json.Unmarshal(payload, g); err != nil {
		return err
	}
	return g.check(time.Now())
}

// toText and fromText are for schemes whose tokens are bytes.
func toText(token []byte) string { return base64.RawURLEncoding.EncodeToString(token) }

func fromText(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }

// randomKey returns a key of n bytes.
func randomKey(n int) []byte {
	key := make([]byte, n)
	rand.Read(key)
	return key
}

// mint returns a token of p for g.
func mint(t testing.TB, p peer, g grant) string {
	t.Helper()
	text, err := p.mint(g)
	require.NoError(t, err)
	return text
}

// forge changes one character near the end, where every token has its
// authenticator.
func forge(text string) string {
	b := []byte(text)
	at := len(b) - 8
	if b[at] != 'A' {
		b[at] = 'A'
	} else {
		b[at] = 'B'
	}
	return string(b)
}

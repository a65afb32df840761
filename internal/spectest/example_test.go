package spectest_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// example is the worked example of SPEC.md, made with the primitives.
type example struct {
	t      *testing.T
	lines  []string
	token  string
	kek    string
	sealed []byte
}

func newExample(t *testing.T) *example {
	e := &example{t: t}
	secret, context := e.counting(0x00, 32), []byte("chat.example.com")
	e.hex("secret", secret)
	e.hex("context", context)
	key, id := e.derive(secret, "chattoken/v1 key\x00"+string(context), 32), e.derive(secret, "chattoken/v1 key-id\x00"+string(context), 4)
	e.hex("key", key)
	e.hex("key ID", id)
	e.line("")

	e.line("room         = \"lobby\"")
	e.line("user         = \"Zo\u00eb\"")
	e.line("capabilities = 5: SEND_MESSAGE, DELETE_MESSAGE")
	e.line("attributes   = \"name\": \"Zo\u00eb\", \"\u00e9\": \"1\"")
	e.line("issued-at    = 1647405789")
	e.line("ttl          = 60")
	e.line("session      = 30")
	payload := []byte("\x87\x65lobby\x64Zo\u00eb\x05\xa2\x62\u00e9\x611\x64name\x64Zo\u00eb\x1a\x62\x31\x6a\xdd\x18\x3c\x18\x1e")
	e.hex("payload", payload)
	e.line("")

	nonce := e.counting(0x40, 24)
	header := append([]byte("ct1_"), id...)
	body := e.seal(key, nonce, payload, header)
	e.hex("nonce", nonce)
	e.hex("AAD", header)
	e.hex("ciphertext", body[:len(body)-16])
	e.hex("tag", body[len(body)-16:])
	e.token = "ct1_" + base64.RawURLEncoding.EncodeToString(slices.Concat(id, nonce, body))
	e.wrap("token", e.token)
	e.hex("token ID", nonce[:16])
	e.line("expires      = 1647405849")
	e.line("session ends = 1647407589")
	e.line("")

	kek := e.counting(0x60, 32)
	e.kek = "chattoken-kek1_" + base64.RawURLEncoding.EncodeToString(kek)
	kekID := "local-" + hex.EncodeToString(e.derive(kek, "chattoken/v1 kek-id\x00", 8))
	wrapping := e.derive(kek, "chattoken/v1 kek\x00", 32)
	e.wrap("KEK", e.kek)
	e.wrap("KEK ID", kekID)
	e.hex("wrapping key", wrapping)
	dataKey, wrapNonce := e.counting(0x80, 32), e.counting(0xa0, 24)
	e.hex("data key", dataKey)
	e.hex("wrap nonce", wrapNonce)
	wrapped := append(wrapNonce, e.seal(wrapping, wrapNonce, dataKey, []byte(kekID))...)
	e.hex("wrapped key", wrapped)
	e.line("")

	e.line("serial       = 1")
	e.line("policy       = 60, 5, 2592000, 3600")
	e.line("ring key     = the secret, created 1647405789, other times 0")
	document := slices.Concat([]byte("\x84\x01\x84\x18\x3c\x05\x1a\x00\x27\x8d\x00\x19\x0e\x10\x81\x86\x58\x20"), secret, []byte("\x1a\x62\x31\x6a\xdd\x00\x00\x00\x00\x80"))
	e.hex("document", document)
	digest := sha256.Sum256([]byte("chattoken/v1 context\x00" + string(context)))
	e.hex("digest", digest[:])
	sealHeader := slices.Concat([]byte("chattoken-keyring\x02"), []byte{byte(len(kekID))}, []byte(kekID), []byte{0, byte(len(wrapped))}, wrapped)
	e.hex("header, AAD", sealHeader)
	ringNonce := e.counting(0xc0, 24)
	e.hex("ring nonce", ringNonce)
	sealed := e.seal(dataKey, ringNonce, slices.Concat(digest[:], document), sealHeader)
	e.hex("encrypted", sealed[:len(sealed)-16])
	e.hex("ring tag", sealed[len(sealed)-16:])
	e.sealed = slices.Concat(sealHeader, ringNonce, sealed)
	return e
}

func (e *example) line(s string) { e.lines = append(e.lines, strings.TrimRight(s, " ")) }

func (e *example) hex(name string, b []byte) { e.wrap(name, hex.EncodeToString(b)) }

// wrap writes a value, 64 characters a line.
func (e *example) wrap(name, value string) {
	name = fmt.Sprintf("%-12s = ", name)
	for part := range slices.Chunk([]byte(value), 64) {
		e.line(name + string(part))
		name = strings.Repeat(" ", len(name))
	}
}

func (e *example) counting(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func (e *example) derive(secret []byte, info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, info, n)
	require.NoError(e.t, err)
	return b
}

func (e *example) seal(key, nonce, plaintext, additionalData []byte) []byte {
	aead, err := chacha20poly1305.NewX(key)
	require.NoError(e.t, err)
	return aead.Seal(nil, nonce, plaintext, additionalData)
}

// TestExample checks every value of the worked example, and that the library
// reads the results.
func TestExample(t *testing.T) {
	e := newExample(t)
	spec, err := os.ReadFile("../../SPEC.md")
	require.NoError(t, err)
	want := "```\n" + strings.Join(e.lines, "\n") + "\n```\n"
	_, rest, _ := strings.Cut(string(spec), "\n## 9. Worked example\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	block, _, _ := strings.Cut(rest, "```\n")
	require.Equal(t, want, "```\n"+block+"```\n")

	kek, err := keyring.ParseKEK(e.kek)
	require.NoError(t, err)
	ring, err := keyring.Load(t.Context(), kek, e.sealed, keyring.Config{Context: "chat.example.com"})
	require.NoError(t, err)
	opener := token.Opener{Ring: ring, Now: func() time.Time { return time.Unix(1647405789, 0) }}
	var s token.Session
	require.NoError(t, opener.OpenWithoutSpending(t.Context(), &s, e.token))
	assert.Equal(t, claims.Claims{
		RoomIdentifier: "lobby",
		UserID:         "Zoë",
		Capabilities:   claims.SendMessage | claims.DeleteMessage,
		Attributes:     map[string]string{"name": "Zoë", "é": "1"},
		SessionMinutes: 30,
	}, s.Claims())
	summary := s.Summary()
	assert.EqualValues(t, 1647405849, summary.Expiration.Unix())
	assert.EqualValues(t, 1647407589, s.SessionExpiration().Unix())
}

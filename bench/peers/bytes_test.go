package peers_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// Bytes opens tokens with attributes of 0 to 1,024 bytes, 128 to each:
//
//	chattoken this library
//	standard  encoding/base64 and the bare AEAD
//	floor     the bare AEAD
func BenchmarkBytes(b *testing.B) {
	for _, bm := range []struct {
		name string
		make func(b *testing.B, p peer, text string) func()
	}{{"chattoken", openOurs}, {"standard", openStandard}, {"floor", openFloor}} {
		b.Run("lib="+bm.name, func(b *testing.B) {
			for n := 0; n <= 1024; n += 128 {
				b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
					p := newChattoken(b)
					open := bm.make(b, p, mint(b, p, withAttributes(n)))
					for b.Loop() {
						open()
					}
				})
			}
		})
	}
}

func withAttributes(n int) grant {
	g := sizes[0].grant
	g.Attributes = map[string]string{}
	for i := range n / 128 {
		g.Attributes[string(rune('a'+i))] = strings.Repeat("x", 127)
	}
	return g
}

func openOurs(b *testing.B, p peer, text string) func() {
	verify := newVerifier(p)
	return func() {
		if err := verify(text); err != nil {
			b.Fatal(err)
		}
	}
}

func openStandard(b *testing.B, p peer, text string) func() {
	floor := openFloor(b, p, text)
	strict := base64.RawURLEncoding.Strict()
	source := []byte(text[len(token.Prefix):])
	box := make([]byte, strict.DecodedLen(len(source)))
	return func() {
		if _, err := strict.Decode(box, source); err != nil {
			b.Fatal(err)
		}
		floor()
	}
}

func openFloor(b *testing.B, _ peer, text string) func() {
	aead, err := chacha20poly1305.NewX(make([]byte, chacha20poly1305.KeySize))
	require.NoError(b, err)
	// A token is the prefix, key ID, nonce, ciphertext and tag.
	plain := base64.RawURLEncoding.DecodedLen(len(text)-len(token.Prefix)) - len(keyring.ID{}) - aead.NonceSize() - aead.Overhead()
	plaintext := make([]byte, plain)
	nonce := make([]byte, aead.NonceSize())
	additional := make([]byte, len(token.Prefix)+len(keyring.ID{}))
	ciphertext := aead.Seal(nil, nonce, plaintext, additional)
	return func() {
		if _, err := aead.Open(plaintext[:0], nonce, ciphertext, additional); err != nil {
			b.Fatal(err)
		}
	}
}

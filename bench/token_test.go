package bench_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

var sizes = []struct {
	name   string
	claims claims.Claims
}{
	{"small", claims.Claims{
		RoomIdentifier: tokentest.Room,
		UserID:         "11231234",
		Capabilities:   claims.SendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
		SessionMinutes: 60,
	}},
	{"medium", claims.Claims{
		RoomIdentifier: tokentest.Room,
		UserID:         "6f1d8a52-9f0e-4c55-8a3b-2f4d5be0c1aa",
		Capabilities:   claims.SendMessage | claims.DeleteMessage,
		Attributes: map[string]string{
			"displayName": "Zoë Quartermain-Delacroix",
			"avatar":      "https://images.example.com/avatars/6f1d8a52/256x256.png",
			"badges":      "subscriber,moderator,founder,bits-1000,sub-gifter-50",
		},
		SessionMinutes: 60,
	}},
	{"large", claims.Claims{
		RoomIdentifier: tokentest.Room,
		UserID:         "6f1d8a52-9f0e-4c55-8a3b-2f4d5be0c1aa",
		Capabilities:   claims.SendMessage | claims.DeleteMessage | claims.DisconnectUser,
		Attributes:     eightAttributes(),
		SessionMinutes: 180,
	}},
}

func eightAttributes() map[string]string {
	m := map[string]string{}
	for i := range 8 {
		m[fmt.Sprintf("attribute-%d", i)] = strings.Repeat(string(rune('a'+i)), 114)
	}
	return m
}

// rig is what a benchmark of one size needs.
type rig struct {
	claims claims.Claims
	ring   *keyring.Ring
	sealer token.Sealer
	opener token.Opener
	text   string
	ctx    context.Context
}

func newRig(b *testing.B, c claims.Claims) *rig {
	b.Helper()
	now := time.Now()
	ring, err := keyring.New(now, keyring.Config{Policy: keyring.Policy{MaxTTL: token.MaxTTL}})
	if err != nil {
		b.Fatal(err)
	}
	// A token outlives the benchmark, and is as long as one of the usual
	// minute: up to 255 seconds fit in one byte.
	r := &rig{claims: c, ring: ring, ctx: context.Background()}
	r.sealer = token.Sealer{Ring: ring, TTL: 4 * time.Minute}
	r.opener = token.Opener{Ring: ring} // the guard has its own benchmark
	minted, err := r.sealer.Create(c)
	if err != nil {
		b.Fatal(err)
	}
	r.text = minted.Token
	return r
}

// each runs f for every size.
func each(b *testing.B, f func(*testing.B, *rig)) {
	for _, size := range sizes {
		b.Run("size="+size.name, func(b *testing.B) {
			r := newRig(b, size.claims)
			b.ReportAllocs()
			f(b, r)
		})
	}
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// Open: the text in, a verified Session out, into a Session that is reused.
func BenchmarkOpen(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		var s token.Session
		for b.Loop() {
			check(b, r.opener.OpenWithoutSpending(r.ctx, &s, r.text))
		}
	})
}

// OpenFresh: the same into a Session of its own.
func BenchmarkOpenFresh(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		for b.Loop() {
			var s token.Session
			check(b, r.opener.OpenWithoutSpending(r.ctx, &s, r.text))
		}
	})
}

// Seal: claims in, the text appended to a buffer with room.
func BenchmarkSeal(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		dst := make([]byte, 0, token.MaxLen)
		var err error
		for b.Loop() {
			dst, _, err = r.sealer.Seal(dst[:0], &r.claims)
			check(b, err)
		}
		b.ReportMetric(float64(len(dst)), "chars")
	})
}

// Create: the convenient form, which returns a string and both expirations.
func BenchmarkCreate(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		for b.Loop() {
			_, err := r.sealer.Create(r.claims)
			check(b, err)
		}
	})
}

// floor is the bare AEAD on the bytes of a token.
type floor struct {
	seal, open func(dst, nonce, text, additionalData []byte) []byte
	nonce      []byte
	plaintext  []byte
	ciphertext []byte
	additional []byte
	dst        []byte
}

func newFloor(b *testing.B, r *rig) *floor {
	b.Helper()
	aead, err := chacha20poly1305.NewX(make([]byte, chacha20poly1305.KeySize))
	check(b, err)
	n := base64.RawURLEncoding.DecodedLen(len(r.text)-len(token.Prefix)) - (box.Overhead - len(box.Magic))
	f := &floor{
		seal:       aead.Seal,
		nonce:      make([]byte, chacha20poly1305.NonceSizeX),
		plaintext:  make([]byte, n),
		additional: make([]byte, len(box.Magic)+len(keyring.ID{})),
		dst:        make([]byte, 0, n+chacha20poly1305.Overhead),
	}
	f.open = func(dst, nonce, text, additionalData []byte) []byte {
		out, err := aead.Open(dst, nonce, text, additionalData)
		check(b, err)
		return out
	}
	f.ciphertext = aead.Seal(nil, f.nonce, f.plaintext, f.additional)
	return f
}

// FloorOpen: the bare AEAD, on as many bytes.
func BenchmarkFloorOpen(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		f := newFloor(b, r)
		for b.Loop() {
			f.open(f.dst, f.nonce, f.ciphertext, f.additional)
		}
	})
}

// FloorSeal: the bare AEAD and its nonce.
func BenchmarkFloorSeal(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		f := newFloor(b, r)
		for b.Loop() {
			rand.Read(f.nonce)
			f.seal(f.dst, f.nonce, f.plaintext, f.additional)
		}
	})
}

// StandardOpen: encoding/base64, strict, and the bare AEAD.
func BenchmarkStandardOpen(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		f := newFloor(b, r)
		strict := base64.RawURLEncoding.Strict()
		text := []byte(r.text[len(token.Prefix):])
		box := make([]byte, strict.DecodedLen(len(text)))
		for b.Loop() {
			_, err := strict.Decode(box, text)
			check(b, err)
			f.open(f.dst, f.nonce, f.ciphertext, f.additional)
		}
	})
}

// StandardSeal: the bare AEAD, its nonce, and encoding/base64.
func BenchmarkStandardSeal(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		f := newFloor(b, r)
		n := len(f.plaintext) + box.Overhead - len(box.Magic)
		box := make([]byte, n)
		text := make([]byte, base64.RawURLEncoding.EncodedLen(n))
		for b.Loop() {
			rand.Read(f.nonce)
			f.seal(f.dst, f.nonce, f.plaintext, f.additional)
			base64.RawURLEncoding.Encode(text, box)
		}
	})
}

package bench_test

import (
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/payload"
	"github.com/seed17cb2b26/chattoken/token"
)

// The parts of Open and Seal without the AEAD, each in a loop of its own, where
// it runs as fast as it can. Subtract them all, and what remains is the key
// lookup, the workspace, and what the processor can't overlap.

const issued, ttl = 1_800_000_000, 600 // seconds; any will do

// OpenPart: reading the clock, decoding the text, reading the payload.
func BenchmarkOpenPart(b *testing.B) {
	b.Run("part=clock", benchClock)
	b.Run("part=text", func(b *testing.B) {
		each(b, func(b *testing.B, r *rig) {
			text := r.text[len(token.Prefix):]
			box := make([]byte, base64url.DecodedLen(len(text)))
			for b.Loop() {
				if _, ok := base64url.Decode(box, text); !ok {
					b.Fatal("not decoded")
				}
			}
		})
	})
	b.Run("part=payload", func(b *testing.B) {
		each(b, func(b *testing.B, r *rig) {
			encoded := encode(b, new(payload.Encoder), nil, r)
			for b.Loop() {
				_, err := payload.Parse(encoded)
				check(b, err)
			}
		})
	})
}

// SealPart: reading the clock, writing the payload (which includes going
// through the map of attributes), encoding the text.
func BenchmarkSealPart(b *testing.B) {
	b.Run("part=clock", benchClock)
	b.Run("part=payload", func(b *testing.B) {
		each(b, func(b *testing.B, r *rig) {
			var e payload.Encoder
			dst := make([]byte, 0, token.MaxLen)
			for b.Loop() {
				encode(b, &e, dst, r)
			}
		})
	})
	b.Run("part=map", func(b *testing.B) {
		each(b, func(b *testing.B, r *rig) {
			n := 0
			for b.Loop() {
				for key, value := range r.claims.Attributes {
					n += len(key) + len(value)
				}
			}
		})
	})
	b.Run("part=text", func(b *testing.B) {
		each(b, func(b *testing.B, r *rig) {
			box := make([]byte, base64url.DecodedLen(len(r.text)-len(token.Prefix)))
			dst := make([]byte, 0, token.MaxLen)
			for b.Loop() {
				dst = base64url.Append(dst[:0], box)
			}
		})
	})
}

func benchClock(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		time.Now()
	}
}

func encode(b *testing.B, e *payload.Encoder, dst []byte, r *rig) []byte {
	encoded, err := e.Append(dst, r.claims, nil, issued, ttl)
	check(b, err)
	return encoded
}

package peers_test

import (
	"strings"
	"testing"
)

// each runs f for every peer and size.
func each(b *testing.B, f func(b *testing.B, p peer, g grant)) {
	for _, bm := range peers {
		b.Run("lib="+bm.name, func(b *testing.B) {
			for _, size := range sizes {
				b.Run("size="+size.name, func(b *testing.B) {
					p := bm.make(b)
					b.ReportAllocs()
					f(b, p, size.grant)
				})
			}
		})
	}
}

func BenchmarkMint(b *testing.B) {
	each(b, func(b *testing.B, p peer, g grant) {
		var text string
		for b.Loop() {
			text = mint(b, p, g)
		}
		b.ReportMetric(float64(len(text)), "chars")
	})
}

func BenchmarkVerify(b *testing.B) {
	each(b, func(b *testing.B, p peer, g grant) {
		text, verify := mint(b, p, g), newVerifier(p)
		for b.Loop() {
			if err := verify(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// VerifyParallel: a verifier on each processor, under the same key.
func BenchmarkVerifyParallel(b *testing.B) {
	each(b, func(b *testing.B, p peer, g grant) {
		text := mint(b, p, g)
		b.RunParallel(func(pb *testing.PB) {
			verify := newVerifier(p)
			for pb.Next() {
				if err := verify(text); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// Forged: the cost of a token forged by a stranger who knows the format.
func BenchmarkForged(b *testing.B) {
	each(b, func(b *testing.B, p peer, g grant) {
		refuse(b, p, forge(mint(b, p, g)))
	})
}

func refuse(b *testing.B, p peer, text string) {
	verify := newVerifier(p)
	for b.Loop() {
		if verify(text) == nil {
			b.Fatal("verified")
		}
	}
}

// Junk: the cost of a mebibyte of junk from a stranger.
func BenchmarkJunk(b *testing.B) {
	for _, bm := range peers {
		b.Run("lib="+bm.name, func(b *testing.B) {
			for _, junk := range []struct{ name, unit string }{{"dots", "."}, {"letters", "A"}} {
				b.Run("junk="+junk.name, func(b *testing.B) {
					b.ReportAllocs()
					refuse(b, bm.make(b), strings.Repeat(junk.unit, 1<<20))
				})
			}
		})
	}
}

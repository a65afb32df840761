package base64url_test

import (
	"strconv"
	"testing"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
)

// The benchmarks compare the codec with the standard library's strict one. The
// sizes are those of a typical token, a larger one, and one with a full
// kilobyte of attributes. Only the ratio of two lines of one run means
// anything.

var sizes = []int{100, 300, 1100}

func BenchmarkDecode(b *testing.B) {
	for _, size := range sizes {
		raw := randomBytes(newRand(b), size)
		text := string(base64url.Append(nil, raw))
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			bench(b, "base64url", size, func() { base64url.Decode(raw, text) })
			src := []byte(text)
			bench(b, "encoding-base64", size, func() { std.Decode(raw, src) })
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range sizes {
		raw := randomBytes(newRand(b), size)
		dst := make([]byte, 0, base64url.EncodedLen(size))
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			bench(b, "base64url", size, func() { base64url.Append(dst, raw) })
			bench(b, "encoding-base64", size, func() { std.AppendEncode(dst, raw) })
		})
	}
}

func bench(b *testing.B, name string, size int, f func()) {
	b.Run("lib="+name, func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(size))
		for b.Loop() {
			f()
		}
	})
}

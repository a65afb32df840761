package fuzz_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
)

// FuzzBase64URL compares the codec with encoding/base64, at every offset of a
// word: what it writes, reads and refuses, and that it touches no other byte.
func FuzzBase64URL(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, text string, short uint8) {
		for offset := range 8 {
			part := data[min(offset, len(data)):]
			encoded := requireEncoding(t, part, offset)
			requireDecoding(t, encoded, offset)
			requireDecoding(t, text[min(offset, len(text)):], offset)
		}
		// Decode refuses a buffer that is too short, and doesn't write
		// to it.
		n := base64url.DecodedLen(len(text))
		dst := bytes.Repeat([]byte{0xa5}, n)
		if missing := int(short); 0 < missing && missing <= n {
			m, ok := base64url.Decode(dst[:n-missing], text)
			require.False(t, ok)
			require.Zero(t, m)
			require.Equal(t, bytes.Repeat([]byte{0xa5}, missing), dst[n-missing:])
		}
	})
}

// requireEncoding encodes at an offset of a buffer, once with room to spare and
// once without.
func requireEncoding(t testing.TB, data []byte, offset int) string {
	t.Helper()
	want := base64.RawURLEncoding.EncodeToString(data)
	require.Equal(t, len(want), base64url.EncodedLen(len(data)))
	buf := bytes.Repeat([]byte{0xa5}, offset+len(want)+8)
	got := base64url.Append(buf[:offset], data)
	require.Equal(t, want, string(got[offset:]))
	require.Equal(t, bytes.Repeat([]byte{0xa5}, offset), buf[:offset])
	require.Equal(t, bytes.Repeat([]byte{0xa5}, 8), buf[offset+len(want):])
	require.Equal(t, want, string(base64url.Append(nil, data)))
	return want
}

func requireDecoding(t testing.TB, text string, offset int) {
	t.Helper()
	want, err := base64.RawURLEncoding.Strict().DecodeString(text)
	wantOK := err == nil && !strings.ContainsAny(text, "\r\n")
	n := base64url.DecodedLen(len(text))
	buf := bytes.Repeat([]byte{0xa5}, offset+n+8)
	m, ok := base64url.Decode(buf[offset:], text)
	require.Equal(t, wantOK, ok, "%q", text)
	require.Equal(t, bytes.Repeat([]byte{0xa5}, offset), buf[:offset])
	require.Equal(t, bytes.Repeat([]byte{0xa5}, 8), buf[offset+n:])
	if !ok {
		require.Zero(t, m)
		return
	}
	require.Equal(t, n, m)
	require.Equal(t, string(want), string(buf[offset:offset+n]))
	require.Equal(t, text, string(base64url.Append(nil, buf[offset:offset+n])), "a second spelling")
}

func base64Seeds(testing.TB) []seed {
	every := base64.RawURLEncoding.EncodeToString(pseudo(96, "base64"))
	return []seed{
		{"empty", args([]byte{}, "", uint8(0))},
		{"one", args([]byte{0xff}, "_w", uint8(1))},
		{"two", args([]byte{0xfb, 0xef}, "--8", uint8(1))},
		{"three", args([]byte("abc"), "YWJj", uint8(2))},
		{"long", args(pseudo(96, "base64"), every, uint8(255))},
		{"longer-by-one", args(pseudo(97, "base64"), every+"AA", uint8(3))},
		{"one-modulo-four", args([]byte{}, every+"A", uint8(0))},
		{"spare-bits", args([]byte{}, every+"AB", uint8(0))},
		{"padded", args([]byte{}, "YWI=", uint8(0))},
		{"line-break", args([]byte{}, "YWJj\r\nYWJj", uint8(0))},
		{"line-break-at-the-end", args([]byte{}, every+"\n", uint8(0))},
		{"standard-alphabet", args([]byte{}, "+/+/", uint8(0))},
		{"high-bytes", args([]byte{}, "\xff\x80\xc3\xa9", uint8(0))},
		{"full-width", args([]byte{}, "ＡＢＣＤ", uint8(0))},
	}
}

package base64url_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/stretchr/testify/require"
)

// maxLen is more than four rounds of either loop.
const maxLen = 70

var std = base64.RawURLEncoding.Strict()

// slowDecode is a slow, simple twin: the standard library's decoder, without
// the line breaks that it skips.
func slowDecode(src string) ([]byte, bool) {
	if strings.ContainsAny(src, "\r\n") {
		return nil, false
	}
	b, err := std.DecodeString(src)
	return b, err == nil
}

// check decodes src between guard bytes and compares with the twin.
func check(t testing.TB, src string) (ok bool) {
	t.Helper()
	const guard = 0xa5
	var space [512]byte
	buf := space[:8+base64url.DecodedLen(len(src))+8]
	for i := range buf {
		buf[i] = guard
	}
	n, ok := base64url.Decode(buf[8:], src)
	want, wantOK := slowDecode(src)
	if ok != wantOK || n != len(want) && ok || n != 0 && !ok {
		t.Fatalf("Decode(%q) = %d, %t, want %d, %t", src, n, ok, len(want), wantOK)
	}
	if ok && !bytes.Equal(buf[8:8+n], want) {
		t.Fatalf("Decode(%q) wrote %x, want %x", src, buf[8:8+n], want)
	}
	if ok && string(base64url.Append(nil, want)) != src {
		t.Fatalf("Decode accepted %q, which Append does not write", src)
	}
	for _, b := range [][]byte{buf[:8], buf[len(buf)-8:]} {
		if !bytes.Equal(b, bytes.Repeat([]byte{guard}, 8)) {
			t.Fatalf("Decode(%q) wrote outside its bytes", src)
		}
	}
	return ok
}

func newRand(t testing.TB) *rand.ChaCha8 {
	t.Helper()
	return rand.NewChaCha8(sha256.Sum256([]byte(t.Name())))
}

func randomBytes(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

func TestLen(t *testing.T) {
	for n := range 10_000 {
		require.Equal(t, std.EncodedLen(n), base64url.EncodedLen(n), "n = %d", n)
		require.Equal(t, std.DecodedLen(n), base64url.DecodedLen(n), "n = %d", n)
		require.Equal(t, n, base64url.DecodedLen(base64url.EncodedLen(n)))
	}
}

func TestVectors(t *testing.T) {
	for _, tt := range []struct{ name, raw, text string }{
		{"RFC 4648 empty", "", ""},
		{"RFC 4648 1", "f", "Zg"},
		{"RFC 4648 2", "fo", "Zm8"},
		{"RFC 4648 3", "foo", "Zm9v"},
		{"RFC 4648 4", "foob", "Zm9vYg"},
		{"RFC 4648 5", "fooba", "Zm9vYmE"},
		{"RFC 4648 6", "foobar", "Zm9vYmFy"},
		{"RFC 7515 appendix C", "\x03\xec\xff\xe0\xc1", "A-z_4ME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.text, string(base64url.Append(nil, []byte(tt.raw))))
			dst := make([]byte, len(tt.raw))
			n, ok := base64url.Decode(dst, tt.text)
			require.True(t, ok)
			require.Equal(t, tt.raw, string(dst[:n]))
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text string }{
		{"CR LF", "\r\n"},
		{"CR", "\r"},
		{"LF", "\n"},
		{"four LF", "\n\n\n\n"},
		{"tab", "\t"},
		{"space", " "},
		{"NUL", "\x00"},
		{"padding", "="},
		{"two paddings", "=="},
		{"escaped padding", "%3D"},
		{"plus", "+"},
		{"slash", "/"},
		{"double quote", `"`},
		{"single quote", "'"},
		{"backslash", `\`},
		{"dot", "."},
		{"byte order mark", "\ufeff"},
		{"full-width letters", "ＡＢＣＤ"},
		{"A with its high bit", "\xc1"},
		{"raw bytes", "\x80\xff\xfe\x81"},
		{"neighbours of the alphabet", ",./:@[^`{"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Try every fill, so that not only the length decides,
			// and a prefix of whole rounds.
			for n := range 4 {
				fill := strings.Repeat("A", n)
				require.False(t, check(t, tt.text+fill))
				require.False(t, check(t, fill+tt.text))
				require.False(t, check(t, strings.Repeat("A", 40)+fill+tt.text))
				require.False(t, check(t, tt.text+fill+strings.Repeat("A", 40)))
			}
		})
	}
}

// TestLengths tries every length, impossible ones too, at every alignment.
func TestLengths(t *testing.T) {
	raw := randomBytes(newRand(t), 8+maxLen)
	text := strings.Repeat("A", 8+2*maxLen)
	for offset := range 8 {
		for n := range maxLen + 1 {
			src := raw[offset : offset+n]
			got := string(base64url.Append(nil, src))
			require.Equal(t, std.EncodeToString(src), got)
			require.True(t, check(t, got))
		}
		for n := range 2 * maxLen {
			require.Equal(t, n%4 != 1, check(t, text[offset:offset+n]), "n = %d", n)
		}
	}
}

// TestSubstitutions puts every byte in every place of every length.
func TestSubstitutions(t *testing.T) {
	r := newRand(t)
	accepted := 0
	for n := range maxLen + 1 {
		text := base64url.Append(nil, randomBytes(r, n))
		for i, was := range text {
			for c := range 256 {
				text[i] = byte(c)
				if check(t, string(text)) {
					accepted++
				}
			}
			text[i] = was
		}
	}
	require.NotZero(t, accepted)
}

// TestSpareBits tries every pair of bytes as the last two characters.
func TestSpareBits(t *testing.T) {
	for _, tt := range []struct {
		name string
		head string
		want int
	}{
		{"four spare bits", "", 64 * 4},
		{"two spare bits", "A", 64 * 16},
		{"four spare bits after both loops", strings.Repeat("A", 20), 64 * 4},
		{"two spare bits after both loops", strings.Repeat("A", 21), 64 * 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := 0
			for pair := range 1 << 16 {
				if check(t, tt.head+string([]byte{byte(pair >> 8), byte(pair)})) {
					got++
				}
			}
			require.Equal(t, tt.want, got, "accepted")
		})
	}
}

func TestDecodeShortBuffer(t *testing.T) {
	for n := 1; n <= maxLen; n++ {
		text := string(base64url.Append(nil, make([]byte, n)))
		for short := range n {
			dst := bytes.Repeat([]byte{0xa5}, n)
			got, ok := base64url.Decode(dst[:short], text)
			require.False(t, ok)
			require.Zero(t, got)
			require.Equal(t, bytes.Repeat([]byte{0xa5}, n), dst, "written to")
		}
		_, ok := base64url.Decode(nil, text)
		require.False(t, ok)
	}
}

func TestAppend(t *testing.T) {
	for n := range maxLen + 1 {
		src := randomBytes(newRand(t), n)
		want := "prefix" + std.EncodeToString(src)

		buf := bytes.Repeat([]byte{0xa5}, 6+base64url.EncodedLen(n)+8)
		copy(buf, "prefix")
		got := base64url.Append(buf[:6], src)
		require.Equal(t, want, string(got))
		require.Equal(t, want, string(buf[:len(got)]), "there was room")
		require.Equal(t, bytes.Repeat([]byte{0xa5}, 8), buf[len(got):], "room beyond written to")

		require.Equal(t, want, string(base64url.Append([]byte("prefix"), src)))
	}
	require.Nil(t, base64url.Append(nil, nil))
}

// TestRandom compares random strings with the twin. Half of them are almost
// encodings.
func TestRandom(t *testing.T) {
	const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	bytesFrom := newRand(t)
	r := rand.New(bytesFrom)
	refused := 0
	for range 20_000 {
		text := randomBytes(bytesFrom, r.IntN(300))
		for i, c := range text {
			text[i] = characters[c&63]
		}
		if len(text) > 0 && r.IntN(2) == 0 {
			text[r.IntN(len(text))] = byte(r.Uint32())
		}
		if !check(t, string(text)) {
			refused++
		}
	}
	require.NotZero(t, refused)
	require.Less(t, refused, 20_000)
}

// TestAccumulated hashes 10,000 encodings and what they decode to.
func TestAccumulated(t *testing.T) {
	bytesFrom := rand.NewChaCha8([32]byte{})
	r := rand.New(bytesFrom)
	hash, stdHash := sha256.New(), sha256.New()
	var text, dst []byte
	for range 10_000 {
		src := randomBytes(bytesFrom, r.IntN(1500))
		text = base64url.Append(text[:0], src)
		dst = append(dst[:0], make([]byte, len(src))...)
		n, ok := base64url.Decode(dst, string(text))
		require.True(t, ok)
		hash.Write(text)
		hash.Write(dst[:n])
		stdHash.Write([]byte(std.EncodeToString(src)))
		stdHash.Write(src)
	}
	require.Equal(t, hex.EncodeToString(stdHash.Sum(nil)), hex.EncodeToString(hash.Sum(nil)))
}

func TestNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	src := randomBytes(newRand(t), 1100)
	text := string(base64url.Append(nil, src))
	refused := "+" + text[1:]
	buf := make([]byte, len(text))
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"Append", func() { base64url.Append(buf[:0], src) }},
		{"Decode", func() { base64url.Decode(buf, text) }},
		{"Decode refused", func() { base64url.Decode(buf, refused) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Zero(t, testing.AllocsPerRun(100, tt.f))
		})
	}
}

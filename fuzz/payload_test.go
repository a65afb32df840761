package fuzz_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/payload"
)

// FuzzPayload reads any bytes as a payload. Parse accepts them exactly if
// fxamacker/cbor reads them, writes the same bytes, and finds them within the
// limits. Then the encoder writes the same bytes, too.
func FuzzPayload(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		original := bytes.Clone(b)
		p, err := payload.Parse(b)
		require.Equal(t, original, b, "the input was written to")
		want, ok := parsePayload(b)
		if !ok {
			require.Equal(t, payload.ErrMalformed, err)
			require.Zero(t, p)
			return
		}
		require.NoError(t, err)
		requirePayload(t, want, &p)
		moved := p.MoveTo([]byte("before"))
		require.Equal(t, "before"+string(original), string(moved))
		clear(b)
		requirePayload(t, want, &p)
		requireEncoded(t, original, &p)
	})
}

// requirePayload compares all accessors with the reference.
func requirePayload(t testing.TB, want *plain, p *payload.Payload) {
	t.Helper()
	require.Equal(t, want.claims(), p.Claims())
	require.Equal(t, int64(want.IssuedAt), p.IssuedAt)
	require.Equal(t, want.TTL, p.TTL)
	var last []byte
	entries := 0
	for key, value := range p.Attributes() {
		require.Equal(t, want.Attributes[string(key)], string(value))
		found, ok := p.Attribute(string(key))
		require.True(t, ok)
		require.Equal(t, string(value), string(found))
		require.True(t, len(last) < len(key) || len(last) == len(key) && bytes.Compare(last, key) < 0, "keys are out of order")
		last = key
		entries++
	}
	require.Len(t, want.Attributes, entries)
}

// requireEncoded checks that the encoder writes p as it was read. It can't
// write a TTL beyond an int64.
func requireEncoded(t testing.TB, want []byte, p *payload.Payload) {
	t.Helper()
	if p.TTL == 0 || int64(p.TTL) < 0 {
		return
	}
	var e payload.Encoder
	c := p.Claims()
	again, err := e.Append(nil, c, anyRoom, p.IssuedAt, int64(p.TTL))
	require.NoError(t, err)
	require.Equal(t, want, again)
}

func payloadSeeds(t testing.TB) []seed {
	var sizes [][]byte
	for _, c := range claimsOfSizes() {
		sizes = append(sizes, encode(t, payloadOf(c, start, 60)))
	}
	short := sizes[1]
	// long makes one element too long.
	long := func(change func(*plain)) []any {
		p := payloadOf(claimsOfSizes()[1], start, 60)
		change(p)
		return args(encode(t, p))
	}
	odd := payloadOf(claims.Claims{RoomIdentifier: "\x00", UserID: "é\u202e", SessionMinutes: 180, Attributes: map[string]string{"b": "", "aa": "x", "é": "y"}}, maxUnix, 1<<62)
	return []seed{
		{"empty", args([]byte{})},
		{"example", args(sizes[0])},
		{"short", args(short)},
		{"long", args(sizes[2])},
		{"odd", args(encode(t, odd))},
		{"trailing-byte", args(append(bytes.Clone(short), 0))},
		{"cut", args(short[:len(short)-1])},
		{"indefinite", args(slices.Concat([]byte{0x9f}, short[1:], []byte{0xff}))},
		{"long-head", args(slices.Concat([]byte{0x98, 7}, short[1:]))},
		{"long-number", args(slices.Concat(short[:len(short)-1], []byte{0x18, 1}))},
		{"null-map", args(bytes.Replace(short, []byte{0xa0}, []byte{0xf6}, 1))},
		{"unsorted", args(bytes.Replace(short, []byte{0xa0}, []byte("\xa2\x62aa\x60\x61b\x60"), 1))},
		{"repeated-key", args(bytes.Replace(short, []byte{0xa0}, []byte("\xa2\x61b\x60\x61b\x60"), 1))},
		{"empty-key", args(bytes.Replace(short, []byte{0xa0}, []byte("\xa1\x60\x60"), 1))},
		{"huge-map", args(bytes.Replace(short, []byte{0xa0}, []byte("\xbb\xff\xff\xff\xff\xff\xff\xff\xff"), 1))},
		{"tagged", args(append([]byte{0xd9, 0xd9, 0xf7}, short...))},
		{"nested", args(bytes.Repeat([]byte{0x81}, 200))},
		{"byte-strings", args(bytes.ReplaceAll(short, []byte{0x61}, []byte{0x41}))},
		{"not-utf8", args(bytes.Replace(short, []byte("\x61u"), []byte("\x61\xff"), 1))},
		{"surrogate", args(bytes.Replace(short, []byte("\x61u"), []byte("\x63\xed\xa0\x80"), 1))},
		{"float", args(slices.Concat(short[:len(short)-1], []byte{0xf9, 0x3c, 0}))},
		{"room-129", long(func(p *plain) { p.Room = strings.Repeat("r", 129) })},
		{"user-129", long(func(p *plain) { p.User = strings.Repeat("é", 129) })},
		{"capabilities-8", long(func(p *plain) { p.Capabilities = 8 })},
		{"attributes-1025", long(func(p *plain) { p.Attributes = map[string]string{"k": strings.Repeat("v", 1024)} })},
		{"issued-too-late", long(func(p *plain) { p.IssuedAt = maxUnix + 1 })},
		{"session-181", long(func(p *plain) { p.SessionMinutes = 181 })},
		{"head-23", args(slices.Concat(short[:len(short)-1], []byte{0x18, 23}))},
		{"not-utf8-before-text", args(bytes.Replace(short, []byte("\x61u"), []byte("\x6a\xff........."), 1))},
		{"not-utf8-within-text", args(bytes.Replace(short, []byte("\x61u"), []byte("\x76.........\xff............"), 1))},
		{"negative", args(slices.Concat(short[:len(short)-1], []byte{0x20}))},
	}
}

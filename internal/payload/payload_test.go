package payload_test

import (
	"bytes"
	"encoding/hex"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/payload"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

const (
	issuedAt = 1647405848 // 2022-03-16T04:44:08Z
	maxUnix  = 253402300799
)

func encode(t testing.TB, c claims.Claims, issuedAt, ttl int64) []byte {
	t.Helper()
	var e payload.Encoder
	b, err := e.Append(nil, c, func(string) bool { return true }, issuedAt, ttl)
	require.NoError(t, err)
	return b
}

func TestPayloadRoundTrip(t *testing.T) {
	minutes := func(c claims.Claims) claims.Claims { c.SessionMinutes = 60; return c }
	tests := []struct {
		name          string
		in, want      claims.Claims
		issuedAt, ttl int64
	}{
		{"example", tokentest.Claims(), tokentest.Claims(), issuedAt, 60},
		{"longest", testenv.LongestClaims(), testenv.LongestClaims(), maxUnix, 600},
		{"shortest", claims.Claims{RoomIdentifier: "r", UserID: "u", SessionMinutes: 1}, claims.Claims{RoomIdentifier: "r", UserID: "u", SessionMinutes: 1}, 0, 5},
		{"default session", claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"}, minutes(claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"}), issuedAt, 60},
		{"odd but legal text", minutes(claims.Claims{RoomIdentifier: "\x00\u202e", UserID: "\U0010FFFF\ufeff\x7f", Attributes: map[string]string{"\x00": "\u2066\n", "😀": "\ufffd"}}),
			minutes(claims.Claims{RoomIdentifier: "\x00\u202e", UserID: "\U0010FFFF\ufeff\x7f", Attributes: map[string]string{"\x00": "\u2066\n", "😀": "\ufffd"}}), issuedAt, 60},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := encode(t, test.in, test.issuedAt, test.ttl)
			assert.Equal(t, marshal(t, twinOf(&test.in, test.issuedAt, test.ttl)), b, "as fxamacker/cbor writes it")
			p, err := payload.Parse(b)
			require.NoError(t, err)
			assert.Equal(t, test.want, p.Claims())
			assert.Equal(t, test.issuedAt, p.IssuedAt)
			assert.Equal(t, uint64(test.ttl), p.TTL)
			attributes := map[string]string{}
			for k, v := range p.Attributes() {
				attributes[string(k)] = string(v)
				got, ok := p.Attribute(string(k))
				assert.True(t, ok)
				assert.Equal(t, string(v), string(got))
			}
			assert.True(t, maps.Equal(test.want.Attributes, attributes))
			_, ok := p.Attribute("no such key")
			assert.False(t, ok)
		})
	}
}

// The heads of strings and maps change form at 24 and 256. Keys are ordered by
// length first, then by bytes.
func TestPayloadHeadSizes(t *testing.T) {
	c := tokentest.Claims()
	for n := range claims.MaxAttributeBytes {
		c.Attributes = map[string]string{"k": strings.Repeat("v", n)}
		b := encode(t, c, issuedAt, 60)
		require.Equal(t, marshal(t, twinOf(&c, issuedAt, 60)), b)
		p, err := payload.Parse(b)
		require.NoError(t, err)
		require.Equal(t, c, p.Claims())
	}
	c.Attributes = map[string]string{}
	for i := 0; ; i++ {
		key := strings.Repeat(string(rune('!'+i*7%90)), 1+i/90)
		if size(c.Attributes)+len(key) > claims.MaxAttributeBytes {
			break
		}
		c.Attributes[key] = ""
		b := encode(t, c, issuedAt, 60)
		require.Equal(t, marshal(t, twinOf(&c, issuedAt, 60)), b)
		p, err := payload.Parse(b)
		require.NoError(t, err)
		require.Equal(t, c, p.Claims())
	}
	assert.Greater(t, len(c.Attributes), 256)
}

// The heads of times also have four and eight bytes: in 1970, and after 2106.
// If any of those bytes is missing, Parse refuses the payload.
func TestPayloadTimes(t *testing.T) {
	c := tokentest.Claims()
	for _, edge := range []int64{0, 23, 24, 1<<8 - 1, 1 << 8, 1<<16 - 1, 1 << 16, 1<<17 - 1, 1<<32 - 1, 1 << 32, 1<<33 - 1, maxUnix} {
		for _, times := range [][2]int64{{edge, 60}, {issuedAt, max(edge, 1)}} {
			b := encode(t, c, times[0], times[1])
			require.Equal(t, marshal(t, twinOf(&c, times[0], times[1])), b)
			p, err := payload.Parse(b)
			require.NoError(t, err)
			require.Equal(t, times, [2]int64{p.IssuedAt, int64(p.TTL)})
			for n := range b {
				_, err := payload.Parse(b[:n:n])
				require.ErrorIs(t, err, payload.ErrMalformed)
			}
		}
	}
}

func size(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

func TestEncoderRefusesTimes(t *testing.T) {
	var e payload.Encoder
	c := tokentest.Claims()
	for _, test := range []struct{ issuedAt, ttl int64 }{{-1, 60}, {maxUnix + 1, 60}, {math.MinInt64, 60}, {0, 0}, {0, -1}} {
		dst, err := e.Append([]byte("dst"), c, nil, test.issuedAt, test.ttl)
		assert.Error(t, err)
		assert.Equal(t, "dst", string(dst))
	}
}

// room panics, and the server recovers: the next payload has none of the
// claims.
func TestEncoderRoomPanics(t *testing.T) {
	var e payload.Encoder
	victim, next := tokentest.Claims(), tokentest.Claims()
	next.Attributes = nil
	assert.Panics(t, func() { _, _ = e.Append(nil, victim, func(string) bool { panic("room") }, issuedAt, 60) })
	b, err := e.Append(nil, next, nil, issuedAt, 60)
	require.NoError(t, err)
	p, err := payload.Parse(b)
	require.NoError(t, err)
	assert.Equal(t, next, p.Claims())

	// The same for claims that Append refuses.
	_, err = e.Append(nil, victim, func(string) bool { return false }, issuedAt, 60)
	require.Error(t, err)
	b, err = e.Append(nil, next, nil, issuedAt, 60)
	require.NoError(t, err)
	assert.Equal(t, encode(t, next, issuedAt, 60), b)
}

func TestMoveTo(t *testing.T) {
	b := encode(t, tokentest.Claims(), issuedAt, 60)
	p, err := payload.Parse(b)
	require.NoError(t, err)
	moved := p.MoveTo([]byte("prefix"))
	assert.Equal(t, "prefix"+string(b), string(moved))
	clear(b)
	assert.Equal(t, tokentest.Claims(), p.Claims(), "nothing aliases the old bytes")
	clear(moved)
	assert.NotEqual(t, "11231234", string(p.UserID()), "it is a view of the new ones")
}

// A view has no spare capacity, so appending to it doesn't overwrite its
// neighbor.
func TestViewsHaveNoSpareCapacity(t *testing.T) {
	p, err := payload.Parse(encode(t, tokentest.Claims(), issuedAt, 60))
	require.NoError(t, err)
	value, _ := p.Attribute("displayName")
	for _, view := range [][]byte{p.RoomIdentifier(), p.UserID(), value} {
		assert.Equal(t, len(view), cap(view))
	}
	for k, v := range p.Attributes() {
		assert.Equal(t, len(k), cap(k))
		assert.Equal(t, len(v), cap(v))
	}
}

func TestPayloadEveryTruncationAndExtension(t *testing.T) {
	for _, c := range []claims.Claims{tokentest.Claims(), testenv.LongestClaims()} {
		b := encode(t, c, issuedAt, 60)
		for n := range b {
			p, err := payload.Parse(b[:n:n])
			require.ErrorIs(t, err, payload.ErrMalformed)
			require.Zero(t, p)
		}
		for next := range 256 {
			_, err := payload.Parse(append(b[:len(b):len(b)], byte(next)))
			require.ErrorIs(t, err, payload.ErrMalformed)
		}
	}
}

// Whatever Parse accepts after a change, Append writes.
func TestPayloadEveryByteChanged(t *testing.T) {
	accepted := 0
	b := encode(t, tokentest.Claims(), issuedAt, 60)
	for i := range b {
		for change := 1; change < 256; change++ {
			mutant := bytes.Clone(b)
			mutant[i] ^= byte(change)
			p, err := payload.Parse(mutant)
			if err != nil {
				continue
			}
			accepted++
			require.Equal(t, mutant, encode(t, p.Claims(), p.IssuedAt, max(int64(p.TTL), 1)), "byte %d", i)
		}
	}
	assert.NotZero(t, accepted)
}

// item writes CBOR by hand.
func item(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = append(b, byte(part))
		case string:
			b = append(b, part...)
		case []byte:
			b = append(b, part...)
		}
	}
	return b
}

// payloadWith builds a payload from seven encoded items, some of them changed.
func payloadWith(change map[int][]byte) []byte {
	elements := [7][]byte{
		item(0x61, "r"), item(0x61, "u"), item(0), item(0xA1, 0x61, "k", 0x61, "v"),
		item(0x1A, 0x62, 0x31, 0x6A, 0x58), item(0x18, 60), item(0x18, 30),
	}
	b := item(0x87)
	for i, e := range elements {
		if replaced, ok := change[i]; ok {
			e = replaced
		}
		b = append(b, e...)
	}
	return b
}

func TestParsePayloadRefused(t *testing.T) {
	const (
		roomItem = iota
		userItem
		capsItem
		attrItem
		issuedItem
		ttlItem
		sessionItem
	)
	one := func(i int, parts ...any) []byte { return payloadWith(map[int][]byte{i: item(parts...)}) }
	text := func(s string) []byte { return marshal(t, s) }
	nested := bytes.Repeat([]byte{0x81}, 10000)
	_, err := payload.Parse(payloadWith(nil))
	require.NoError(t, err, "the base is valid")

	tests := map[string][]byte{
		"empty":                  {},
		"array of 6":             item(0x86, payloadWith(nil)[1:]),
		"array of 8":             item(0x88, payloadWith(nil)[1:], 0),
		"array head long":        item(0x98, 7, payloadWith(nil)[1:]),
		"array indefinite":       item(0x9F, payloadWith(nil)[1:], 0xFF),
		"array of 2^63":          item(0x9B, 0x80, 0, 0, 0, 0, 0, 0, 0),
		"array of 2^64-1":        item(0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
		"map for array":          item(0xA7, payloadWith(nil)[1:]),
		"tagged":                 item(0xD9, 0xD9, 0xF7, payloadWith(nil)),
		"nested 10,000 deep":     nested,
		"trailing byte":          item(payloadWith(nil), 0),
		"trailing break":         item(payloadWith(nil), 0xFF),
		"two payloads":           item(payloadWith(nil), payloadWith(nil)),
		"room empty":             one(roomItem, 0x60),
		"room 129":               one(roomItem, text(strings.Repeat("r", 129))),
		"room head long":         one(roomItem, 0x78, 1, "r"),
		"room head 2 bytes":      one(roomItem, 0x79, 0, 1, "r"),
		"room head 4 bytes":      one(roomItem, 0x7A, 0, 0, 0, 1, "r"),
		"room head 8 bytes":      one(roomItem, 0x7B, 0, 0, 0, 0, 0, 0, 0, 1, "r"),
		"room indefinite":        one(roomItem, 0x7F, 0x61, "r", 0xFF),
		"room of 2^31":           one(roomItem, 0x7A, 0x80, 0, 0, 0, "r"),
		"room of 2^64-1":         one(roomItem, 0x7B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, "r"),
		"room bytes":             one(roomItem, 0x41, "r"),
		"room null":              one(roomItem, 0xF6),
		"room not UTF-8":         one(roomItem, 0x61, 0xFF),
		"room reserved head":     one(roomItem, 0x7C, "r"),
		"user empty":             one(userItem, 0x60),
		"user 129 runes":         one(userItem, text(strings.Repeat("u", 129))),
		"user 129 long runes":    one(userItem, text(strings.Repeat("\U0010FFFF", 129))),
		"user bytes":             one(userItem, 0x41, "u"),
		"user overlong":          one(userItem, 0x62, 0xC0, 0xAF),
		"user surrogate":         one(userItem, 0x63, 0xED, 0xA0, 0x80),
		"user beyond U+10FFFF":   one(userItem, 0x64, 0xF4, 0x90, 0x80, 0x80),
		"user cut":               one(userItem, 0x61, 0xC3),
		"capabilities 8":         one(capsItem, 8),
		"capabilities 255":       one(capsItem, 0x18, 255),
		"capabilities 256":       one(capsItem, 0x19, 1, 0),
		"capabilities long":      one(capsItem, 0x18, 1),
		"capabilities negative":  one(capsItem, 0x20),
		"capabilities false":     one(capsItem, 0xF4),
		"capabilities text":      one(capsItem, text("SEND_MESSAGE")),
		"attributes null":        one(attrItem, 0xF6),
		"attributes undefined":   one(attrItem, 0xF7),
		"attributes array":       one(attrItem, 0x80),
		"attributes head long":   one(attrItem, 0xB8, 1, 0x61, "k", 0x61, "v"),
		"attributes indefinite":  one(attrItem, 0xBF, 0x61, "k", 0x61, "v", 0xFF),
		"attributes of 2^32":     one(attrItem, 0xBB, 0, 0, 0, 1, 0, 0, 0, 0),
		"attributes of 2^64-1":   one(attrItem, 0xBB, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
		"attributes of 1025":     one(attrItem, 0xB9, 4, 1),
		"attributes short":       one(attrItem, 0xA2, 0x61, "k", 0x61, "v"),
		"attributes long":        one(attrItem, 0xA0, 0x61, "k", 0x61, "v"),
		"attributes empty key":   one(attrItem, 0xA1, 0x60, 0x61, "v"),
		"attributes repeated":    one(attrItem, 0xA2, 0x61, "k", 0x61, "v", 0x61, "k", 0x61, "w"),
		"attributes unsorted":    one(attrItem, 0xA2, 0x61, "l", 0x61, "v", 0x61, "k", 0x61, "w"),
		"attributes length last": one(attrItem, 0xA2, 0x62, "aa", 0x61, "v", 0x61, "b", 0x61, "w"),
		"attributes key int":     one(attrItem, 0xA1, 1, 0x61, "v"),
		"attributes value bytes": one(attrItem, 0xA1, 0x61, "k", 0x41, "v"),
		"attributes value null":  one(attrItem, 0xA1, 0x61, "k", 0xF6),
		"attributes 1025 bytes":  one(attrItem, 0xA1, 0x61, "k", text(strings.Repeat("v", 1024))),
		"attributes sum 1025":    one(attrItem, 0xA2, 0x61, "k", text(strings.Repeat("v", 1000)), 0x61, "l", text(strings.Repeat("v", 23))),
		"issued after 9999":      one(issuedItem, 0x1B, 0, 0, 0, 0x3A, 0xFF, 0xF4, 0x41, 0x80),
		"issued 2^64-1":          one(issuedItem, 0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
		"issued head long":       one(issuedItem, 0x1B, 0, 0, 0, 0, 0x62, 0x31, 0x6A, 0x58),
		"issued float":           one(issuedItem, 0xFB, 0x41, 0xD8, 0x8C, 0x5A, 0x96, 0, 0, 0),
		"issued bignum":          one(issuedItem, 0xC2, 0x41, 1),
		"issued negative":        one(issuedItem, 0x3A, 0x62, 0x31, 0x6A, 0x58),
		"ttl head long":          one(ttlItem, 0x19, 0, 60),
		"ttl float16":            one(ttlItem, 0xF9, 0x53, 0x80),
		"session 0":              one(sessionItem, 0),
		"session 181":            one(sessionItem, 0x18, 181),
		"session 286 (0x011e)":   one(sessionItem, 0x19, 1, 30),
		"session head long":      one(sessionItem, 0x18, 23),
		"session break":          one(sessionItem, 0xFF),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := payload.Parse(b)
			assert.ErrorIs(t, err, payload.ErrMalformed, "%s", hex.EncodeToString(b[:min(len(b), 40)]))
			assert.Zero(t, p)
		})
	}
}

func TestParsePayloadLimitsAccepted(t *testing.T) {
	for name, change := range map[string]map[int][]byte{
		"room 128":          {0: marshal(t, strings.Repeat("r", 128))},
		"room not an ARN":   {0: marshal(t, "ルーム")},
		"user 128 runes":    {1: marshal(t, strings.Repeat("\U0010FFFF", 128))},
		"capabilities 7":    {2: {7}},
		"attributes none":   {3: {0xA0}},
		"attributes 1024":   {3: item(0xA1, 0x61, "k", marshal(t, strings.Repeat("v", 1023)))},
		"issued 0":          {4: {0}},
		"issued 9999-12-31": {4: item(0x1B, 0, 0, 0, 0x3A, 0xFF, 0xF4, 0x41, 0x7F)},
		"ttl any":           {5: item(0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)},
		"session 1":         {6: {1}},
		"session 180":       {6: {0x18, 180}},
	} {
		_, err := payload.Parse(payloadWith(change))
		assert.NoError(t, err, name)
	}
}

func TestParsePayloadHugeInput(t *testing.T) {
	_, err := payload.Parse(make([]byte, 1<<16))
	assert.ErrorIs(t, err, payload.ErrMalformed)
	_, err = payload.Parse(item(payloadWith(nil), make([]byte, 1<<16)))
	assert.ErrorIs(t, err, payload.ErrMalformed)
}

func TestZeroPayload(t *testing.T) {
	var p payload.Payload
	assert.Empty(t, p.RoomIdentifier())
	assert.Empty(t, p.UserID())
	assert.Zero(t, p.Claims())
	for range p.Attributes() {
		t.Error("no attributes")
	}
	assert.Equal(t, "x", string(p.MoveTo([]byte("x"))))
}

func TestAttributesStops(t *testing.T) {
	c := testenv.LongestClaims()
	p, err := payload.Parse(encode(t, c, issuedAt, 60))
	require.NoError(t, err)
	n := 0
	for range p.Attributes() {
		if n++; n == 3 {
			break
		}
	}
	assert.Equal(t, 3, n)
}

func TestNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	example, big := tokentest.Claims(), testenv.LongestClaims()
	var e payload.Encoder
	buf, err := e.Append(nil, big, nil, 1e9, 60)
	require.NoError(t, err)
	parsed, err := payload.Parse(buf)
	require.NoError(t, err)
	truncated := buf[:len(buf)-1]
	scratch := make([]byte, 0, len(buf))
	var size int

	tests := []struct {
		name string
		do   func()
	}{
		{"Append", func() { scratch, _ = e.Append(scratch[:0], example, nil, 1e9, 60) }},
		{"Append/longest", func() { scratch, _ = e.Append(scratch[:0], big, nil, 1e9, 60) }},
		{"Parse", func() { _, _ = payload.Parse(buf) }},
		{"Parse/refused", func() { _, _ = payload.Parse(truncated) }},
		{"MoveTo", func() { p := parsed; scratch = p.MoveTo(scratch[:0]) }},
		{"Attribute", func() { _, _ = parsed.Attribute("zz") }},
		{"Attributes", func() {
			for k, v := range parsed.Attributes() {
				size += len(k) + len(v)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, test.do))
		})
	}
}

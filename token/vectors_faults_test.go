package token_test

import (
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// makeInvalid makes tokens of one fault each, but for those whose name says
// that they have two: these tell which check comes first.
func makeInvalid(t *testing.T) (all []invalidVector) {
	t.Helper()
	r := newVectorRing(t, 1, "")
	v := r.mint(t, validCase{name: "invalid", claims: tokentest.Claims(), issuedAt: base})
	add := func(name, reason string, now int64, text string) {
		all = append(all, invalidVector{name, reason, v.Secret, v.Context, now, text})
	}
	for _, f := range textFaults(t, r, v.Token) {
		add(f.name, "malformed", base, f.text)
	}
	for _, f := range envelopeFaults(t, r, v) {
		add(f.name, f.reason, base, f.text)
	}
	for _, f := range payloadFaults() {
		add(f.name, "payload", base, r.sealPayload(t, "payload: "+f.name, f.payload()))
	}
	for _, f := range timeFaults() {
		add(f.name, f.reason, f.now, r.sealPayload(t, "time: "+f.name, f.payload()))
	}
	// Two faults of which the first comes before any payload is seen.
	forged := unspell(t, v.Token)
	forged[len(forged)-1] ^= 1
	add("two faults: forged and expired", "forged", base+60, spell(forged))
	return all
}

// sealPayload makes an authentic token of any payload.
func (r vectorRing) sealPayload(t *testing.T, name, payload string) string {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seedOf(name))
	b, err := r.ring.SealBox(box.Inside(), nil, []byte(payload), time.Unix(base, 0))
	require.NoError(t, err)
	return spell(b)
}

type textFault struct{ name, text string }

func textFaults(t *testing.T, r vectorRing, text string) []textFault {
	t.Helper()
	half := len(text) / 2
	front, back := text[:half], text[half:]
	faults := []textFault{
		{"empty text", ""},
		{"one character", "c"},
		{"prefix only", token.Prefix},
		{"header only", text[:len(token.Prefix)+base64url.EncodedLen(28)]},
		{"one character less than the shortest", r.sealPayload(t, "too short", strings.Repeat("\x00", 9))},
		{"one character more than the longest", r.sealPayload(t, "too long", strings.Repeat("\x00", 2841))},
		{"no prefix", text[len(token.Prefix):]},
		{"prefix of another version", "ct2_" + text[4:]},
		{"prefix in upper case", "CT1_" + text[4:]},
		{"prefix without underscore", "ct1-" + text[4:]},
		{"two tokens joined by a comma", text + "," + text},
	}
	for _, c := range []struct{ name, s string }{
		{"space", " "}, {"tab", "\t"}, {"LF", "\n"}, {"CR", "\r"}, {"CR LF", "\r\n"}, {"NUL", "\x00"},
		{"byte order mark", "\ufeff"},
	} {
		faults = append(faults,
			textFault{c.name + " before", c.s + text},
			textFault{c.name + " after", text + c.s},
			textFault{c.name + " within", front + c.s + back})
	}
	for _, s := range []string{"+", "/", "=", ".", "~"} {
		faults = append(faults, textFault{"the character " + s, front + s + back[1:]})
	}
	return append(faults, spellingFaults(t, r)...)
}

// spellingFaults are those of the last characters. They need texts of every
// length modulo 4 that there is.
func spellingFaults(t *testing.T, r vectorRing) (faults []textFault) {
	t.Helper()
	texts := map[int]string{}
	for _, userID := range []string{"1", "12", "123"} {
		c := tokentest.Claims()
		c.UserID = userID
		text := r.mint(t, validCase{name: "spelling " + userID, claims: c, issuedAt: base}).Token
		texts[len(text)%4] = text
	}
	require.Len(t, texts, 3)
	return []textFault{
		{"length 1 modulo 4", texts[0] + "A"},
		{"padded by one character", texts[3] + "="},
		{"padded by two characters", texts[2] + "=="},
		{"one of the 4 spare bits is set", nextCharacter(texts[2])},
		{"one of the 2 spare bits is set", nextCharacter(texts[3])},
	}
}

// nextCharacter adds one to the value of the last character, whose spare bits
// are zero.
func nextCharacter(text string) string {
	last := len(text) - 1
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text[:last] + alphabet[strings.IndexByte(alphabet, text[last])+1:][:1]
}

type envelopeFault struct{ name, reason, text string }

func envelopeFaults(t *testing.T, r vectorRing, v validVector) []envelopeFault {
	t.Helper()
	whole := unspell(t, v.Token)
	change := func(f func(b []byte) []byte) string { return spell(f(slices.Clone(whole))) }
	flip := func(at int) string {
		return change(func(b []byte) []byte { b[at] ^= 1; return b })
	}
	other := unspell(t, r.mint(t, validCase{name: "another token", claims: tokentest.Claims(), issuedAt: base}).Token)
	swap := func(from, to int) string {
		return change(func(b []byte) []byte { copy(b[from:to], other[from:to]); return b })
	}
	key, id := deriveByHand(t, v.Secret, r.context)
	contextKey, contextID := deriveByHand(t, v.Secret, "another context")
	header := token.Prefix + string(id)
	nonce, payload := string(v.Nonce), string(v.Payload)
	tag := len(whole) - 16
	return []envelopeFault{
		{"unknown key ID", "unknown-key", flip(4)},
		{"prefix twice", "unknown-key", token.Prefix + v.Token},
		{"key ID of zeros", "unknown-key", change(func(b []byte) []byte { clear(b[4:8]); return b })},
		{"sealed under another context", "unknown-key",
			sealByHand(t, contextKey, token.Prefix+string(contextID), nonce, payload, token.Prefix+string(contextID))},
		{"two faults: unknown key and forged", "unknown-key",
			change(func(b []byte) []byte { b[4] ^= 1; b[tag] ^= 1; return b })},
		{"first bit of the nonce", "forged", flip(8)},
		{"last bit of the nonce", "forged", flip(31)},
		{"bit of the ciphertext", "forged", flip(32)},
		{"first bit of the tag", "forged", flip(tag)},
		{"last bit of the tag", "forged", flip(len(whole) - 1)},
		{"tag cut short", "forged", spell(whole[:len(whole)-1])},
		{"byte after the tag", "forged", spell(append(slices.Clone(whole), 0))},
		{"nonce of another token", "forged", swap(8, 32)},
		{"tag of another token", "forged", swap(tag, len(whole))},
		{"AAD without prefix", "forged", sealByHand(t, key, header, nonce, payload, string(id))},
		{"AAD without key ID", "forged", sealByHand(t, key, header, nonce, payload, token.Prefix)},
		{"AAD empty", "forged", sealByHand(t, key, header, nonce, payload, "")},
		{"AAD with the nonce", "forged", sealByHand(t, key, header, nonce, payload, header+nonce)},
		{"key of another context under this ID", "forged", sealByHand(t, contextKey, header, nonce, payload, header)},
	}
}

func sealByHand(t *testing.T, key []byte, header, nonce, payload, additionalData string) string {
	t.Helper()
	aead, err := chacha20poly1305.NewX(key)
	require.NoError(t, err)
	return spell(aead.Seal([]byte(header+nonce), []byte(nonce), []byte(payload), []byte(additionalData)))
}

// payloadFault is a payload in which some items are replaced.
type payloadFault struct {
	name  string
	items map[int]string
}

// The items of a payload; tail is what follows it.
const (
	itemArray = iota
	itemRoom
	itemUser
	itemCapabilities
	itemAttributes
	itemIssuedAt
	itemTTL
	itemSession
	itemTail
)

// payload is the encoding of a legal payload but for f's items.
func (f payloadFault) payload() string {
	items := [...]string{
		itemArray:        "\x87",
		itemRoom:         "\x78\x38" + tokentest.Room,
		itemUser:         "\x6811231234",
		itemCapabilities: "\x01",
		itemAttributes:   "\xa2\x61a\x61b\x61c\x60",
		itemIssuedAt:     "\x1a\x62\x31\x6a\xdd", // base
		itemTTL:          "\x18\x3c",
		itemSession:      "\x18\x1e",
		itemTail:         "",
	}
	for i, s := range f.items {
		items[i] = s
	}
	return strings.Join(items[:], "")
}

func payloadFaults() []payloadFault {
	one := func(item int, name, s string) payloadFault { return payloadFault{name, map[int]string{item: s}} }
	faults := []payloadFault{
		{"array of six", map[int]string{itemArray: "\x86", itemSession: ""}},
		{"array of eight", map[int]string{itemArray: "\x88", itemTail: "\x00"}},
		{"array of indefinite length", map[int]string{itemArray: "\x9f", itemTail: "\xff"}},
		one(itemArray, "array announces six of seven", "\x86"),
		one(itemArray, "array announces eight of seven", "\x88"),
		one(itemArray, "long head of the array", "\x98\x07"),
		one(itemArray, "array announces 2^64 - 1", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
		one(itemArray, "tag before the array", "\xd9\xd9\xf7\x87"),
		one(itemArray, "map instead of the array", "\xa7"),
		one(itemArray, "text instead of the array", "\x67"),
		one(itemArray, "nested arrays", strings.Repeat("\x81", 1000)+"\x87"),
		one(itemSession, "cut off", "\x18"),
		one(itemSession, "session missing", ""),
		one(itemTail, "trailing byte", "\x00"),
		one(itemTail, "stray break", "\xff"),
		one(itemTail, "second payload", payloadFault{}.payload()),
	}
	for _, of := range []struct {
		item int
		list [][2]string
	}{
		{itemRoom, roomFaults},
		{itemUser, userFaults},
		{itemCapabilities, capabilityFaults},
		{itemAttributes, attributeFaults},
		{itemIssuedAt, issuedAtFaults},
		{itemTTL, ttlFaults},
		{itemSession, sessionFaults},
	} {
		for _, f := range of.list {
			faults = append(faults, one(of.item, f[0], f[1]))
		}
	}
	return append(faults, payloadFault{"TTL longer than the session", map[int]string{itemTTL: "\x18\x3d", itemSession: "\x01"}})
}

var roomFaults = [][2]string{
	{"room identifier empty", "\x60"},
	{"room identifier of 129 bytes", "\x78\x81" + strings.Repeat("r", 129)},
	{"room identifier as bytes", "\x58\x38" + tokentest.Room},
	{"room identifier as integer", "\x01"},
	{"room identifier null", "\xf6"},
	{"room identifier of indefinite length", "\x7f\x78\x38" + tokentest.Room + "\xff"},
	{"room identifier with a long head", "\x79\x00\x38" + tokentest.Room},
	{"room identifier announces 2^64 - 1", "\x7b\xff\xff\xff\xff\xff\xff\xff\xff" + tokentest.Room},
	{"room identifier with a stray continuation byte", "\x62r\x80"},
	{"room identifier ends within a code point", "\x62r\xc3"},
	{"room identifier with an overlong form", "\x62\xc1\x81"},
	{"room identifier with a surrogate", "\x63\xed\xa0\x80"},
	{"room identifier beyond U+10FFFF", "\x64\xf4\x90\x80\x80"},
}

var userFaults = [][2]string{
	{"user ID empty", "\x60"},
	{"user ID of 129 code points of 1 byte", "\x78\x81" + strings.Repeat("u", 129)},
	{"user ID of 129 code points of 4 bytes", "\x79\x02\x04" + strings.Repeat("\U0010ffff", 129)},
	{"user ID as bytes", "\x4811231234"},
	{"user ID as integer", "\x1a\x00\xab\x60\x02"},
	{"user ID null", "\xf6"},
	{"user ID with a long head", "\x78\x0811231234"},
	{"user ID of indefinite length", "\x7f\x6811231234\xff"},
	{"user ID not UTF-8", "\x62\xff\xfe"},
}

var capabilityFaults = [][2]string{
	{"unknown capability 8", "\x08"},
	{"unknown capability 128", "\x18\x80"},
	{"capabilities beyond 64 bits", "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
	{"capabilities 2^64 - 1", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"capabilities with a long head", "\x18\x01"},
	{"capabilities negative", "\x20"},
	{"capabilities as float", "\xf9\x3c\x00"},
	{"capabilities as bignum", "\xc2\x41\x01"},
	{"capabilities as text", "\x6cSEND_MESSAGE"},
	{"capabilities as array", "\x81\x01"},
	{"capabilities false", "\xf4"},
	{"capabilities true", "\xf5"},
	{"capabilities undefined", "\xf7"},
}

var attributeFaults = [][2]string{
	{"attributes null", "\xf6"},
	{"attributes as array", "\x84\x61a\x61b\x61c\x60"},
	{"attributes of indefinite length", "\xbf\x61a\x61b\x61c\x60\xff"},
	{"attributes with a long head", "\xb8\x02\x61a\x61b\x61c\x60"},
	{"attributes announce 2^32 - 1", "\xba\xff\xff\xff\xff\x61a\x61b\x61c\x60"},
	{"attributes announce 2^64 - 1", "\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x61a\x61b\x61c\x60"},
	{"attributes announce one pair more", "\xa3\x61a\x61b\x61c\x60"},
	{"attributes announce one pair less", "\xa1\x61a\x61b\x61c\x60"},
	{"attributes not sorted", "\xa2\x61c\x60\x61a\x61b"},
	{"attributes sorted by text instead of encoding", "\xa2\x62aa\x60\x61b\x60"},
	{"attribute repeated", "\xa2\x61a\x61b\x61a\x61b"},
	{"attribute key empty", "\xa2\x60\x61b\x61c\x60"},
	{"attribute key as bytes", "\xa2\x41a\x61b\x61c\x60"},
	{"attribute key as integer", "\xa2\x01\x61b\x61c\x60"},
	{"attribute key not UTF-8", "\xa2\x61a\x61b\x61\xff\x60"},
	{"attribute key with a long head", "\xa2\x78\x01a\x61b\x61c\x60"},
	{"attribute value as bytes", "\xa2\x61a\x41b\x61c\x60"},
	{"attribute value as integer", "\xa2\x61a\x01\x61c\x60"},
	{"attribute value as map", "\xa2\x61a\xa0\x61c\x60"},
	{"attribute value null", "\xa2\x61a\xf6\x61c\x60"},
	{"attribute value not UTF-8", "\xa2\x61a\x61\x80\x61c\x60"},
	{"attribute value with a long head", "\xa2\x61a\x78\x01b\x61c\x60"},
	{"attributes of 1,025 bytes in a value", "\xa1\x61a\x79\x04\x00" + strings.Repeat("v", 1024)},
	{"attributes of 1,025 bytes in a key", "\xa1\x79\x04\x01" + strings.Repeat("k", 1025) + "\x60"},
	{"attributes of 1,025 bytes in two pairs", "\xa2\x61a\x79\x02\x00" + strings.Repeat("v", 512) + "\x61b\x79\x01\xff" + strings.Repeat("v", 511)},
}

var issuedAtFaults = [][2]string{
	{"issued at in the year 10000", "\x1b\x00\x00\x00\x3a\xff\xf4\x41\x80"},
	{"issued at 2^64 - 1", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"issued at with a long head", "\x1b\x00\x00\x00\x00\x62\x31\x6a\xdd"},
	{"issued at negative", "\x3a\x62\x31\x6a\xdd"},
	{"issued at as float", "\xfb\x41\xd8\x8c\x5a\xb7\x40\x00\x00"},
	{"issued at with the tag of a time", "\xc1\x1a\x62\x31\x6a\xdd"},
}

var ttlFaults = [][2]string{
	{"TTL 0", "\x00"},
	{"TTL 4 s", "\x04"},
	{"TTL 601 s", "\x19\x02\x59"},
	{"TTL 2^64 - 1", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"TTL with a long head", "\x19\x00\x3c"},
	{"TTL negative", "\x38\x3b"},
}

var sessionFaults = [][2]string{
	{"session 0", "\x00"},
	{"session of 181 minutes", "\x18\xb5"},
	{"session of 256 + 30 minutes", "\x19\x01\x1e"},
	{"session with a long head", "\x19\x00\x1e"},
	{"session negative", "\x38\x1d"},
}

// timeFault is a payload that is refused at that time.
type timeFault struct {
	payloadFault
	reason string
	now    int64
}

func timeFaults() []timeFault {
	badTTL := map[int]string{itemTTL: "\x04"}
	return []timeFault{
		{payloadFault{"issued one second beyond the skew", nil}, "not-yet-valid", base - 6},
		{payloadFault{"issued in the far future", nil}, "not-yet-valid", 0},
		{payloadFault{"issued in the last second of 9999, opened in 2022", map[int]string{itemIssuedAt: "\x1b\x00\x00\x00\x3a\xff\xf4\x41\x7f"}}, "not-yet-valid", base},
		{payloadFault{"two faults: issued in the future and TTL 4 s", badTTL}, "not-yet-valid", base - 6},
		{payloadFault{"exactly at its expiration", nil}, "expired", base + 60},
		{payloadFault{"a second after its expiration", nil}, "expired", base + 61},
		{payloadFault{"an hour after its expiration", nil}, "expired", base + 3660},
		{payloadFault{"opened in the last second of 9999", nil}, "expired", 253402300799},
		{payloadFault{"exactly at its expiration after 5 s", map[int]string{itemTTL: "\x05"}}, "expired", base + 5},
		{payloadFault{"two faults: TTL 4 s and expired", badTTL}, "payload", base + 3600},
		{payloadFault{"two faults: session 0 and issued in the future", map[int]string{itemSession: "\x00"}}, "payload", base - 6},
		{payloadFault{"two faults: trailing byte and issued in the future", map[int]string{itemTail: "\x00"}}, "payload", base - 6},
	}
}

package vectors_test

import (
	"bytes"
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/vectors"
)

// The functions below make edition2.json. They do by hand, with the primitives,
// what SPEC.md says, and call nothing that the vectors test.

var update = flag.Bool("update", false, "write edition2.json anew")

// edition1 is the digest of the first file. Nothing makes that file again:
// version 1 has promised it.
const edition1 = "cf73b3f96323347fc842a0ece2f7bcde24840427683c526afbe6aae007dac03c"

func TestPublished(t *testing.T) {
	data, err := vectors.Files.ReadFile("edition1.json")
	require.NoError(t, err)
	require.Equal(t, edition1, fmt.Sprintf("%x", sha256.Sum256(data)))

	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(edition2(t)))
	if *update {
		require.NoError(t, os.WriteFile("edition2.json", made.Bytes(), 0o644))
	}
	data, err = os.ReadFile("edition2.json")
	require.NoError(t, err)
	got, want := strings.Split(made.String(), "\n"), strings.Split(string(data), "\n")
	for i := range min(len(got), len(want)) {
		require.Equal(t, want[i], got[i], "line %d", i+1)
	}
	require.Len(t, got, len(want))
}

func TestSameID(t *testing.T) {
	require.Equal(t, idOf(sameID[0], production), idOf(sameID[1], production))
}

func TestRead(t *testing.T) {
	v, err := vectors.Read()
	require.NoError(t, err)
	require.Equal(t, [...]int{14, 40 + len(validTexts) + len(edges), 168 + len(invalidTexts())}, [...]int{len(v.Derivations), len(v.Valid), len(v.Invalid)})
	require.NotZero(t, v.Accumulated)
	v.Valid[0].Token = ""
	again, err := vectors.Read()
	require.NoError(t, err)
	require.NotEmpty(t, again.Valid[0].Token, "a copy of its own")
	for _, data := range []string{"0", "0g"} {
		require.Error(t, new(vectors.Bytes).UnmarshalText([]byte(data)))
	}
}

// edition2 returns all of edition2.json, but for the tokens of accumulated, 560
// KB of text. The tests of package token make those.
func edition2(t *testing.T) vectors.Vectors {
	t.Helper()
	v := vectors.Vectors{
		Valid:   append(makeTexts(), makeEdges()...),
		Invalid: invalidTexts(),
		Opens:   makeOpens(),
		Mints:   makeMints(),
		KEKs:    makeKEKs(),
		Rings:   makeRings(),
		Loads:   makeLoads(),

		Authorizations: makeAuthorizations(),
	}
	v.Accumulated.Tokens = 1000
	require.NoError(t, v.Accumulated.SHA256.UnmarshalText([]byte("f23a122cd4d04172cbb57767e00b56a8a1e2bd8ed7b291b338d62923dba1ae4c")))
	return v
}

// base is when most tokens are issued: 2022-03-16T04:43:09Z.
const base = 1647405789

// random returns n bytes, derived from name.
func random(name string, n int) []byte {
	sum := sha256.Sum256([]byte("chattoken vectors, edition 2: " + name))
	return sum[:n]
}

func expand(secret []byte, info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, info, n)
	if err != nil {
		panic(err)
	}
	return b
}

func keyOf(secret, context string) []byte {
	return expand([]byte(secret), "chattoken/v1 key\x00"+context, 32)
}

func idOf(secret, context string) []byte {
	return expand([]byte(secret), "chattoken/v1 key-id\x00"+context, 4)
}

func seal(key, nonce []byte, plaintext, additionalData string) []byte {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err)
	}
	return aead.Seal(slices.Clone(nonce), nonce, []byte(plaintext), []byte(additionalData))
}

func spell(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tokenOf seals any payload.
func tokenOf(secret, context string, nonce []byte, payload string) string {
	header := "ct1_" + string(idOf(secret, context))
	return "ct1_" + spell(append([]byte(header[4:]), seal(keyOf(secret, context), nonce, payload, header)...))
}

// The CBOR encodings that SPEC.md uses.

func head(major byte, n uint64) string {
	major <<= 5
	switch {
	case n < 24:
		return string([]byte{major | byte(n)})
	case n < 1<<8:
		return string([]byte{major | 24, byte(n)})
	case n < 1<<16:
		return string(binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n)))
	case n < 1<<32:
		return string(binary.BigEndian.AppendUint32([]byte{major | 26}, uint32(n)))
	}
	return string(binary.BigEndian.AppendUint64([]byte{major | 27}, n))
}

func uints(n ...uint64) (s string) {
	for _, n := range n {
		s += head(0, n)
	}
	return s
}

func text(s string) string { return head(3, uint64(len(s))) + s }

func array(items ...string) string { return head(4, uint64(len(items))) + strings.Join(items, "") }

// pairs encodes a map, in the given order.
func pairs(texts ...string) string {
	s := head(5, uint64(len(texts)/2))
	for _, t := range texts {
		s += text(t)
	}
	return s
}

// payload encodes a payload whose other items are those of the example in the
// service's documentation.
func payload(room, user, attributes string) string {
	return array(room, user, uints(1), attributes, uints(base), uints(60), uints(30))
}

const exampleRoom = "arn:aws:ivschat:us-west-2:12345EXAMPLE:room/AAAAAAAAAAAA"

var (
	plainRoom  = text("arn:aws:ivschat:us-west-2:123456789012:room/AbCdEfGhIjKl")
	plainUser  = text("11231234")
	noPairs    = pairs()
	textSecret = string(random("secret of the texts", 32))
)

// attribute is a key and a value. A slice keeps their order; a map would not.
type attribute [2]string

type textCase struct {
	name       string
	room, user string
	attributes []attribute // in the encoding's order
}

var validTexts = []textCase{
	{"byte order mark before the user ID", "", "\ufeff11231234", nil},
	{"byte order mark before the room identifier", "\ufefflobby", "", nil},
	{"keys with and without a byte order mark", "", "", []attribute{{"k", "1"}, {"\ufeffk", "2"}}},
	{"byte order mark before a value, and alone", "", "", []attribute{{"k", "\ufeffv"}, {"l", "\ufeff"}}},
	{"user ID in NFC", "", "Zo\u00eb", nil},
	{"user ID in NFD", "", "Zoe\u0308", nil},
	{"room identifier that NFC changes", "\u212bngstr\u00f6m", "", nil},
	{"keys that NFC makes equal", "", "", []attribute{{"\u00e9", "NFC"}, {"e\u0301", "NFD"}, {"\u212b", "sign"}}},
	{"text that NFKC changes", "", "\ufb01 \u00b2 \uff21 \u2126", nil},
	{"keys that differ in case", "", "", []attribute{{"K", "1"}, {"k", "2"}, {"\u212a", "Kelvin"}}},
	{"spaces at both ends", " lobby ", " \u00a0u\u3000 ", []attribute{{" k ", " v "}}},
	{"user ID of 128 code points, one grapheme", "", "e" + strings.Repeat("\u0301", 127), nil},
	{"user ID of 128 code points, 32 families", "", strings.Repeat("\U0001f469\u200d\U0001f469\u200d", 32), nil},
	{"user ID of 128 code points, 256 units of UTF-16", "", strings.Repeat("\U0001f680", 128), nil},
	{"room identifier of 128 bytes, 64 code points", strings.Repeat("\u00e9", 64), "", nil},
	{"room identifier of 128 bytes, 32 code points", strings.Repeat("\U0001f680", 32), "", nil},
	{"attributes of 1,024 bytes, 512 code points", "", "", []attribute{{"\u00e9", strings.Repeat("\u00e9", 511)}}},
	{"keys whose order in UTF-16 is another", "", "", []attribute{{"\uffffa", "1"}, {"\U0001f680", "2"}}},
	{"keys whose order by code points is another", "", "", []attribute{{"abc", "1"}, {"\u00e9\u00e9", "2"}, {"aaaaa", "3"}}},
	{"keys whose order by text is another", "", "", []attribute{{"b", "1"}, {"\u007f", "2"}, {"aa", "3"}, {"\u0080", "4"}}},
	{"keys that mean something to a program", "", "", []attribute{{"1", "a"}, {"02", "b"}, {"10", "c"}, {"null", "d"}, {"__proto__", "e"}, {"constructor", "f"}}},
	{"NUL in and after a key", "", "a\x00b", []attribute{{"k", "1"}, {"k\x00", "2"}}},
	{"code points that are no characters", "", "\ufdd0\ufffe\uffff\U0001ffff\U0010fffe", nil},
	{"private use and unassigned", "", "\ue000\U000f0000\u0378\U000e0fff", nil},
	{"line ends of all kinds", "", "\n\r\n\v\f\u0085\u2028\u2029", nil},
}

func makeTexts() (all []vectors.Token) {
	for _, c := range validTexts {
		room, user := cmp.Or(c.room, exampleRoom), cmp.Or(c.user, "11231234")
		var flat, members []string
		for _, a := range c.attributes {
			flat = append(flat, a[:]...)
			members = append(members, quote(a[0])+":"+quote(a[1]))
		}
		request := fmt.Sprintf(`{"roomIdentifier":%s,"userId":%s,"capabilities":["SEND_MESSAGE"]`, quote(room), quote(user))
		if len(members) > 0 {
			request += `,"attributes":{` + strings.Join(members, ",") + "}"
		}
		request += `,"sessionDurationInMinutes":30}`
		p := payload(text(room), text(user), pairs(flat...))
		nonce := random(c.name, 24)
		all = append(all, vectors.Token{
			Name: c.name, Secret: []byte(textSecret), Context: []byte{}, Now: base, Claims: json.RawMessage(request),
			IssuedAt: base, TTL: 60, Payload: []byte(p), Nonce: nonce, Token: tokenOf(textSecret, "", nonce, p),
		})
	}
	return all
}

// edges are the arguments at which a head gets longer.
var edges = []uint64{23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32}

// longer encodes an argument one size longer than necessary.
func longer(major byte, n uint64) string {
	major <<= 5
	switch {
	case n < 24:
		return string([]byte{major | 24, byte(n)})
	case n < 1<<8:
		return string(binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n)))
	case n < 1<<16:
		return string(binary.BigEndian.AppendUint32([]byte{major | 26}, uint32(n)))
	}
	return string(binary.BigEndian.AppendUint64([]byte{major | 27}, n))
}

func makeEdges() (all []vectors.Token) {
	for _, n := range edges {
		name := fmt.Sprintf("issued at %d", n)
		p := array(text("lobby"), text("u"), uints(0), noPairs, uints(n), uints(60), uints(1))
		nonce := random(name, 24)
		all = append(all, vectors.Token{
			Name: name, Secret: []byte(textSecret), Context: []byte{}, Now: int64(n),
			Claims:   json.RawMessage(`{"roomIdentifier":"lobby","userId":"u","sessionDurationInMinutes":1}`),
			IssuedAt: int64(n), TTL: 60, Payload: []byte(p), Nonce: nonce, Token: tokenOf(textSecret, "", nonce, p),
		})
	}
	return all
}

// quote writes only ASCII, so that no editor or tool changes the text.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r < 0x80:
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return out.String()
}

// notUTF8 has bytes that are not UTF-8, though some decoders accept them.
var notUTF8 = []struct{ name, text string }{
	{"NUL in two bytes", "\xc0\x80"},
	{"an overlong form of 2 bytes", "\xc1\xbf"},
	{"an overlong form of 3 bytes", "\xe0\x9f\xbf"},
	{"an overlong form of 4 bytes", "\xf0\x8f\xbf\xbf"},
	{"a surrogate", "\xed\xa0\x80"},
	{"a pair of surrogates", "\xed\xa0\xbd\xed\xba\x80"},
	{"a code point beyond U+10FFFF", "\xf4\x90\x80\x80"},
	{"a form of 5 bytes", "\xf8\x88\x80\x80\x80"},
	{"a stray continuation byte", "a\x80"},
	{"a code point cut off", "a\xf0\x9f\x9a"},
	{"Latin-1", "Zo\xeb"},
	{"UTF-16", "\xff\xfea\x00"},
}

func invalidTexts() (all []vectors.Token) {
	add := func(name, payload string) {
		all = append(all, vectors.Token{
			Name: name, Reason: "payload", Secret: []byte(textSecret), Context: []byte{}, Now: base,
			Token: tokenOf(textSecret, "", random(name, 24), payload),
		})
	}
	for _, bad := range notUTF8 {
		add("room identifier with "+bad.name, payload(text(bad.text), plainUser, noPairs))
		add("user ID with "+bad.name, payload(plainRoom, text(bad.text), noPairs))
		add("attribute key with "+bad.name, payload(plainRoom, plainUser, pairs(bad.text, "v")))
		add("attribute value with "+bad.name, payload(plainRoom, plainUser, pairs("k", bad.text)))
	}
	for _, c := range []struct{ name, room, user, attributes string }{
		{"user ID of 129 code points, one grapheme", "", text("e" + strings.Repeat("\u0301", 128)), ""},
		{"user ID of 129 code points, 43 graphemes", "", text(strings.Repeat("e\u0301\u0302", 43)), ""},
		{"user ID of 129 code points of 2 bytes", "", text(strings.Repeat("\u00e9", 129)), ""},
		{"user ID of 129 code points, 128 after NFC", "", text(strings.Repeat("u", 127) + "e\u0301"), ""},
		{"user ID of 129 code points, of which one is a byte order mark", "", text("\ufeff" + strings.Repeat("u", 128)), ""},
		{"user ID of 129 code points, of which one is a space", "", text(" " + strings.Repeat("u", 128)), ""},
		{"room identifier of 130 bytes, 65 code points", text(strings.Repeat("\u00e9", 65)), "", ""},
		{"room identifier of 129 bytes, 128 code points", text(strings.Repeat("r", 127) + "\u00e9"), "", ""},
		{"room identifier of 512 bytes, 128 code points", text(strings.Repeat("\U0001f680", 128)), "", ""},
		{"attributes of 1,025 bytes, 513 code points", "", "", pairs("k", strings.Repeat("\u00e9", 512))},
		{"attributes of 1,026 bytes, 1,024 code points", "", "", pairs("k", strings.Repeat("v", 1021)+"\u00e9\u00e9")},
		{"attributes of 1,025 bytes, most of them in keys", "", "", pairs(strings.Repeat("k", 511), "", strings.Repeat("k", 512), "vw")},
		{"keys in the order of UTF-16", "", "", pairs("\U0001f680", "2", "\uffffa", "1")},
		{"keys in the order of code points", "", "", pairs("\u00e9\u00e9", "2", "abc", "1")},
		{"keys in the order of text", "", "", pairs("aa", "3", "b", "1")},
		{"keys in the order of folded case", "", "", pairs("a", "2", "B", "1")},
		{"key repeated with another value", "", "", pairs("k", "1", "k", "2")},
		{"key repeated with a key between", "", "", pairs("k", "1", "l", "2", "k", "1")},
		{"keys in descending order", "", "", pairs("c", "3", "b", "2", "a", "1")},
		{"key empty, and the only one", "", "", pairs("", "")},
		{"user ID empty, attributes of one empty key", "", text(""), pairs("", "v")},
		{"room identifier of 23 bytes with a longer head", longer(3, 23) + strings.Repeat("r", 23), "", ""},
		{"user ID of 23 bytes with a longer head", "", longer(3, 23) + strings.Repeat("u", 23), ""},
		{"user ID of 255 bytes with a longer head", "", longer(3, 255) + strings.Repeat("\u00e9", 127) + "u", ""},
		{"attribute of 23 bytes with a longer head", "", "", head(5, 1) + longer(3, 23) + strings.Repeat("k", 23) + text("v")},
		{"attribute of 255 bytes with a longer head", "", "", head(5, 1) + text("k") + longer(3, 255) + strings.Repeat("v", 255)},
		{"no attributes with a longer head", "", "", longer(5, 0)},
		{"23 attributes with a longer head", "", "", longer(5, 23) + pairsOfLetters(23)},
		{"user ID with a head of 4 bytes", "", "\x7a\x00\x00\x00\x01u", ""},
		{"user ID with a head of 8 bytes", "", "\x7b\x00\x00\x00\x00\x00\x00\x00\x01u", ""},
		{"user ID in two chunks", "", "\x7f\x61u\x61v\xff", ""},
		{"user ID with a tag", "", "\xd8\x20" + text("u"), ""},
		{"attributes with a head of 4 bytes", "", "", "\xba\x00\x00\x00\x01" + text("k") + text("v")},
		{"attributes with reserved additional information", "", "", "\xbc" + text("k") + text("v")},
	} {
		add(c.name, payload(cmp.Or(c.room, plainRoom), cmp.Or(c.user, plainUser), cmp.Or(c.attributes, noPairs)))
	}
	for _, n := range edges {
		if n < 1<<32 {
			add(fmt.Sprintf("issued at %d with a longer head", n), array(plainRoom, plainUser, uints(1), noPairs, longer(0, n), uints(60), uints(30)))
			all[len(all)-1].Now = int64(n)
		}
	}
	for _, n := range []uint64{5, 23} {
		add(fmt.Sprintf("TTL %d with a longer head", n), array(plainRoom, plainUser, uints(1), noPairs, uints(base), longer(0, n), uints(30)))
		add(fmt.Sprintf("session of %d minutes with a longer head", n), array(plainRoom, plainUser, uints(1), noPairs, uints(base), uints(60), longer(0, n)))
	}
	whole := payload(plainRoom, plainUser, noPairs)
	add("payload with a head of 2 bytes", "\x99\x00\x07"+whole[1:])
	add("payload with a head of 4 bytes", "\x9a\x00\x00\x00\x07"+whole[1:])
	add("payload with a head of 8 bytes", "\x9b\x00\x00\x00\x00\x00\x00\x00\x07"+whole[1:])
	add("attributes with a head of 2 bytes", payload(plainRoom, plainUser, "\xb9\x00\x00"))
	add("attributes with a head of 8 bytes", payload(plainRoom, plainUser, "\xbb\x00\x00\x00\x00\x00\x00\x00\x00"))
	add("attributes as an empty array", payload(plainRoom, plainUser, "\x80"))
	add("session with reserved additional information", whole[:len(whole)-2]+"\x1c")
	// Values whose lower bits are the right ones.
	for _, c := range []struct {
		name                       string
		capabilities, ttl, minutes uint64
	}{
		{"capabilities of 2^8 + 1", 1<<8 + 1, 60, 30},
		{"capabilities of 2^16 + 1", 1<<16 + 1, 60, 30},
		{"capabilities of 2^32 + 1", 1<<32 + 1, 60, 30},
		{"capabilities of 2^64 - 1", 1<<64 - 1, 60, 30},
		{"TTL of 2^16 + 60 s", 1, 1<<16 + 60, 30},
		{"TTL of 2^32 + 60 s", 1, 1<<32 + 60, 30},
		{"session of 2^16 + 30 minutes", 1, 60, 1<<16 + 30},
		{"session of 2^32 + 30 minutes", 1, 60, 1<<32 + 30},
		{"session of 2^64 - 1 minutes", 1, 60, 1<<64 - 1},
	} {
		add(c.name, array(plainRoom, plainUser, uints(c.capabilities), noPairs, uints(base), uints(c.ttl), uints(c.minutes)))
	}
	// A character whose lower bits are the right one's.
	for _, at := range []struct {
		where string
		index int
	}{{"prefix", 1}, {"body", 20}} {
		for _, more := range []rune{0x80, 0x100} {
			name := fmt.Sprintf("character of the %s + %d", at.where, more)
			text := []rune(tokenOf(textSecret, "", random(name, 24), whole))
			text[at.index] += more
			all = append(all, vectors.Token{
				Name: name, Reason: "malformed", Secret: []byte(textSecret), Context: []byte{}, Now: base, Token: string(text),
			})
		}
	}
	future := "two faults: ahead by 6 s, TTL of 2^64 - 1 s"
	add(future, array(plainRoom, plainUser, uints(1), noPairs, uints(base+6), uints(1<<64-1), uints(30)))
	all[len(all)-1].Reason = "not-yet-valid"
	return all
}

// pairsOfLetters encodes n attributes, without the head of their map.
func pairsOfLetters(n int) (s string) {
	for i := range n {
		s += text(string(rune('a'+i))) + text("")
	}
	return s
}

// ring is a ring to seal. The strings of a key are its secret and its times.
type ring struct {
	serial         uint64
	policy         [4]uint64 // maxTTL, clockSkew, period, lead
	chain, revoked []key
}

type key struct {
	secret string
	times  [5]uint64 // created, activates, retires, expires, revoked
}

func (k key) encode() string {
	return head(4, 6) + head(2, uint64(len(k.secret))) + k.secret + uints(k.times[:]...)
}

func (r ring) encode() string {
	lists := [2]string{}
	for i, keys := range [][]key{r.chain, r.revoked} {
		var items []string
		for _, k := range keys {
			items = append(items, k.encode())
		}
		lists[i] = array(items...)
	}
	return array(uints(r.serial), array(uints(r.policy[0]), uints(r.policy[1]), uints(r.policy[2]), uints(r.policy[3])), lists[0], lists[1])
}

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour

	kekLabel   = "chattoken/v1 kek\x00"
	kekIDLabel = "chattoken/v1 kek-id\x00"

	production = "chat.example.com production"
)

var defaultPolicy = [4]uint64{60, 5, 30 * day, hour}

func secret(name string) string { return string(random("secret "+name, 32)) }

// house returns the ring that most vectors start from: at base it has a key of
// each state.
func house() ring {
	return ring{7, defaultPolicy,
		[]key{
			{secret("expired"), [5]uint64{base - 90*day, 0, base - 60*day, base - 60*day + 70, 0}},
			{secret("retired"), [5]uint64{base - 61*day, base - 60*day, base - 30, base + 40, 0}},
			{secret("primary"), [5]uint64{base - 31*day, base - 30, base + 20*day, base + 20*day + 70, 0}},
			{secret("pending"), [5]uint64{base - 30, base + 20*day, 0, 0, 0}},
		},
		[]key{
			{secret("revoked"), [5]uint64{base - 40*day, base - 40*day, base - 20*day, base + 10, base - 15}},
			{secret("revoked as pending"), [5]uint64{base - 20, base + 20*day, 0, base + 50, base - 10}},
		},
	}
}

// single is a ring of one key.
func single(secret string, maxTTL, clockSkew uint64) ring {
	return ring{1, [4]uint64{maxTTL, clockSkew, 30 * day, hour}, []key{{secret, [5]uint64{}}}, nil}
}

// envelope is how to seal a ring; edit makes what is wrong with it.
type envelope struct {
	form             byte
	magic, kekID     string
	kek, dataKey     []byte
	wrapKey, wrapped []byte
	wrapAAD          string
	context          string
	prefix           string // the context's digest, before the document
	document         string
	aad, nonce       []byte // aad: nil is the header
}

func newEnvelope(name, context, document string) *envelope {
	kek := random("kek", 32)
	e := &envelope{
		form: 2, magic: "chattoken-keyring", kek: kek,
		kekID:   "local-" + hex.EncodeToString(expand(kek, kekIDLabel, 8)),
		wrapKey: expand(kek, kekLabel, 32),
		dataKey: random("data key "+name, 32), nonce: random("nonce "+name, 24),
		context: context, document: document,
	}
	digest := sha256.Sum256([]byte("chattoken/v1 context\x00" + context))
	e.prefix, e.wrapAAD = string(digest[:]), e.kekID
	return e
}

func (e *envelope) asForm1() *envelope {
	e.form, e.prefix = 1, ""
	return e
}

func (e *envelope) header() []byte {
	if e.wrapped == nil {
		e.wrapped = seal(e.wrapKey, random("wrapping "+string(e.nonce), 24), string(e.dataKey), e.wrapAAD)
	}
	b := append([]byte(e.magic), e.form, byte(len(e.kekID)))
	b = binary.BigEndian.AppendUint16(append(b, e.kekID...), uint16(len(e.wrapped)))
	return append(b, e.wrapped...)
}

func (e *envelope) seal() []byte {
	header := e.header()
	aad := e.aad
	if aad == nil {
		aad = header
	}
	key := e.dataKey
	if len(key) != 32 {
		key = make([]byte, 32)
	}
	return append(header, seal(key, e.nonce, e.prefix+e.document, string(aad))...)
}

func kekText(kek []byte) string { return "chattoken-kek1_" + spell(kek) }

func makeOpens() (all []vectors.Token) {
	sealed := newEnvelope("opens", production, house().encode()).seal()
	wide := newEnvelope("opens, wide", production, single(secret("wide"), 60, 60).encode()).seal()
	add := func(name, reason string, ring []byte, now int64, token string) {
		all = append(all, vectors.Token{
			Name: name, Reason: reason, KEK: kekText(random("kek", 32)), Context: []byte(production), Sealed: ring, Now: now, Token: token,
		})
	}
	under := func(name, key string, issuedAt, ttl uint64) string {
		return tokenOf(secret(key), production, random(name, 24),
			array(plainRoom, plainUser, uints(1), noPairs, uints(issuedAt), uints(ttl), uints(30)))
	}
	for _, c := range []struct {
		name, key, reason string
		now               int64
	}{
		{"primary key", "primary", "", base},
		{"primary key, in its first second", "primary", "", base - 30},
		{"primary key, before its first second", "primary", "", base - 31},
		{"pending key", "pending", "", base},
		{"pending key, long before", "pending", "", base - 200*day},
		{"retired key", "retired", "", base},
		{"retired key, in its last second", "retired", "", base + 39},
		{"retired key, as it expires", "retired", "unknown-key", base + 40},
		{"retired key, long after", "retired", "unknown-key", base + 300*day},
		{"expired key", "expired", "unknown-key", base},
		{"expired key, by a clock that is set back", "expired", "", base - 60*day},
		{"expired key, by a clock of 1970", "expired", "", 100},
		{"primary key, as it expires", "primary", "unknown-key", base + 20*day + 70},
		{"primary key, in its last second", "primary", "", base + 20*day + 69},
		{"revoked key", "revoked", "revoked-key", base},
		{"revoked key, before the revocation", "revoked", "revoked-key", base - 100},
		{"revoked key, after its expiration", "revoked", "revoked-key", base + 100},
		{"key that was revoked while pending", "revoked as pending", "revoked-key", base},
		{"key that the ring does not have", "another", "unknown-key", base},
	} {
		add(c.name, c.reason, sealed, c.now, under(c.name, c.key, uint64(c.now), 60))
	}
	for _, c := range []struct{ name, key, reason string }{
		{"two faults: revoked key and forged", "revoked", "revoked-key"},
		{"two faults: expired key and forged", "expired", "unknown-key"},
		{"primary key, forged", "primary", "forged"},
		{"retired key, forged", "retired", "forged"},
	} {
		forged := tokenOf(secret(c.key), production, random(c.name, 24), "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", forged[40])
		add(c.name, c.reason, sealed, base, forged[:40]+string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(last+1)%64])+forged[41:])
	}
	// No key but the one that is named may open it.
	name := "ID of the primary key, under the retired one"
	id, nonce := idOf(secret("primary"), production), random(name, 24)
	add(name, "forged", sealed, base, "ct1_"+spell(append(id, seal(keyOf(secret("retired"), production), nonce, payload(plainRoom, plainUser, noPairs), "ct1_"+string(id))...)))
	for _, c := range []struct {
		name, key, reason string
		now               int64
		issuedAt          uint64
	}{
		{"clock of 1969, within the skew", "expired", "", -1, 4},
		{"clock of 1969, beyond the skew", "expired", "not-yet-valid", -1, 5},
		{"clock of the year 10000", "pending", "", maxTime + 59, maxTime},
		{"clock of the year 10000, as the token expires", "pending", "expired", maxTime + 60, maxTime},
	} {
		add(c.name, c.reason, sealed, c.now, under(c.name, c.key, c.issuedAt, 60))
	}
	name = "two faults: revoked key and payload"
	add(name, "revoked-key", sealed, base, tokenOf(secret("revoked"), production, random(name, 24), strings.Repeat("\x00", 12)))
	name = "two faults: expired key and expired token"
	add(name, "unknown-key", sealed, base, under(name, "expired", base-70*day, 60))
	name = "key of the ring under another context"
	add(name, "unknown-key", sealed, base, tokenOf(secret("primary"), "", random(name, 24), payload(plainRoom, plainUser, noPairs)))
	name = "TTL above the ring's maxTTL"
	add(name, "", sealed, base, under(name, "primary", base, 600))
	name = "issued before the key was made"
	add(name, "", sealed, base, under(name, "pending", base-40, 60))
	name = "ahead by 6 s, with a clockSkew of 5"
	add(name, "not-yet-valid", sealed, base, under(name, "primary", base+6, 60))
	name = "ahead by 60 s, with a clockSkew of 60"
	add(name, "", wide, base, under(name, "wide", base+60, 60))
	name = "ahead by 61 s, with a clockSkew of 60"
	add(name, "not-yet-valid", wide, base, under(name, "wide", base+61, 60))
	name = "expired for 1 s, with a clockSkew of 60"
	add(name, "expired", wide, base+61, under(name, "wide", base, 60))
	return all
}

func makeMints() (all []vectors.Mint) {
	const mintRoom = "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEfGhIjKl"
	request := func(members string) json.RawMessage {
		return json.RawMessage(`{"roomIdentifier":"` + mintRoom + `","userId":"11231234"` + members + "}")
	}
	plain := request("")
	mintSecret := secret("mint")
	// add adds a token to mint. ttl and minutes are the expected ones.
	add := func(name string, m vectors.Mint, ttl, minutes, capabilities uint64) {
		m.Name, m.Secret, m.Context, m.Nonce = name, []byte(mintSecret), []byte{}, random(name, 24)
		m.Now, m.MaxTTL, m.ClockSkew = cmp.Or(m.Now, base), cmp.Or(m.MaxTTL, 60), cmp.Or(m.ClockSkew, 5)
		var asked struct {
			RoomIdentifier, UserID string
		}
		if err := json.Unmarshal(m.Claims, &asked); err != nil {
			panic(err)
		}
		p := array(text(asked.RoomIdentifier), text(asked.UserID), uints(capabilities), noPairs, uints(uint64(m.Now)), uints(ttl), uints(minutes))
		m.Token = tokenOf(mintSecret, "", m.Nonce, p)
		m.TokenExpiration, m.SessionExpiration = m.Now+int64(ttl), m.Now+60*int64(minutes)
		all = append(all, m)
	}
	add("defaults", vectors.Mint{Claims: plain}, 60, 60, 0)
	add("default TTL: clockSkew 55", vectors.Mint{Claims: plain, MaxTTL: 600, ClockSkew: 55}, 60, 60, 0)
	add("default TTL: clockSkew 56", vectors.Mint{Claims: plain, MaxTTL: 600, ClockSkew: 56}, 61, 60, 0)
	add("default TTL: clockSkew 60", vectors.Mint{Claims: plain, MaxTTL: 600, ClockSkew: 60}, 65, 60, 0)
	add("default TTL: maxTTL 600", vectors.Mint{Claims: plain, MaxTTL: 600}, 60, 60, 0)
	add("default TTL: maxTTL 30", vectors.Mint{Claims: plain, MaxTTL: 30}, 30, 60, 0)
	add("default TTL: maxTTL 5", vectors.Mint{Claims: plain, MaxTTL: 5, ClockSkew: 1}, 5, 60, 0)
	add("default TTL: clockSkew 60, maxTTL 62", vectors.Mint{Claims: plain, MaxTTL: 62, ClockSkew: 60}, 62, 60, 0)
	add("default TTL: longer than the session", vectors.Mint{Claims: request(`,"sessionDurationInMinutes":1`), MaxTTL: 600, ClockSkew: 60}, 60, 1, 0)
	add("TTL 5", vectors.Mint{Claims: plain, TTL: 5}, 5, 60, 0)
	add("TTL 600", vectors.Mint{Claims: plain, TTL: 600, MaxTTL: 600}, 600, 60, 0)
	add("TTL equal to maxTTL", vectors.Mint{Claims: plain, TTL: 45, MaxTTL: 45}, 45, 60, 0)
	add("TTL below the default", vectors.Mint{Claims: plain, TTL: 7, MaxTTL: 600, ClockSkew: 60}, 7, 60, 0)
	add("TTL longer than the session", vectors.Mint{Claims: request(`,"sessionDurationInMinutes":2`), TTL: 600, MaxTTL: 600}, 120, 2, 0)
	add("TTL as long as the session", vectors.Mint{Claims: request(`,"sessionDurationInMinutes":10`), TTL: 600, MaxTTL: 600}, 600, 10, 0)
	add("session of 180 minutes", vectors.Mint{Claims: request(`,"sessionDurationInMinutes":180`)}, 60, 180, 0)
	add("capabilities: none", vectors.Mint{Claims: request(`,"capabilities":[]`)}, 60, 60, 0)
	add("capabilities: one twice", vectors.Mint{Claims: request(`,"capabilities":["SEND_MESSAGE","SEND_MESSAGE"]`)}, 60, 60, 1)
	add("capabilities: all, in another order, two of them twice", vectors.Mint{Claims: request(`,"capabilities":["DELETE_MESSAGE","DISCONNECT_USER","DELETE_MESSAGE","SEND_MESSAGE","DISCONNECT_USER"]`)}, 60, 60, 7)
	add("attributes: empty", vectors.Mint{Claims: request(`,"attributes":{}`)}, 60, 60, 0)
	add("room of any form", vectors.Mint{Claims: json.RawMessage(`{"roomIdentifier":"lobby","userId":"u"}`), AnyRoom: true}, 60, 60, 0)
	add("room of the shortest form", vectors.Mint{Claims: json.RawMessage(`{"roomIdentifier":"arn:aws:ivschat:-:0:room/-","userId":"u"}`)}, 60, 60, 0)
	add("in the last second of 9999", vectors.Mint{Claims: plain, Now: 253402300799}, 60, 60, 0)

	// Which key of a ring seals?
	sealed := newEnvelope("opens", production, house().encode()).seal()
	for _, c := range []struct {
		name, key string
		now       int64
	}{
		{"under a ring", "primary", base},
		{"under a ring, in the first second of its primary", "primary", base - 30},
		{"under a ring, a second before", "retired", base - 31},
		{"under a ring, by a clock that is set back", "expired", 1000},
		{"under a ring, in the last second before the next key", "primary", base + 20*day - 1},
		{"under a ring, as the next key activates", "pending", base + 20*day},
		{"under a ring that nobody rotates", "pending", base + 2000*day},
	} {
		nonce := random(c.name, 24)
		p := array(plainRoom, plainUser, uints(0), noPairs, uints(uint64(c.now)), uints(60), uints(60))
		all = append(all, vectors.Mint{
			Name: c.name, KEK: kekText(random("kek", 32)), Context: []byte(production), Sealed: sealed, Now: c.now, Claims: plain, Nonce: nonce,
			Token: tokenOf(secret(c.key), production, nonce, p), TokenExpiration: c.now + 60, SessionExpiration: c.now + hour,
		})
	}

	refuse := func(name string, m vectors.Mint) {
		m.Name, m.Secret, m.Context = "refused: "+name, []byte(mintSecret), []byte{}
		m.Now, m.MaxTTL, m.ClockSkew = cmp.Or(m.Now, base), cmp.Or(m.MaxTTL, 60), cmp.Or(m.ClockSkew, 5)
		all = append(all, m)
	}
	refuse("TTL 1 s above maxTTL", vectors.Mint{Claims: plain, TTL: 61, Error: "ttl"})
	refuse("TTL above maxTTL, shorter session", vectors.Mint{Claims: request(`,"sessionDurationInMinutes":1`), TTL: 120, Error: "ttl"})
	refuse("TTL 4", vectors.Mint{Claims: plain, TTL: 4, Error: "ttl"})
	refuse("TTL 601", vectors.Mint{Claims: plain, TTL: 601, MaxTTL: 600, Error: "ttl"})
	refuse("clock of 1969", vectors.Mint{Claims: plain, Now: -1, Error: "clock"})
	refuse("clock of the year 10000", vectors.Mint{Claims: plain, Now: 253402300800, Error: "clock"})
	room := func(s string) json.RawMessage {
		return json.RawMessage(`{"roomIdentifier":` + quote(s) + `,"userId":"u"}`)
	}
	for _, c := range []struct{ name, room string }{
		{"room of another form", "lobby"},
		{"room with a line feed after", mintRoom + "\n"},
		{"room with a character before", "x" + mintRoom},
		{"room with a region in capitals", "arn:aws:ivschat:US-WEST-2:123456789012:room/AAAAAAAAAAAA"},
		{"room of another partition", "arn:aws-cn:ivschat:cn-north-1:123456789012:room/AAAAAAAAAAAA"},
		{"room of another service", "arn:aws:ivs:us-west-2:123456789012:channel/AAAAAAAAAAAA"},
		{"room with digits of another script", "arn:aws:ivschat:us-west-2:\u0661\u0662\u0663:room/AAAAAAAAAAAA"},
		{"room with a letter of another script", "arn:aws:ivschat:us-west-2:123456789012:room/\u00c4"},
		{"room without an account", "arn:aws:ivschat:us-west-2::room/AAAAAAAAAAAA"},
		{"room without a region", "arn:aws:ivschat::123456789012:room/AAAAAAAAAAAA"},
		{"room that begins in capitals", "ARN:AWS:IVSCHAT:us-west-2:123456789012:room/AAAAAAAAAAAA"},
		{"room with a space before", " " + mintRoom},
		{"room with NUL and more after", mintRoom + "\x00x"},
		{"room without an ID", "arn:aws:ivschat:us-west-2:123456789012:room/"},
		{"room with an underscore", "arn:aws:ivschat:us-west-2:123456789012:room/A_B"},
		{"room empty", ""},
		{"room of 129 bytes", "arn:aws:ivschat:us-west-2:123456789012:room/" + strings.Repeat("x", 85)},
	} {
		refuse(c.name, vectors.Mint{Claims: room(c.room), Fields: []string{"roomIdentifier"}})
	}
	refuse("room of any form, empty", vectors.Mint{Claims: room(""), AnyRoom: true, Fields: []string{"roomIdentifier"}})
	refuse("room of any form, 130 bytes", vectors.Mint{Claims: room(strings.Repeat("\u00e9", 65)), AnyRoom: true, Fields: []string{"roomIdentifier"}})
	refuse("room missing", vectors.Mint{Claims: json.RawMessage(`{"userId":"u"}`), Fields: []string{"roomIdentifier"}})
	user := func(s string) json.RawMessage {
		return json.RawMessage(`{"roomIdentifier":"r","userId":` + quote(s) + `}`)
	}
	refuse("user ID empty", vectors.Mint{Claims: user(""), AnyRoom: true, Fields: []string{"userId"}})
	refuse("user ID of 129 code points", vectors.Mint{Claims: user(strings.Repeat("u", 129)), AnyRoom: true, Fields: []string{"userId"}})
	refuse("user ID of 129 code points, one grapheme", vectors.Mint{Claims: user("e" + strings.Repeat("\u0301", 128)), AnyRoom: true, Fields: []string{"userId"}})
	refuse("user ID missing", vectors.Mint{Claims: json.RawMessage(`{"roomIdentifier":"r"}`), AnyRoom: true, Fields: []string{"userId"}})
	for _, c := range []struct{ name, field, members string }{
		{"capability in lower case", "capabilities", `,"capabilities":["send_message"]`},
		{"capability unknown, beside a known one", "capabilities", `,"capabilities":["SEND_MESSAGE","VIEW_MESSAGE"]`},
		{"capability with a space before", "capabilities", `,"capabilities":[" SEND_MESSAGE"]`},
		{"capability empty", "capabilities", `,"capabilities":[""]`},
		{"attribute key empty", "attributes", `,"attributes":{"":"v"}`},
		{"attributes of 1,025 bytes", "attributes", `,"attributes":{"k":"` + strings.Repeat("v", 1024) + `"}`},
		{"attributes of 1,025 bytes, 513 code points", "attributes", `,"attributes":{"k":` + quote(strings.Repeat("\u00e9", 512)) + `}`},
		{"session 0", "sessionDurationInMinutes", `,"sessionDurationInMinutes":0`},
		{"session negative", "sessionDurationInMinutes", `,"sessionDurationInMinutes":-1`},
		{"session of 181 minutes", "sessionDurationInMinutes", `,"sessionDurationInMinutes":181`},
		{"session of 256 + 30 minutes", "sessionDurationInMinutes", `,"sessionDurationInMinutes":286`},
		{"session of 2^16 + 30 minutes", "sessionDurationInMinutes", `,"sessionDurationInMinutes":65566`},
		{"session of 2^32 + 30 minutes", "sessionDurationInMinutes", `,"sessionDurationInMinutes":4294967326`},
	} {
		refuse(c.name, vectors.Mint{Claims: request(c.members), Fields: []string{c.field}})
	}
	refuse("two faults: field and clock", vectors.Mint{Claims: user(""), AnyRoom: true, Now: -1, Fields: []string{"userId"}})
	refuse("two faults: field and TTL", vectors.Mint{Claims: user(""), AnyRoom: true, TTL: 61, Fields: []string{"userId"}})
	refuse("two faults: clock and TTL", vectors.Mint{Claims: plain, Now: -1, TTL: 61, Error: "clock"})
	refuse("two fields", vectors.Mint{
		Claims: json.RawMessage(`{"roomIdentifier":"lobby","userId":"u","attributes":{"":"v"}}`), Fields: []string{"roomIdentifier", "attributes"},
	})
	refuse("all fields", vectors.Mint{
		Claims: json.RawMessage(`{"roomIdentifier":"","userId":"","capabilities":["ALL"],"attributes":{"":""},"sessionDurationInMinutes":0}`),
		Fields: []string{"roomIdentifier", "userId", "capabilities", "attributes", "sessionDurationInMinutes"},
	})
	return all
}

func makeKEKs() (all []vectors.KEK) {
	ones := bytes.Repeat([]byte{0xff}, 32)
	last := append(make([]byte, 31), 1)
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	add := func(name, text string, fromFile bool, kek []byte) {
		all = append(all, vectors.KEK{
			Name: name, Text: text, FromFile: fromFile,
			KEKID: "local-" + hex.EncodeToString(expand(kek, kekIDLabel, 8)), Key: expand(kek, kekLabel, 32),
		})
	}
	for _, c := range []struct {
		name string
		kek  []byte
	}{{"counting", counting}, {"ones", ones}, {"smallest", last}, {"random", random("kek", 32)}} {
		add(c.name, kekText(c.kek), false, c.kek)
	}
	good := kekText(counting)
	add("file without a line feed", good, true, counting)
	add("file with a line feed after", good+"\n", true, counting)
	for _, c := range []struct{ name, text string }{
		{"two line feeds after", good + "\n\n"},
		{"CR LF after", good + "\r\n"},
		{"space and line feed after", good + " \n"},
		{"line feed before", "\n" + good},
		{"line feed only", "\n"},
	} {
		all = append(all, vectors.KEK{Name: "file with " + c.name, Text: c.text, FromFile: true, Reason: "kek"})
	}
	for _, c := range []struct{ name, text string }{
		{"empty", ""},
		{"prefix only", "chattoken-kek1_"},
		{"without its prefix", spell(counting)},
		{"prefix in capitals", "CHATTOKEN-KEK1_" + spell(counting)},
		{"prefix of another version", "chattoken-kek2_" + spell(counting)},
		{"prefix of a token", "ct1_" + spell(counting)},
		{"31 bytes", kekText(counting[:31])},
		{"33 bytes", kekText(append(bytes.Clone(counting), 0))},
		{"one character less", good[:len(good)-1]},
		{"one character more", good + "A"},
		{"padded", good + "="},
		{"line feed after", good + "\n"},
		{"CR LF after", good + "\r\n"},
		{"CR after", good + "\r"},
		{"NUL after", good + "\x00"},
		{"space after", good + " "},
		{"tab after", good + "\t"},
		{"space before", " " + good},
		{"space within", good[:30] + " " + good[30:]},
		{"byte order mark before", "\ufeff" + good},
		{"the character +", "chattoken-kek1_+" + good[16:]},
		{"the character /", "chattoken-kek1_/" + good[16:]},
		{"a spare bit is set", good[:len(good)-1] + "9"},
		{"hexadecimal", "chattoken-kek1_" + hex.EncodeToString(counting)},
		{"all zero", kekText(make([]byte, 32))},
	} {
		all = append(all, vectors.KEK{Name: c.name, Text: c.text, Reason: "kek"})
	}
	return all
}

func makeAuthorizations() (all []vectors.Authorization) {
	const send, disconnect, remove = "SEND_MESSAGE", "DISCONNECT_USER", "DELETE_MESSAGE"
	const end = base + 30*minute
	// The two are SEND_MESSAGE and DELETE_MESSAGE.
	held := map[string]uint64{"": 0, "two": 5, "all": 7}
	for _, c := range []struct {
		name, held, reason string
		now                int64
		needs              []string
	}{
		{"one capability of two", "two", "", base, []string{remove}},
		{"both capabilities", "two", "", base, []string{send, remove}},
		{"a capability twice", "two", "", base, []string{send, send}},
		{"all capabilities", "all", "", base, []string{remove, disconnect, send}},
		{"a capability that it does not have", "two", "not-permitted", base, []string{disconnect}},
		{"one that it has, and one that it does not have", "two", "not-permitted", base, []string{send, disconnect}},
		{"a capability, of none", "", "not-permitted", base, []string{send}},
		{"none, of none", "", "not-permitted", base, []string{}},
		{"none, of all", "all", "not-permitted", base, []string{}},
		{"after the token's expiration", "two", "", base + 60, []string{send}},
		{"in the last second of the session", "two", "", end - 1, []string{send}},
		{"as the session ends", "two", "session-expired", end, []string{send}},
		{"long after the session", "two", "session-expired", end + day, []string{send}},
		{"two faults: session over, not permitted", "two", "session-expired", end, []string{disconnect}},
		{"before it was issued, by a clock that is set back", "two", "", base - hour, []string{send}},
	} {
		name := "authorization: " + c.name
		p := array(plainRoom, plainUser, uints(held[c.held]), noPairs, uints(base), uints(60), uints(30))
		all = append(all, vectors.Authorization{
			Name: c.name, Reason: c.reason, Secret: []byte(textSecret), Context: []byte{}, IssuedAt: base,
			Token: tokenOf(textSecret, "", random(name, 24), p), Now: c.now, Capabilities: c.needs,
		})
	}
	return all
}

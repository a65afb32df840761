package payload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/internal/text"
)

// ErrMalformed is the error of [Parse], whatever is wrong.
var ErrMalformed = errors.New("payload: not of version 1")

// Payload is a view of an encoded payload. It copies nothing, and is valid as
// long as those bytes are. The zero value has no claims. It is a small value; a
// copy is a view of the same bytes.
type Payload struct {
	raw              []byte
	room, user       span
	attributes       span // the encoded pairs, behind the map's head
	IssuedAt         int64
	TTL              uint64 // seconds, of any value: the opener checks it
	SessionMinutes   uint8
	Capabilities     claims.Capabilities
	attributeEntries uint16
}

// span is a range of Payload.raw. A payload with legal fields is shorter than
// 2^16 bytes.
type span struct{ from, to uint16 }

func (p *Payload) at(s span) []byte { return p.raw[s.from:s.to:s.to] }

// RoomIdentifier returns a view of the room identifier.
func (p *Payload) RoomIdentifier() []byte { return p.at(p.room) }

// UserID returns a view of the user ID.
func (p *Payload) UserID() []byte { return p.at(p.user) }

// Attributes yields views of keys and values, in the order of their encoding:
// shorter keys first, keys of one length in bytewise order.
func (p *Payload) Attributes() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := p.at(p.attributes)
		for len(rest) > 0 {
			var key, value []byte
			key, rest = nextText(rest)
			value, rest = nextText(rest)
			if !yield(key, value) {
				return
			}
		}
	}
}

// Attribute returns a view of one attribute's value, and whether it is there.
func (p *Payload) Attribute(key string) (value []byte, ok bool) {
	for k, v := range p.Attributes() {
		if string(k) == key {
			return v, true
		}
	}
	return nil, false
}

// Claims returns a copy of the claims. Attributes is nil if there are none.
func (p *Payload) Claims() claims.Claims {
	c := claims.Claims{
		RoomIdentifier: string(p.RoomIdentifier()),
		UserID:         string(p.UserID()),
		Capabilities:   p.Capabilities,
		SessionMinutes: int(p.SessionMinutes),
	}
	if p.attributeEntries > 0 {
		c.Attributes = make(map[string]string, p.attributeEntries)
		for key, value := range p.Attributes() {
			c.Attributes[string(key)] = string(value)
		}
	}
	return c
}

// MoveTo appends the payload's bytes to dst and makes p a view of that copy. It
// returns the extended slice.
func (p *Payload) MoveTo(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, p.raw...)
	p.raw = dst[n:len(dst):len(dst)]
	return dst
}

// nextText splits the first text string off b: a key or value of at most 1,024
// bytes, in a payload that parse has accepted.
func nextText(b []byte) (text, rest []byte) {
	from, n := 1, int(b[0]&^majorText)
	switch n {
	case 24:
		from, n = 2, int(b[1])
	case 25:
		from, n = 3, int(b[1])<<8|int(b[2])
	}
	return b[from : from+n : from+n], b[from+n:]
}

// Parse reads a payload. It accepts exactly what [Encoder.Append] writes for
// claims within the limits of package claims, but doesn't check the form of the
// room identifier, which is the issuer's policy. For anything else it returns
// [ErrMalformed] and the zero Payload. The result is a view of b. Parse never
// allocates, whatever lengths b announces.
func Parse(b []byte) (Payload, error) {
	p := Payload{raw: b}
	if len(b) >= 1<<16 || !p.parse() {
		return Payload{}, ErrMalformed
	}
	return p, nil
}

// parse fills in p from p.raw. Reads are sticky: after a failure nothing is
// left, so every later read fails too. Checking the last field is enough.
func (p *Payload) parse() bool {
	n, rest := cutHead(p.raw, majorArray)
	if n != items {
		return false
	}
	room, rest := cutText(rest, claims.MaxRoomIdentifierBytes)
	p.room = p.span(room, rest)
	user, rest := cutText(rest, claims.MaxUserIDRunes*utf8.UTFMax)
	p.user = p.span(user, rest)
	capabilities, rest := cutHead(rest, majorUint)
	if len(room) < 1 || len(user) < 1 || capabilities > math.MaxUint8 {
		return false
	}
	p.Capabilities = claims.Capabilities(capabilities)
	if !p.Capabilities.Valid() {
		return false
	}
	rest, ok := p.parseAttributes(rest)
	issuedAt, rest := cutHead(rest, majorUint)
	ttl, rest := cutHead(rest, majorUint)
	minutes, rest := cutHead(rest, majorUint)
	if !ok || issuedAt > limits.MaxUnix || minutes < claims.MinSessionMinutes || minutes > claims.MaxSessionMinutes {
		return false
	}
	p.IssuedAt, p.TTL, p.SessionMinutes = int64(issuedAt), ttl, uint8(minutes)
	return len(rest) == 0 && p.validTexts()
}

// validTexts reports whether all texts are valid UTF-8 and the user ID is not
// too long. Most texts are ASCII, and so are the heads between them. One look
// at all of them is faster than one at each.
func (p *Payload) validTexts() bool {
	user := p.UserID()
	if !text.IsASCII(p.raw[p.room.from:p.user.to]) && !(text.ValidBytes(p.RoomIdentifier()) && text.ValidBytes(user)) {
		return false
	}
	// A code point has at least one byte.
	return (len(user) <= claims.MaxUserIDRunes || runeCount(user) <= claims.MaxUserIDRunes) && p.validAttributes()
}

func (p *Payload) validAttributes() bool {
	if text.IsASCII(p.at(p.attributes)) {
		return true
	}
	for key, value := range p.Attributes() {
		if !text.ValidBytes(key) || !text.ValidBytes(value) {
			return false
		}
	}
	return true
}

// parseAttributes reads the map. It refuses an empty key, keys that are not
// strictly ascending in the order of their encoding, and too many bytes.
func (p *Payload) parseAttributes(b []byte) (rest []byte, ok bool) {
	entries, rest := cutHead(b, majorMap)
	// Each key has at least one byte, so this also bounds the loop.
	if entries > claims.MaxAttributeBytes {
		return nil, false
	}
	pairs, size := rest, 0
	var last []byte
	for range entries {
		var key, value []byte
		key, rest = cutText(rest, claims.MaxAttributeBytes)
		value, rest = cutText(rest, claims.MaxAttributeBytes)
		size += len(key) + len(value)
		if size > claims.MaxAttributeBytes || !encodedBefore(last, key) {
			return nil, false
		}
		last = key
	}
	p.attributes = p.span(pairs[:len(pairs)-len(rest)], rest)
	p.attributeEntries = uint16(entries)
	return rest, true
}

// span returns where b is in p.raw, if rest is all that follows b.
func (p *Payload) span(b, rest []byte) span {
	to := len(p.raw) - len(rest)
	return span{uint16(to - len(b)), uint16(to)}
}

// encodedBefore reports whether the encoding of a sorts before that of b. The
// empty string sorts before all others, so no key can be empty.
func encodedBefore(a, b []byte) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return bytes.Compare(a, b) < 0
}

// runeCount counts the code points of b, which is valid UTF-8: all bytes but
// continuation bytes. (utf8.RuneCount allocates for a long b if it is inlined.)
func runeCount(b []byte) int {
	n := 0
	for _, c := range b {
		if c&0xC0 != 0x80 {
			n++
		}
	}
	return n
}

// cutText splits a text string of at most limit bytes off b. It need not be
// valid UTF-8. If there is none, cutText leaves nothing.
func cutText(b []byte, limit uint64) (text, rest []byte) {
	n, size := uint64(0), 1
	if len(b) > 0 && b[0]-majorText < 24 {
		n = uint64(b[0] - majorText)
	} else {
		n, size = longHead(b, majorText)
	}
	if n > limit || n > uint64(len(b)-size) {
		return nil, nil
	}
	b = b[size:]
	return b[:n], b[n:]
}

// noHead is the argument of a missing head: more than any limit.
const noHead = math.MaxUint64

// cutHead splits a head of the major type off b and returns its argument. If
// there is none, cutHead leaves nothing.
func cutHead(b []byte, major byte) (n uint64, rest []byte) {
	// If the major type is another, the difference is at least 32.
	if len(b) > 0 && b[0]-major < 24 {
		return uint64(b[0] - major), b[1:]
	}
	n, size := longHead(b, major)
	return n, b[size:]
}

// longHead returns the argument and the size of a head whose argument follows
// in 1, 2, 4 or 8 bytes. It refuses an argument for which a shorter head
// exists, because that would be a second encoding.
func longHead(b []byte, major byte) (n uint64, size int) {
	var least uint64
	switch {
	case len(b) > 1 && b[0] == major|24:
		n, least, size = uint64(b[1]), 24, 2
	case len(b) > 2 && b[0] == major|25:
		n, least, size = uint64(binary.BigEndian.Uint16(b[1:])), 1<<8, 3
	case len(b) > 4 && b[0] == major|26:
		n, least, size = uint64(binary.BigEndian.Uint32(b[1:])), 1<<16, 5
	case len(b) > 8 && b[0] == major|27:
		n, least, size = binary.BigEndian.Uint64(b[1:]), 1<<32, 9
	}
	if n < least || size == 0 {
		return noHead, len(b)
	}
	return n, size
}

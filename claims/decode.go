package claims

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// ErrPayload is the error of [ParsePayload], whatever is wrong.
var ErrPayload = errors.New("claims: not a version 1 payload")

// Payload is a view of the bytes of a payload: it copies nothing out of them
// and is valid as long as they are. The zero value has no claims. It is a
// small value, but a copy lends the same bytes.
type Payload struct {
	raw              []byte
	room, user       span
	attributes       span // the encoded pairs, behind the map's head
	IssuedAt         int64
	TTL              uint64 // seconds; any value, the limits of a token are the opener's to check
	SessionMinutes   uint8
	Capabilities     Capabilities
	attributeEntries uint16
}

// span is a range of Payload.raw. A payload of legal fields is shorter than
// 2^16 bytes.
type span struct{ from, to uint16 }

func (p *Payload) at(s span) []byte { return p.raw[s.from:s.to:s.to] }

// RoomIdentifier lends the room identifier.
func (p *Payload) RoomIdentifier() []byte { return p.at(p.room) }

// UserID lends the user ID.
func (p *Payload) UserID() []byte { return p.at(p.user) }

// Attributes yields keys and values, lent, in the order of their encoding:
// shorter keys first, keys of one length in bytewise order.
func (p *Payload) Attributes() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := p.at(p.attributes)
		for len(rest) > 0 {
			var key, value []byte
			key, rest = cutText(rest)
			value, rest = cutText(rest)
			if !yield(key, value) {
				return
			}
		}
	}
}

// Attribute lends the value of one attribute and reports whether it is there.
func (p *Payload) Attribute(key string) (value []byte, ok bool) {
	for k, v := range p.Attributes() {
		if string(k) == key {
			return v, true
		}
	}
	return nil, false
}

// Claims copies everything out. Attributes is nil where there are none.
func (p *Payload) Claims() Claims {
	c := Claims{
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

// MoveTo copies the bytes that p is a view of to the end of dst, and makes p a
// view of the copy. It returns the extended slice.
func (p *Payload) MoveTo(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, p.raw...)
	p.raw = dst[n:len(dst):len(dst)]
	return dst
}

// cutText splits the first text string off b, which must come from a payload
// that has been parsed: a key or value of at most 1,024 bytes.
func cutText(b []byte) (text, rest []byte) {
	from, n := 1, int(b[0]&^majorText)
	switch n {
	case 24:
		from, n = 2, int(b[1])
	case 25:
		from, n = 3, int(b[1])<<8|int(b[2])
	}
	return b[from : from+n : from+n], b[from+n:]
}

// ParsePayload reads a payload of which every bit is as [Encoder.Append] would
// have written it, within the limits that this package documents; anything
// else is [ErrPayload] and the zero Payload. The grammar of room identifiers
// is the minter's policy and not checked. The result is a view of b. It costs
// no allocation, whatever b announces.
func ParsePayload(b []byte) (Payload, error) {
	r := reader{buf: b}
	p := Payload{raw: b}
	r.check(len(b) < 1<<16 && r.head(majorArray) == payloadItems)
	p.room = r.text(MaxRoomIdentifierBytes)
	p.user = r.text(MaxUserIDRunes * utf8.UTFMax)
	r.check(p.room.from < p.room.to && validUserID(p.UserID()))
	capabilities := r.head(majorUint)
	r.check(capabilities <= uint64(known))
	p.Capabilities = Capabilities(capabilities)
	p.attributes, p.attributeEntries = r.attributes()
	issuedAt := r.head(majorUint)
	r.check(issuedAt <= limits.MaxUnix)
	p.IssuedAt = int64(issuedAt)
	p.TTL = r.head(majorUint)
	minutes := r.head(majorUint)
	r.check(minutes >= MinSessionMinutes && minutes <= MaxSessionMinutes)
	p.SessionMinutes = uint8(minutes)
	if r.failed || r.pos != len(b) {
		return Payload{}, ErrPayload
	}
	return p, nil
}

// validUserID counts the code points of id, which is valid UTF-8: the bytes
// that continue none. (utf8.RuneCount allocates for long arguments where the
// compiler inlines it.)
func validUserID(id []byte) bool {
	n := 0
	for _, c := range id {
		if c&0xC0 != 0x80 {
			n++
		}
	}
	return n >= 1 && n <= MaxUserIDRunes
}

// reader consumes deterministic CBOR. After a failure it yields zeros.
type reader struct {
	buf    []byte
	pos    int
	failed bool
}

// check makes the reader fail where something is not as it must be.
func (r *reader) check(ok bool) {
	if !ok {
		r.failed = true
		r.pos = len(r.buf)
	}
}

// head reads a head of the major type and returns its argument.
func (r *reader) head(major byte) uint64 {
	if r.pos < len(r.buf) {
		// Of another major type the difference is at least 32.
		if n := r.buf[r.pos] - major; n < 24 {
			r.pos++
			return uint64(n)
		}
	}
	return r.longHead(major)
}

// longHead reads a head whose argument follows in 1, 2, 4 or 8 bytes. It
// refuses an argument that a shorter head could have carried: that would be a
// second encoding.
func (r *reader) longHead(major byte) uint64 {
	rest := r.buf[r.pos:]
	if len(rest) == 0 || rest[0]-major < 24 || rest[0]-major > 27 {
		r.check(false)
		return 0
	}
	size := 1 << (rest[0] - major - 24)
	if len(rest) < 1+size {
		r.check(false)
		return 0
	}
	var argument [8]byte
	copy(argument[8-size:], rest[1:1+size])
	n := binary.BigEndian.Uint64(argument[:])
	if n < leastArgument[size] {
		r.check(false)
		return 0
	}
	r.pos += 1 + size
	return n
}

// leastArgument[n] is the least argument that takes n bytes.
var leastArgument = [9]uint64{1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}

// text reads a text string of at most limit bytes of valid UTF-8.
func (r *reader) text(limit uint64) span {
	n := r.head(majorText)
	if n > limit || n > uint64(len(r.buf)-r.pos) {
		r.check(false)
		return span{}
	}
	from := r.pos
	r.pos += int(n)
	r.check(utf8.Valid(r.buf[from:r.pos]))
	return span{uint16(from), uint16(from + int(n))}
}

// attributes reads the map: keys not empty, in strictly ascending order of
// their encoding, all within the limit on bytes.
func (r *reader) attributes() (pairs span, entries uint16) {
	n := r.head(majorMap)
	// Each entry has a key of at least one byte, so this bounds the loop too.
	r.check(n <= MaxAttributeBytes)
	from, size := r.pos, 0
	var last []byte
	for range n {
		k, v := r.text(MaxAttributeBytes), r.text(MaxAttributeBytes)
		if r.failed {
			return span{}, 0
		}
		key := r.buf[k.from:k.to]
		size += len(key) + int(v.to-v.from)
		r.check(size <= MaxAttributeBytes && encodedBefore(last, key))
		last = key
	}
	return span{uint16(from), uint16(r.pos)}, uint16(n)
}

// encodedBefore reports whether the encoding of a sorts before that of b. The
// empty string sorts before all others, so an empty key is never after one.
func encodedBefore(a, b []byte) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return bytes.Compare(a, b) < 0
}

// Package payload encodes what a token says, with [Encoder.Append], and decodes
// it, with [Parse]. A payload is an array of seven in deterministic CBOR (RFC
// 8949, section 4.2.1):
//
//	[ room identifier tstr, user ID tstr, capabilities uint,
//	  attributes {* tstr => tstr}, issued-at uint (Unix seconds),
//	  token TTL uint (seconds), session duration uint (minutes) ]
//
// Every value has one encoding, and Parse refuses all others. SPEC.md has the
// details.
package payload

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// CBOR major types, in the top three bits of a head's first byte (RFC 8949,
// section 3.1).
const (
	majorUint  = 0 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
)

// items is the number of elements in the array.
const items = 7

var errTimes = errors.New("payload: issued-at or token TTL out of range")

// Encoder writes payloads. The zero value is ready. A reused Encoder doesn't
// allocate: it keeps the space in which it sorts attributes, but none of the
// claims. It is not safe for concurrent use. Don't copy it: the copies would
// share that space.
type Encoder struct {
	_      noCopy
	sorted []attribute
}

// noCopy makes go vet report copies of what contains it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

type attribute struct{ key, value string }

// Append validates c, with room as in [claims.Claims.Validate]. Then it appends
// the payload of a token issued at that Unix second and valid for ttl seconds.
// ttl must be positive; the caller checks it against the limits of a token. On
// an error Append returns dst unchanged.
//
// c is a copy, so that room cannot change what was validated.
func (e *Encoder) Append(dst []byte, c claims.Claims, room func(string) bool, issuedAt, ttl int64) ([]byte, error) {
	// Defer this first, because room may panic. What it left here would be
	// in the next payload, which is somebody else's.
	defer e.release()
	if err := e.sort(c, room); err != nil {
		return dst, err
	}
	if issuedAt < 0 || issuedAt > limits.MaxUnix || ttl <= 0 {
		return dst, errTimes
	}
	dst = append(dst, majorArray|items)
	dst = appendText(dst, c.RoomIdentifier)
	dst = appendText(dst, c.UserID)
	dst = appendHead(dst, majorUint, uint64(c.Capabilities))
	dst = appendHead(dst, majorMap, uint64(len(e.sorted)))
	for _, a := range e.sorted {
		dst = appendText(dst, a.key)
		dst = appendText(dst, a.value)
	}
	dst = appendHead(dst, majorUint, uint64(issuedAt))
	dst = appendHead(dst, majorUint, uint64(ttl))
	return appendHead(dst, majorUint, uint64(c.SessionDuration()/time.Minute)), nil
}

// sort validates c and sorts its attributes. It goes through the map once,
// because that costs as much as the rest of a small payload.
func (e *Encoder) sort(c claims.Claims, room func(string) bool) error {
	if len(c.Attributes) > claims.MaxAttributeBytes {
		return c.Validate(room) // an error; too many to sort
	}
	var sum limits.Attributes
	for key, value := range c.Attributes {
		sum.Add(key, value)
		e.sorted = append(e.sorted, attribute{key, value})
	}
	if sum.Legal() {
		c.Attributes = nil // Validate need not go through them again
	}
	if err := c.Validate(room); err != nil {
		return err
	}
	slices.SortFunc(e.sorted, byEncoding)
	return nil
}

// release drops the caller's strings, so that a pooled Encoder doesn't keep
// them alive.
func (e *Encoder) release() {
	clear(e.sorted)
	e.sorted = e.sorted[:0]
}

// byEncoding orders keys by the bytes of their encoding. That begins with the
// length, so shorter keys come first.
func byEncoding(a, b attribute) int {
	if c := cmp.Compare(len(a.key), len(b.key)); c != 0 {
		return c
	}
	return strings.Compare(a.key, b.key)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

// appendHead appends a head in its only deterministic form, the shortest.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return append(dst, major|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

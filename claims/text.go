package claims

import (
	"encoding/binary"
	"unicode/utf8"
)

// Most text is short and ASCII. To look at eight bytes at a time, the last
// eight once more, takes a third of the time that package unicode/utf8 needs
// for such, and the check would else be most of the cost of a payload.

const highBits = 0x8080808080808080

// validText reports whether b is valid UTF-8.
func validText(b []byte) bool { return isASCII(b) || utf8.Valid(b) }

// isASCII reports whether b has no byte above 127.
func isASCII(b []byte) bool {
	var x uint64
	if len(b) < 8 {
		for _, c := range b {
			x |= uint64(c)
		}
		return x < utf8.RuneSelf
	}
	x = binary.LittleEndian.Uint64(b[len(b)-8:])
	for ; len(b) > 32; b = b[32:] {
		x |= binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
			binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
	}
	for ; len(b) > 8; b = b[8:] {
		x |= binary.LittleEndian.Uint64(b)
	}
	return x&highBits == 0
}

// validString is validText for a string.
func validString(s string) bool {
	if len(s) < 8 {
		return utf8.ValidString(s)
	}
	x := load(s[len(s)-8:])
	for rest := s; len(rest) > 8; rest = rest[8:] {
		x |= load(rest)
	}
	return x&highBits == 0 || utf8.ValidString(s)
}

// load returns s[:8], in one load.
func load(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

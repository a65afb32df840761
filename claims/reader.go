package claims

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth limits how deep JSON is nested, and so the recursion of skip.
// encoding/json has the same limit.
const maxDepth = 10_000

// reader reads JSON (RFC 8259) that is valid UTF-8. It accepts what
// encoding/json accepts. It is faster because it knows what to expect, and
// needs no second pass to find the end of a value.
//
// A reader is sticky: after a failure nothing is left to read, and every loop
// over an array or object ends. So checking end is enough.
type reader struct {
	text    []byte
	at      int    // where the next token begins, or white space before it
	scratch []byte // the last string with an escape, decoded
	depth   int    // how many arrays and objects are open
	first   bool   // no element of the innermost one has been read
	failed  bool
}

func (r *reader) fail() { r.at, r.failed = len(r.text), true }

// end reports whether r has read everything, and it was JSON.
func (r *reader) end() bool {
	r.next()
	return r.at == len(r.text) && !r.failed
}

// next skips white space and returns the byte after it, which tells the kind of
// a value. At the end it returns 0, which begins no value.
func (r *reader) next() byte {
	for ; r.at < len(r.text); r.at++ {
		if c := r.text[r.at]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

// accept reads c if it is next.
func (r *reader) accept(c byte) bool {
	if r.next() != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) expect(c byte) {
	if !r.accept(c) {
		r.fail()
	}
}

// open and more read an array or an object:
//
//	for r.open('['); r.more(']'); {
//		r.skip() // reads an element; in an object, call name first
//	}
func (r *reader) open(bracket byte) {
	r.depth++
	if r.depth > maxDepth {
		r.fail()
	}
	r.expect(bracket)
	r.first = true
}

func (r *reader) more(bracket byte) bool {
	first := r.first
	r.first = false
	if r.accept(bracket) {
		r.depth--
		return false
	}
	if !first {
		r.expect(',')
	}
	return !r.failed
}

// name reads the name of a member and its colon.
func (r *reader) name() (s []byte, lone bool) {
	s, lone = r.string()
	r.expect(':')
	return s, lone
}

// skip reads one value of any kind.
func (r *reader) skip() {
	switch r.next() {
	case '{':
		for r.open('{'); r.more('}'); {
			r.name()
			r.skip()
		}
	case '[':
		for r.open('['); r.more(']'); {
			r.skip()
		}
	case '"':
		r.string()
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	case 'n':
		r.literal("null")
	default:
		r.number()
	}
}

// null reads null if it is next.
func (r *reader) null() bool {
	if r.next() != 'n' {
		return false
	}
	r.literal("null")
	return true
}

// raw reads one value and returns its text.
func (r *reader) raw() []byte {
	r.next()
	from := r.at
	r.skip()
	return r.text[from:r.at]
}

func (r *reader) literal(s string) {
	if end := r.at + len(s); end <= len(r.text) && string(r.text[r.at:end]) == s {
		r.at = end
	} else {
		r.fail()
	}
}

// number reads a number (RFC 8259, section 6).
func (r *reader) number() {
	one := func(of string) bool {
		if r.at == len(r.text) || strings.IndexByte(of, r.text[r.at]) < 0 {
			return false
		}
		r.at++
		return true
	}
	digits := func() bool {
		from := r.at
		for one("0123456789") {
		}
		return r.at > from
	}
	one("-")
	ok := one("0") || digits()
	if one(".") {
		ok = digits() && ok
	}
	if one("eE") {
		one("+-")
		ok = digits() && ok
	}
	if !ok {
		r.fail()
	}
}

// string reads and decodes a string. s is a view of the input, or of scratch if
// anything was escaped; it is valid until the next string. lone reports half of
// an escaped surrogate pair, which becomes U+FFFD.
func (r *reader) string() (s []byte, lone bool) {
	r.expect('"')
	for i, c := range r.text[r.at:] {
		switch {
		case c == '"':
			s = r.text[r.at : r.at+i]
			r.at += i + 1
			return s, false
		case c == '\\':
			r.scratch = append(r.scratch[:0], r.text[r.at:r.at+i]...)
			r.at += i
			return r.escaped()
		case c < ' ':
			r.fail()
			return nil, false
		}
	}
	r.fail()
	return nil, false
}

// escaped reads the rest of a string, from its first escape.
func (r *reader) escaped() (s []byte, lone bool) {
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch {
		case c == '"':
			return r.scratch, lone
		case c == '\\':
			lone = r.escape() || lone
		case c < ' ':
			r.fail()
		default:
			r.scratch = append(r.scratch, c)
		}
	}
	r.fail()
	return nil, false
}

// escape reads what follows a backslash. lone is as in string.
func (r *reader) escape() (lone bool) {
	const plain, means = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if r.at < len(r.text) {
		if i := strings.IndexByte(plain, r.text[r.at]); i >= 0 {
			r.scratch = append(r.scratch, means[i])
			r.at++
			return false
		}
	}
	u, ok := r.codeUnit("u")
	if !ok {
		r.fail()
		return false
	}
	if utf16.IsSurrogate(u) {
		behind := r.at
		low, _ := r.codeUnit(`\u`)
		if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
			r.at, lone = behind, true // low may begin another pair
		}
	}
	r.scratch = utf8.AppendRune(r.scratch, u)
	return lone
}

// codeUnit reads a prefix and four hexadecimal digits, or nothing.
func (r *reader) codeUnit(prefix string) (u rune, ok bool) {
	end := r.at + len(prefix) + 4
	if end > len(r.text) || string(r.text[r.at:end-4]) != prefix {
		return 0, false
	}
	for _, c := range r.text[end-4 : end] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	r.at = end
	return u, true
}

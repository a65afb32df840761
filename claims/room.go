package claims

// IsRoomARN reports whether s is the Amazon Resource Name of a chat room:
//
//	arn:aws:ivschat:<region>:<account>:room/<id>
//
//	region    [a-z0-9-]+
//	account   [0-9]+
//	id        [a-zA-Z0-9-]+
//
// This is the service model's pattern, anchored at both ends. It does not limit
// the length.
func IsRoomARN(s string) bool {
	const prefix = "arn:aws:ivschat:"
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return false
	}
	s, ok := skip(s[len(prefix):], lower|digit|dash, ":")
	if !ok {
		return false
	}
	if s, ok = skip(s, digit, ":room/"); !ok {
		return false
	}
	s, ok = skip(s, lower|upper|digit|dash, "")
	return ok && s == ""
}

type charClass uint8

const (
	lower charClass = 1 << iota
	upper
	digit
	dash
)

// classes maps a byte to its class, or to 0.
var classes = func() (t [256]charClass) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z':
			t[c] = lower
		case 'A' <= c && c <= 'Z':
			t[c] = upper
		case '0' <= c && c <= '9':
			t[c] = digit
		case c == '-':
			t[c] = dash
		}
	}
	return t
}()

// skip passes over at least one character of the class and over the separator,
// and returns the rest.
func skip(s string, class charClass, separator string) (rest string, ok bool) {
	n := 0
	for n < len(s) && classes[s[n]]&class != 0 {
		n++
	}
	s = s[n:]
	if n == 0 || len(s) < len(separator) || s[:len(separator)] != separator {
		return "", false
	}
	return s[len(separator):], true
}

package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// ErrJSON is the error of [ParseJSON] where the input is not one JSON object
// of valid UTF-8, so that no field of it could be judged.
var ErrJSON = errors.New("claims: malformed JSON")

// ParseJSON reads the JSON form of a CreateChatToken request and validates it,
// with room as in [Claims.Validate]. It refuses what encoding/json would let
// pass or quietly change: members spelt in another case, given twice or not
// known; invalid UTF-8 and lone surrogates, which would become U+FFFD and let
// two user IDs meet; a session duration of 0. As with the service, null stands
// for an absent member. Where tokens are minted with a grammar of their own,
// room must be the same. The caller limits the size of data: 64 KiB is enough
// for every valid request.
//
// The error is [ErrJSON] or a [*ValidationError] that lists every field.
func ParseJSON(data []byte, room func(string) bool) (Claims, error) {
	if !utf8.Valid(data) {
		return Claims{}, ErrJSON
	}
	var c Claims
	var v violations
	if err := c.parseMembers(data, &v); err != nil {
		return Claims{}, ErrJSON
	}
	// What could not be read was left zero: say what is wrong with it once.
	if err, ok := c.Validate(room).(*ValidationError); ok {
		for _, f := range err.Fields {
			if !v.has(f.Name) {
				v.add(f.Name, f.Message)
			}
		}
	}
	if err := v.err(); err != nil {
		return Claims{}, err
	}
	return c, nil
}

// parseMembers fills in what can be read and notes what is wrong with the
// rest. The error says that the whole is not a JSON object.
func (c *Claims) parseMembers(data []byte, v *violations) error {
	return eachMember(data, func(name string, repeated bool, value json.RawMessage) {
		message := c.parseMember(name, value)
		if message == notAMember {
			name = fieldUnknown
		} else if repeated {
			message = "given more than once"
		}
		if message != "" && !v.has(name) {
			v.add(name, message)
		}
	})
}

const notAMember = "not a member of this request; names are case-sensitive"

// parseMember reads one member and returns what is wrong with it, if anything.
func (c *Claims) parseMember(name string, value json.RawMessage) (message string) {
	absent := string(value) == "null"
	switch name {
	case fieldRoom:
		c.RoomIdentifier, message = parseString(value)
	case fieldUserID:
		c.UserID, message = parseString(value)
	case fieldCapabilities:
		c.Capabilities, message = parseCapabilities(value)
	case fieldAttributes:
		c.Attributes, message = parseAttributes(value)
	case fieldSession:
		c.SessionMinutes, message = parseMinutes(value)
	default:
		return notAMember
	}
	if absent {
		return ""
	}
	return message
}

// eachMember calls do for every member of the JSON object that data consists
// of, and tells it of names that occurred before.
func eachMember(data []byte, do func(name string, repeated bool, value json.RawMessage)) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return ErrJSON
	}
	seen := map[string]bool{}
	for dec.More() {
		start := dec.InputOffset()
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // the decoder lets no other key pass
		if hasLoneSurrogate(data[start:dec.InputOffset()]) {
			return ErrJSON
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		do(name, seen[name], value)
		seen[name] = true
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return ErrJSON
	}
	return nil
}

func parseString(value json.RawMessage) (s, message string) {
	if json.Unmarshal(value, &s) != nil || string(value) == "null" {
		return "", "not a string"
	}
	if hasLoneSurrogate(value) {
		return "", "not valid UTF-8: a lone surrogate"
	}
	return s, ""
}

func parseCapabilities(value json.RawMessage) (c Capabilities, message string) {
	var names []string
	if json.Unmarshal(value, &names) != nil {
		return 0, "not an array of strings"
	}
	if err := c.set(names); err != nil {
		return 0, "unknown name; allowed: " + allNames
	}
	return c, ""
}

func parseAttributes(value json.RawMessage) (m map[string]string, message string) {
	m = map[string]string{}
	err := eachMember(value, func(key string, repeated bool, value json.RawMessage) {
		s, wrong := parseString(value)
		switch {
		case wrong != "":
			message = "a value is " + wrong
		case repeated:
			message = "a key is given more than once"
		}
		m[key] = s
	})
	if err != nil {
		return nil, "not an object of strings"
	}
	if message != "" {
		return nil, message
	}
	return m, ""
}

func parseMinutes(value json.RawMessage) (n int, message string) {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return 0, "not a whole number of minutes"
	}
	// Claims has no zero but the absent one, so it is judged here.
	var v violations
	if v.sessionMinutes(n); len(v) > 0 {
		return 0, v[0].Message
	}
	return n, ""
}

// hasLoneSurrogate reports whether the text of a JSON string escapes half of a
// surrogate pair. encoding/json reads that as U+FFFD.
func hasLoneSurrogate(s []byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		switch high := surrogate(s[i:]); {
		case high == 0:
			i++ // the escaped character, which may be a backslash
		case high >= 0xDC00:
			return true
		default:
			if low := surrogate(s[i+6:]); low < 0xDC00 {
				return true
			}
			i += 11
		}
	}
	return false
}

// surrogate returns the surrogate that s begins with as an escape, or 0.
func surrogate(s []byte) uint64 {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	if err != nil || n < 0xD800 || n > 0xDFFF {
		return 0
	}
	return n
}

package claims

import (
	"errors"
	"slices"
	"strconv"

	"github.com/seed17cb2b26/chattoken/internal/text"
)

// ErrJSON is the error of [ParseJSON] if the input is not one JSON object of
// valid UTF-8.
var ErrJSON = errors.New("claims: malformed JSON")

// ParseJSON reads the JSON form of a CreateChatToken request and validates it.
// room is as in [Claims.Validate]: pass the same function as in token.Sealer.
// As with the service, null stands for an absent member.
//
// ParseJSON refuses what encoding/json accepts or quietly changes:
//
//   - a member in another case, given twice, or unknown
//   - invalid UTF-8 or a lone surrogate, which would become U+FFFD, so that
//     two user IDs could become one
//   - a session duration of 0
//
// The caller limits the size of data. 64 KiB are enough for every valid
// request. The error is [ErrJSON], or a [*ValidationError] that lists every
// wrong field.
func ParseJSON(data []byte, room func(string) bool) (Claims, error) {
	var c Claims
	var v violations
	r := reader{text: data}
	c.readMembers(&r, &v)
	if !r.end() || !text.ValidBytes(data) {
		return Claims{}, ErrJSON
	}
	// What could not be read is zero. Report each field only once.
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

// readMembers fills in what it can read and notes what is wrong with the rest.
func (c *Claims) readMembers(r *reader, v *violations) {
	var seen [len(fieldOrder)]bool
	for r.open('{'); r.more('}'); {
		name, lone := r.name()
		if lone {
			r.fail()
		}
		i := slices.Index(fieldOrder[:], string(name))
		if i < 0 {
			i = len(fieldOrder) - 1 // fieldUnknown
		}
		field := fieldOrder[i]
		message := c.readMember(r, field)
		if seen[i] {
			message = "given more than once"
		}
		seen[i] = true
		if message != "" && !v.has(field) {
			v.add(field, message)
		}
	}
}

// readMember reads the value of one member and returns what is wrong with it,
// or "".
func (c *Claims) readMember(r *reader, field string) (message string) {
	if field == fieldUnknown {
		r.skip()
		return "not a member of this request; names are case-sensitive"
	}
	if r.null() {
		return ""
	}
	switch field {
	case fieldRoom:
		c.RoomIdentifier, message = readText(r)
	case fieldUserID:
		c.UserID, message = readText(r)
	case fieldCapabilities:
		c.Capabilities, message = readCapabilities(r)
	case fieldAttributes:
		c.Attributes, message = readAttributes(r)
	case fieldSession:
		c.SessionMinutes, message = readMinutes(r)
	}
	return message
}

func readText(r *reader) (s, message string) {
	if r.next() != '"' {
		r.skip()
		return "", "not a string"
	}
	b, lone := r.string()
	if lone {
		return "", "not valid UTF-8: a lone surrogate"
	}
	return string(b), ""
}

func readCapabilities(r *reader) (c Capabilities, message string) {
	const wrongType = "not an array of strings"
	if r.next() != '[' {
		r.skip()
		return 0, wrongType
	}
	for r.open('['); r.more(']'); {
		if r.next() != '"' {
			r.skip()
			message = wrongType
			continue
		}
		name, _ := r.string()
		bit := capability(string(name))
		if bit == 0 && message == "" {
			message = "unknown name; allowed: " + allNames
		}
		c |= bit
	}
	return c, message
}

func readAttributes(r *reader) (m map[string]string, message string) {
	const wrongType = "not an object of strings"
	if r.next() != '{' {
		r.skip()
		return nil, wrongType
	}
	m = map[string]string{}
	for r.open('{'); r.more('}'); {
		name, lone := r.name()
		key := string(name)
		value, wrong := readText(r)
		n := len(m)
		m[key] = value
		switch {
		case lone:
			message = "a key is not valid UTF-8: a lone surrogate"
		case wrong != "":
			message = "a value is " + wrong
		case len(m) == n:
			message = "a key is given more than once"
		}
	}
	return m, message
}

func readMinutes(r *reader) (n int, message string) {
	n, err := strconv.Atoi(string(r.raw()))
	if err != nil {
		return 0, "not a whole number of minutes"
	}
	// In Claims zero means absent, so check here for a request of 0.
	var v violations
	if v.sessionMinutes(n); len(v) > 0 {
		return 0, v[0].Message
	}
	return n, ""
}

package shorthand

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// ErrObject is the error of [Override].
var ErrObject = errors.New("not one JSON object")

// Member is one member of a JSON object.
type Member struct {
	Name  string
	Value json.RawMessage // valid JSON
}

// Override returns object without the members that members names, followed by
// members. It copies the values as they are, so the reader of the result still
// sees, and may refuse, duplicates in object or text that is not UTF-8. The
// error is [ErrObject].
func Override(object []byte, members []Member) ([]byte, error) {
	all, err := parseObject(object)
	if err != nil {
		return nil, ErrObject
	}
	all = slices.DeleteFunc(all, func(m Member) bool {
		return slices.ContainsFunc(members, func(o Member) bool { return o.Name == m.Name })
	})
	return appendObject(nil, append(all, members...)), nil
}

func parseObject(object []byte) (members []Member, err error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, ErrObject
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var m Member
		m.Name, _ = t.(string) // the decoder lets no other key pass
		if err := dec.Decode(&m.Value); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, ErrObject
	}
	return members, nil
}

func appendObject(dst []byte, members []Member) []byte {
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, _ := json.Marshal(m.Name) // a string cannot fail
		dst = append(append(append(dst, name...), ':'), m.Value...)
	}
	return append(dst, '}')
}

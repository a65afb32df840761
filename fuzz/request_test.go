package fuzz_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/shorthand"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

var memberNames = []string{"roomIdentifier", "userId", "capabilities", "attributes", "sessionDurationInMinutes"}

// FuzzRequest reads any bytes as --cli-input-json, and lets a flag replace one
// member. The reference reads one member at a time with encoding/json. Both
// return the same claims, or name the same wrong members.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, user string) {
		original := bytes.Clone(data)
		c, err := claims.ParseJSON(data, nil)
		require.Equal(t, original, data, "the input was written to")
		want, bad, ok := readRequest(t, data)
		switch {
		case !ok:
			require.Equal(t, claims.ErrJSON, err)
		case len(bad) > 0:
			require.Equal(t, bad, refusedFields(t, err))
		default:
			require.NoError(t, err)
			require.Equal(t, want, withoutEmpty(c))
			requireSameAgain(t, c)
		}
		if err != nil {
			require.Zero(t, c)
		}
		requireOverride(t, data, c, err, user)
	})
}

// readRequest reads a request and returns the names of the wrong members, in
// the order of the request. ok is false unless data is one object of valid
// UTF-8 whose names are text.
func readRequest(t testing.TB, data []byte) (c claims.Claims, bad []string, ok bool) {
	t.Helper()
	if !utf8.Valid(data) || !json.Valid(data) {
		return c, nil, false
	}
	members, ok := readObject(t, data)
	if !ok {
		return c, nil, false
	}
	wrong := map[string]bool{}
	for name, values := range members {
		if !slices.Contains(memberNames, name) {
			wrong["(unknown)"] = true
		} else if len(values) > 1 || !readMember(t, &c, name, values[0]) {
			wrong[name] = true
		}
	}
	for _, name := range badFields(&c, false) {
		wrong[name] = true
	}
	for _, name := range append(memberNames, "(unknown)") {
		if wrong[name] {
			bad = append(bad, name)
		}
	}
	return withoutEmpty(c), bad, true
}

// readMember reads one member into c. null is absent.
func readMember(t testing.TB, c *claims.Claims, name string, value json.RawMessage) bool {
	t.Helper()
	switch {
	case string(value) == "null":
		return true
	case hasHalfPair(value):
		return false
	}
	switch name {
	case "roomIdentifier":
		return json.Unmarshal(value, &c.RoomIdentifier) == nil
	case "userId":
		return json.Unmarshal(value, &c.UserID) == nil
	case "capabilities":
		var names []string
		known := map[string]claims.Capabilities{"SEND_MESSAGE": 1, "DISCONNECT_USER": 2, "DELETE_MESSAGE": 4}
		ok := json.Unmarshal(value, &names) == nil
		for _, name := range names {
			ok = ok && known[name] != 0
			c.Capabilities |= known[name]
		}
		return ok
	case "attributes":
		return readAttributes(t, c, value)
	}
	minutes, err := strconv.Atoi(string(value))
	c.SessionMinutes = minutes
	return err == nil && minutes != 0
}

func readAttributes(t testing.TB, c *claims.Claims, value json.RawMessage) bool {
	t.Helper()
	entries, ok := readObject(t, value)
	c.Attributes = map[string]string{}
	for key, values := range entries {
		var text *string
		if len(values) > 1 || json.Unmarshal(values[0], &text) != nil || text == nil {
			return false
		}
		c.Attributes[key] = *text
	}
	return ok
}

// readObject returns the values of each name of an object. ok is false if data
// is something else, or if a name has half a surrogate pair.
func readObject(t testing.TB, data []byte) (members map[string][]json.RawMessage, ok bool) {
	t.Helper()
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	_, err := d.Token()
	require.NoError(t, err)
	members, ok = map[string][]json.RawMessage{}, true
	for d.More() {
		start := d.InputOffset()
		name, err := d.Token()
		require.NoError(t, err)
		ok = ok && !hasHalfPair(data[start:d.InputOffset()])
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		members[name.(string)] = append(members[name.(string)], value)
	}
	return members, ok
}

// escapes matches a surrogate pair, half of one, or another escape.
var escapes = regexp.MustCompile(`\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..|\\.`)

// hasHalfPair reports whether valid JSON escapes half of a surrogate pair,
// which encoding/json reads as U+FFFD.
func hasHalfPair(valid []byte) bool {
	return slices.ContainsFunc(escapes.FindAll(valid, -1), func(escape []byte) bool { return len(escape) == 6 })
}

func withoutEmpty(c claims.Claims) claims.Claims {
	if len(c.Attributes) == 0 {
		c.Attributes = nil
	}
	return c
}

// requireSameAgain checks that the JSON form of c reads as c.
func requireSameAgain(t testing.TB, c claims.Claims) {
	t.Helper()
	again, err := json.Marshal(c)
	require.NoError(t, err)
	same, err := claims.ParseJSON(again, nil)
	require.NoError(t, err)
	require.Equal(t, withoutEmpty(c), withoutEmpty(same))
}

// requireOverride checks that an override changes one member, and no other
// answer.
func requireOverride(t testing.TB, data []byte, c claims.Claims, parseErr error, user string) {
	t.Helper()
	same, err := shorthand.Override(data, nil)
	if err != nil {
		require.Equal(t, shorthand.ErrObject, err)
		require.Error(t, parseErr)
		return
	}
	unchanged, err := claims.ParseJSON(same, nil)
	require.Equal(t, parseErr == nil, err == nil)
	require.Equal(t, c, unchanged)

	value, err := json.Marshal(user)
	require.NoError(t, err)
	overridden, err := shorthand.Override(data, []shorthand.Member{{Name: "userId", Value: value}})
	require.NoError(t, err)
	got, err := claims.ParseJSON(overridden, nil)
	if parseErr != nil {
		return // the user ID may have been what was wrong
	}
	c.UserID = strings.ToValidUTF8(user, "\ufffd")
	if n := utf8.RuneCountInString(user); n >= 1 && n <= 128 && utf8.ValidString(user) {
		require.NoError(t, err)
		require.Equal(t, c, got)
	} else if n < 1 || n > 128 {
		require.Equal(t, []string{"userId"}, refusedFields(t, err))
	}
}

func requestSeeds(t testing.TB) []seed {
	base := `{"roomIdentifier":"` + tokentest.Room + `","userId":"11231234"`
	whole := base + `,"capabilities":["SEND_MESSAGE"],"attributes":{"displayName":"DemoUser"},"sessionDurationInMinutes":30}`
	with := func(s string) []any { return args([]byte(s), "someone else") }
	return []seed{
		{"example", with(whole)},
		{"least", with(base + "}")},
		{"spaces", with(" " + strings.ReplaceAll(whole, ":", "\t:\r\n ") + "\n")},
		{"nulls", with(base + `,"capabilities":null,"attributes":null,"sessionDurationInMinutes":null}`)},
		{"other-case", with(`{"RoomIdentifier":"x","userid":"u"}`)},
		{"unknown", with(base + `,"roomIdentifer":1}`)},
		{"twice", with(base + `,"userId":"another"}`)},
		{"twice-escaped", with(base + `,"user\u0049d":"another"}`)},
		{"attribute-twice", with(base + `,"attributes":{"a":"1","\u0061":"2"}}`)},
		{"attribute-number", with(base + `,"attributes":{"a":1}}`)},
		{"session-0", with(base + `,"sessionDurationInMinutes":0}`)},
		{"session-float", with(base + `,"sessionDurationInMinutes":3e1}`)},
		{"session-text", with(base + `,"sessionDurationInMinutes":"30"}`)},
		{"capability-unknown", with(base + `,"capabilities":["send_message"]}`)},
		{"capability-text", with(base + `,"capabilities":"SEND_MESSAGE"}`)},
		{"surrogate-pair", with(base + `,"attributes":{"\ud83d\ude00":"\\ud800"}}`)},
		{"lone-surrogate", with(base + `,"attributes":{"a":"\ud83d"}}`)},
		{"lone-surrogate-name", with(`{"\udc00":1}`)},
		{"lone-surrogate-key", with(base + `,"attributes":{"\ud83d":"a"}}`)},
		{"everything-wrong", with(`{"userId":"u","userId":"u","capabilities":["SEND_MESSAGE",null],"attributes":{"":"x"},"sessionDurationInMinutes":181,"x":1,"y":2}`)},
		{"other-order", with(` { "sessionDurationInMinutes" : 180, "attributes":{"b":"2","a":"1"}, "userId":"\u0075", "roomIdentifier":"` + tokentest.Room + `" } `)},
		{"session-minus-0", with(base + `,"sessionDurationInMinutes":-0}`)},
		{"not-utf8", with("{\"userId\":\"\xff\"}")},
		{"two-objects", with("{}{}")},
		{"array", with("[]")},
		{"number-beyond-float64", with(strings.Repeat("2", 400))},
		{"cut", with(whole[:len(whole)-1])},
		{"comma", with(`{"userId":"u",}`)},
		{"nested", with(`{"userId":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}")},
		{"override-empty", args([]byte(whole), "")},
		{"override-long", args([]byte(whole), strings.Repeat("é", 129))},
		{"override-not-utf8", args([]byte(whole), "\xff")},
	}
}

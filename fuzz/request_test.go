package fuzz_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/shorthand"
)

// request is a CreateChatToken request as encoding/json sees it.
type request struct {
	RoomIdentifier string            `json:"roomIdentifier"`
	UserID         string            `json:"userId"`
	Capabilities   []string          `json:"capabilities,omitempty"`
	Attributes     map[string]string `json:"attributes,omitempty"`
	SessionMinutes int               `json:"sessionDurationInMinutes,omitempty"`
}

var memberNames = []string{"roomIdentifier", "userId", "capabilities", "attributes", "sessionDurationInMinutes"}

// FuzzRequest reads any bytes as --cli-input-json, and puts a flag in place of
// one member. What is accepted means to encoding/json what it does to us; what
// encoding/json would have written is accepted if it is within the limits; and
// what is no object of valid UTF-8 is refused as such.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, user string) {
		original := bytes.Clone(data)
		c, err := claims.ParseJSON(data, nil)
		require.Equal(t, original, data, "the input was written to")
		object := utf8.Valid(data) && json.Valid(data) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
		switch {
		case err == nil:
			require.True(t, object)
			requireMeaning(t, data, c)
		case errors.Is(err, claims.ErrJSON):
			require.True(t, !object || bytes.Contains(data, []byte(`\u`)), "a lone surrogate needs an escape")
		default:
			require.True(t, object)
			requireKnownFields(t, err)
		}
		if err != nil {
			require.Zero(t, c)
			require.False(t, canonical(data), "refused: %v", err)
		}
		requireOverride(t, data, c, err, user)
	})
}

// requireMeaning checks what was accepted.
func requireMeaning(t testing.TB, data []byte, c claims.Claims) {
	t.Helper()
	require.Empty(t, badFields(&c, false))
	requireUniqueNames(t, json.NewDecoder(bytes.NewReader(data)))
	var r request
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&r))
	// encoding/json lets names in another case pass.
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(data, &members))
	require.Subset(t, memberNames, slices.Collect(maps.Keys(members)))
	capabilities, err := claims.ParseCapabilities(r.Capabilities...)
	require.NoError(t, err)
	require.Equal(t, r.RoomIdentifier, c.RoomIdentifier)
	require.Equal(t, r.UserID, c.UserID)
	require.Equal(t, capabilities, c.Capabilities)
	require.Equal(t, len(r.Attributes), len(c.Attributes))
	for k, v := range r.Attributes {
		require.Equal(t, v, c.Attributes[k])
	}
	require.Equal(t, r.SessionMinutes, c.SessionMinutes)

	requireNothingReplaced(t, data, r)

	again, err := json.Marshal(c)
	require.NoError(t, err)
	same, err := claims.ParseJSON(again, nil)
	require.NoError(t, err)
	if len(c.Attributes) == 0 {
		c.Attributes, same.Attributes = nil, nil
	}
	require.Equal(t, c, same)
}

// requireNothingReplaced checks that each U+FFFD in r was written as one, and
// does not stand for half a surrogate pair.
func requireNothingReplaced(t testing.TB, data []byte, r request) {
	t.Helper()
	const replacement = "\ufffd"
	read := strings.Count(r.RoomIdentifier+r.UserID, replacement)
	for k, v := range r.Attributes {
		read += strings.Count(k+v, replacement)
	}
	written := strings.Count(string(data), replacement) + strings.Count(strings.ToLower(string(data)), `\ufffd`)
	require.LessOrEqual(t, read, written, "a lone surrogate was accepted")
}

// requireUniqueNames reads one value, in which no object has a name twice.
func requireUniqueNames(t testing.TB, d *json.Decoder) {
	t.Helper()
	opening, err := d.Token()
	require.NoError(t, err)
	if _, ok := opening.(json.Delim); !ok {
		return
	}
	seen := map[json.Token]bool{}
	for d.More() {
		if opening == json.Delim('{') {
			name, err := d.Token()
			require.NoError(t, err)
			require.False(t, seen[name], "%v is given twice", name)
			seen[name] = true
		}
		requireUniqueNames(t, d)
	}
	_, err = d.Token() // the closing delimiter
	require.NoError(t, err)
}

// canonical reports whether data is a request within the limits, as
// encoding/json writes it.
func canonical(data []byte) bool {
	var r request
	if json.Unmarshal(data, &r) != nil {
		return false
	}
	again, err := json.Marshal(r)
	if err != nil || !bytes.Equal(again, data) {
		return false
	}
	// U+FFFD may have come from what is not UTF-8, but then again is longer.
	c := claims.Claims{RoomIdentifier: r.RoomIdentifier, UserID: r.UserID, Attributes: r.Attributes, SessionMinutes: r.SessionMinutes}
	for _, name := range r.Capabilities {
		if !strings.Contains(" SEND_MESSAGE DISCONNECT_USER DELETE_MESSAGE ", " "+name+" ") {
			return false
		}
	}
	return len(badFields(&c, false)) == 0
}

func requireKnownFields(t testing.TB, err error) {
	t.Helper()
	for _, name := range refusedFields(t, err) {
		require.Contains(t, append(memberNames, "(unknown)"), name)
	}
}

// requireOverride checks that an override changes one member and no verdict.
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
		return // it may have been the user ID that was wrong
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
	base := `{"roomIdentifier":"` + room + `","userId":"11231234"`
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
		{"not-utf8", with("{\"userId\":\"\xff\"}")},
		{"two-objects", with("{}{}")},
		{"array", with("[]")},
		{"cut", with(whole[:len(whole)-1])},
		{"comma", with(`{"userId":"u",}`)},
		{"nested", with(`{"userId":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}")},
		{"override-empty", args([]byte(whole), "")},
		{"override-long", args([]byte(whole), strings.Repeat("é", 129))},
		{"override-not-utf8", args([]byte(whole), "\xff")},
	}
}

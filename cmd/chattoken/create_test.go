package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// member returns a member of a JSON object that is a string.
func member(t *testing.T, object, name string) string {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(object), &m))
	require.IsType(t, "", m[name])
	return m[name].(string)
}

// TestCreate compares all that the first command of a user shows.
func TestCreate(t *testing.T) {
	seed(t)
	f := newFake(t)
	status, stdout, stderr := f.create("--capabilities", "SEND_MESSAGE",
		"--attributes", "displayName=DemoUser", "--session-duration-in-minutes", "30")
	assert.Equal(t, exitOK, status)
	golden(t, "create.json", stdout)
	golden(t, "create.stderr", strings.ReplaceAll(stderr, f.dir+string(filepath.Separator), "CONFIG/"))

	status, stdout, stderr = f.run("open", member(t, stdout, "token"))
	assert.Equal(t, exitOK, status)
	golden(t, "open.json", stdout)
	golden(t, "open.stderr", stderr)
}

// TestRequest compares the request that flags state.
func TestRequest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "request.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"userId":"from a file"}`), 0o600))
	tests := []struct {
		name  string
		args  []string
		stdin string
		want  string
	}{
		{"nothing", nil, "", `{}`},
		{"text", []string{"--user-id", `a"b`, "--room-identifier=r"}, "", `{"roomIdentifier":"r","userId":"a\"b"}`},
		{"capabilities", []string{"--capabilities", "A", "B"}, "", `{"capabilities":["A","B"]}`},
		{"no capabilities", []string{"--capabilities"}, "", `{"capabilities":[]}`},
		{"capabilities in JSON", []string{"--capabilities", `["A", "B"]`}, "", `{"capabilities":["A","B"]}`},
		{"shorthand", []string{"--attributes", "k=v,k2='v, w'"}, "", `{"attributes":{"k":"v","k2":"v, w"}}`},
		{"attributes in JSON", []string{"--attributes", `{"k": "v"}`}, "", `{"attributes":{"k":"v"}}`},
		{"duration", []string{"--session-duration-in-minutes", "30"}, "", `{"sessionDurationInMinutes":30}`},
		{"duration of 0", []string{"--session-duration-in-minutes=0"}, "", `{"sessionDurationInMinutes":0}`},
		{"duration below 0", []string{"--session-duration-in-minutes", "-5"}, "", `{"sessionDurationInMinutes":-5}`},
		{"duration that is no number", []string{"--session-duration-in-minutes", "null"}, "", `{"sessionDurationInMinutes":"null"}`},
		{"JSON", []string{"--cli-input-json", `{"userId":"a"}`}, "", `{"userId":"a"}`},
		{"JSON in a file", []string{"--cli-input-json", "file://" + file}, "", `{"userId":"from a file"}`},
		{"JSON on standard input", []string{"--cli-input-json", "-"}, `{"userId":"a"}`, `{"userId":"a"}`},
		{"flags replace members", []string{"--cli-input-json", `{"userId":"a","roomIdentifier":"r"}`, "--user-id", "b"}, "",
			`{"roomIdentifier":"r","userId":"b"}`},
		{"maps are replaced as a whole", []string{"--cli-input-json", `{"attributes":{"a":"1","b":"2"}}`, "--attributes", "a=3"}, "",
			`{"attributes":{"a":"3"}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, err := parseArguments(test.args, createFlags())
			require.NoError(t, err)
			f := newFake(t)
			f.stdin = strings.NewReader(test.stdin)
			got, err := f.request(a)
			require.NoError(t, err)
			assert.JSONEq(t, test.want, string(got))
		})
	}
}

func TestCreateErrors(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		stdin string
		want  string
	}{
		{"every field", []string{"--capabilities", "KICK", "--session-duration-in-minutes", "0", "--user-id", "", "--attributes", `{"":"x"}`}, "",
			"chattoken: the request is outside the limits:\n" +
				"  roomIdentifier: required; 1–128 bytes allowed\n" +
				"  userId: required; 1–128 code points allowed\n" +
				"  capabilities: unknown name; allowed: SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE\n" +
				"  attributes: an empty key is not allowed\n" +
				"  sessionDurationInMinutes: out of range; 1–180 minutes allowed\n"},
		{"duration that is no number", []string{"--session-duration-in-minutes", "null"}, "", "  sessionDurationInMinutes: not a whole number of minutes\n"},
		{"number for a value", []string{"--attributes", `{"a":1}`}, "", "  attributes: a value is not a string\n"},
		{"member twice", []string{"--cli-input-json", `{"userId":"a","userId":"b"}`}, "", "  userId: given more than once\n"},
		{"unknown member", []string{"--cli-input-json", `{"userid":"a"}`}, "", "  (unknown): not a member of this request; names are case-sensitive\n"},
		{"shorthand", []string{"--attributes", "a=b,c"}, "", "--attributes: expected = after a key"},
		{"more than one value in JSON", []string{"--attributes", `{"a":"b"},"userId":"x"`}, "", "--attributes: malformed JSON"},
		{"capabilities cut off", []string{"--capabilities", `["SEND_MESSAGE"`}, "", "--capabilities: malformed JSON"},
		{"text that is not UTF-8", []string{"--user-id", "a\xff"}, "", "--user-id: not valid UTF-8"},
		{"JSON that is not UTF-8", []string{"--attributes", "{\"a\":\"\xff\"}"}, "", "--attributes: not valid UTF-8"},
		{"input that is not UTF-8", []string{"--cli-input-json", "{\"userId\":\"\xff\"}"}, "", "--cli-input-json: not one JSON object of valid UTF-8"},
		{"input that is no object", []string{"--cli-input-json", "[]"}, "", "--cli-input-json: not one JSON object"},
		{"input that is missing", []string{"--cli-input-json", "file:///does/not/exist"}, "", "--cli-input-json: open /does/not/exist"},
		{"input that is too long", []string{"--cli-input-json", "-"}, strings.Repeat(" ", maxRequest+1), "--cli-input-json: longer than any valid input"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.stdin = strings.NewReader(test.stdin)
			status, stdout, stderr := f.run(append([]string{"create-chat-token"}, test.args...)...)
			assert.Equal(t, exitTrouble, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.want)
			assert.NoDirExists(t, f.dir, "a keyring was made for nothing")
		})
	}
}

// TestLongestRequest checks that the bound on the input lets through the
// longest request, spelt as long as it can be.
func TestLongestRequest(t *testing.T) {
	long := func(n int) string { return strings.Repeat(`\u00e4`, n) }
	request := `{"roomIdentifier":"` + tokentest.Room + strings.Repeat("x", 128-len(tokentest.Room)) +
		`","userId":"` + strings.Repeat(`\ud83d\ude00`, 128) +
		`","attributes":{"` + long(256) + `":"` + long(256) + `"}}`
	f := newFake(t)
	f.stdin = iotest.OneByteReader(strings.NewReader(request))
	status, _, stderr := f.run("create-chat-token", "--cli-input-json", "-")
	assert.Equal(t, exitOK, status, stderr)
}

// attributes returns that member of what open prints.
func attributes(t *testing.T, object string) string {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(object), &m))
	return string(m["attributes"])
}

// Rooms that are not Amazon's are for whoever asks for them.
func TestAnyRoom(t *testing.T) {
	f := newFake(t)
	create := func(room string, args ...string) int {
		status, stdout, _ := f.run(append([]string{"create-chat-token", "--room-identifier", room, "--user-id", "11231234"}, args...)...)
		if status == exitOK {
			_, opened, _ := f.run("open", member(t, stdout, "token"))
			assert.Equal(t, room, member(t, opened, "roomIdentifier"))
		}
		return status
	}
	assert.Equal(t, exitTrouble, create("lobby"))
	assert.Equal(t, exitOK, create("lobby", "--any-room"))
	assert.Equal(t, exitOK, create(tokentest.Room, "--any-room"))
	assert.Equal(t, exitOK, create(strings.Repeat("é", 64), "--any-room"))
	for _, bad := range []string{"", strings.Repeat("a", 129), "\xff"} {
		assert.Equal(t, exitTrouble, create(bad, "--any-room"), "%q", bad)
	}
}

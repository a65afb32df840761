package claims_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func TestParseJSON(t *testing.T) {
	example := tokentest.Claims()
	text, err := json.Marshal(example)
	require.NoError(t, err)
	tests := []struct {
		name, text string
		want       claims.Claims
	}{
		{"marshalled", string(text), example},
		{"minimal", `{"roomIdentifier":"` + tokentest.Room + `","userId":"u"}`, claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"}},
		{"null is absent", `{"roomIdentifier":"` + tokentest.Room + `","userId":"u","capabilities":null,"attributes":null,"sessionDurationInMinutes":null}`,
			claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"}},
		{"white space and empty containers", " {\n\"roomIdentifier\" : \"" + tokentest.Room + "\",\t\"userId\":\"u\",\"capabilities\":[],\"attributes\":{}} \n",
			claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u", Attributes: map[string]string{}}},
		{"escapes", `{"roomIdentifier":"` + tokentest.Room + `","userId":"\u00e9\ud83d\ude00\\ud800\ufffd\n","capabilities":["DELETE_MESSAGE","DELETE_MESSAGE"]}`,
			claims.Claims{RoomIdentifier: tokentest.Room, UserID: "é😀\\ud800\ufffd\n", Capabilities: claims.DeleteMessage}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := claims.ParseJSON([]byte(test.text), nil)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

// TestParseJSONSurrogates tries the first and last surrogate of both halves,
// and their neighbors, in every order.
func TestParseJSONSurrogates(t *testing.T) {
	units := []rune{0x41, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000}
	high := func(u rune) bool { return u >= 0xD800 && u < 0xDC00 }
	low := func(u rune) bool { return u >= 0xDC00 && u < 0xE000 }
	for _, a := range units {
		for _, b := range units {
			text := fmt.Sprintf(`{"roomIdentifier":"%s","userId":"\u%04x\u%04X"}`, tokentest.Room, a, b)
			c, err := claims.ParseJSON([]byte(text), nil)
			if high(a) != low(b) || low(a) || high(b) {
				assert.ErrorContains(t, err, "surrogate", text)
				continue
			}
			require.NoError(t, err, text)
			assert.Equal(t, string(utf16.Decode([]uint16{uint16(a), uint16(b)})), c.UserID, text)
		}
	}
}

func TestParseJSONMalformed(t *testing.T) {
	for _, text := range []string{"", "null", "[]", `"x"`, "{", "{}x", "{} {}", `{"userId"}`, `{"userId":}`, `{"userId":"a",}`, `{userId:"a"}`,
		"\xff", `{"userId":"` + "\xff" + `"}`, `{"\ud800":1}`, "\ufeff{}", `{"userId":"a"`, strings.Repeat("[", 20000)} {
		got, err := claims.ParseJSON([]byte(text), nil)
		assert.ErrorIs(t, err, claims.ErrJSON, "%.40q", text)
		assert.Zero(t, got)
	}
}

// TestParseJSONGrammar tries all short sequences of tokens and of characters,
// as one value and as the rest of the object. ParseJSON returns ErrJSON exactly
// for what encoding/json finds invalid.
func TestParseJSONGrammar(t *testing.T) {
	for name, alphabet := range map[string][]string{
		"structure": {"{", "}", "[", "]", ",", ":", `"a"`, "1", "null", " ", "\x00"},
		"numbers":   {"0", "1", "-", "+", ".", "e", "E", " ", "]"},
		"strings":   {`"`, `\`, "u", "n", "/", "0", "d", "C", "F", "\x1f", "\u00e9"},
		"literals":  {"t", "r", "true", "false", "null", "f", "\r", "\n", "\t", "\v"},
	} {
		t.Run(name, func(t *testing.T) {
			valid := 0
			eachSequence(alphabet, 5, func(value string) {
				for _, text := range []string{`{"x":` + value + `}`, `{"x":["` + value + `","\\u` + value + `"]}`, `{"x":1` + value, value + `{}`} {
					_, err := claims.ParseJSON([]byte(text), nil)
					want := json.Valid([]byte(text)) && strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{")
					if want == (err == claims.ErrJSON) {
						t.Fatalf("%q: valid: %v, but %v", text, want, err)
					}
					if want {
						valid++
					}
				}
			})
			require.Greater(t, valid, 1000)
		})
	}
}

// eachSequence calls do with all sequences of up to n elements.
func eachSequence(alphabet []string, n int, do func(string)) {
	var extend func(string, int)
	extend = func(s string, n int) {
		do(s)
		if n > 0 {
			for _, a := range alphabet {
				extend(s+a, n-1)
			}
		}
	}
	extend("", n)
}

func TestParseJSONNesting(t *testing.T) {
	const most = 10_000 // including the outer object
	for depth, ok := range map[int]bool{most: true, most + 1: false} {
		for _, text := range []string{
			`{"x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}",
			strings.Repeat(`{"x":`, depth) + "1" + strings.Repeat("}", depth),
			// What was closed does not count.
			`{"x":[[[]],{"a":{}},` + strings.Repeat("[", depth-2) + strings.Repeat("]", depth-2) + "]}",
		} {
			_, err := claims.ParseJSON([]byte(text), nil)
			assert.Equal(t, ok, json.Valid([]byte(text)))
			assert.Equal(t, ok, err != claims.ErrJSON, "%d", depth)
		}
	}
}

func TestParseJSONAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	text, err := json.Marshal(tokentest.Claims())
	require.NoError(t, err)
	allocs := testing.AllocsPerRun(100, func() { _, err = claims.ParseJSON(text, nil) })
	require.NoError(t, err)
	assert.LessOrEqual(t, allocs, 6.0, "a room, a user, a map of two parts, a key and a value")
}

func TestParseJSONViolations(t *testing.T) {
	tests := []struct {
		name, member string // member is put into a valid request
		field, says  string
	}{
		{"number as user", `"userId":7`, "userId", "not a string"},
		{"user twice", `"userId":"a","userId":"b"`, "userId", "more than once"},
		{"user twice, the same", `"userId":"a","userId":"a"`, "userId", "more than once"},
		{"user twice by escape", `"userId":"a","user\u0049d":"b"`, "userId", "more than once"},
		{"session twice", `"sessionDurationInMinutes":1,"sessionDurationInMinutes":180`, "sessionDurationInMinutes", "more than once"},
		{"capabilities twice", `"capabilities":[],"capabilities":["SEND_MESSAGE"]`, "capabilities", "more than once"},
		{"attributes twice", `"attributes":null,"attributes":{"k":"v"}`, "attributes", "more than once"},
		{"lone surrogate", `"userId":"a\ud800b"`, "userId", "surrogate"},
		{"lone low surrogate", `"userId":"a\uDC00"`, "userId", "surrogate"},
		{"two high surrogates", `"userId":"\ud83d\ud83d\ude00"`, "userId", "surrogate"},
		{"room as list", `"roomIdentifier":[]`, "roomIdentifier", "not a string"},
		{"unknown capability", `"capabilities":["KICK"]`, "capabilities", "SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE"},
		{"unknown capability before a known one", `"capabilities":["KICK","SEND_MESSAGE"]`, "capabilities", "unknown name"},
		{"null as capability", `"capabilities":["SEND_MESSAGE",null]`, "capabilities", "array of strings"},
		{"capabilities as string", `"capabilities":"SEND_MESSAGE"`, "capabilities", "array"},
		{"session 0", `"sessionDurationInMinutes":0`, "sessionDurationInMinutes", "out of range; 1–180 minutes allowed"},
		{"session -0", `"sessionDurationInMinutes":-0`, "sessionDurationInMinutes", "0 minutes"},
		{"session 181", `"sessionDurationInMinutes":181`, "sessionDurationInMinutes", "out of range; 1–180 minutes allowed"},
		{"session fraction", `"sessionDurationInMinutes":1.5`, "sessionDurationInMinutes", "whole"},
		{"session exponent", `"sessionDurationInMinutes":1e1`, "sessionDurationInMinutes", "whole"},
		{"session string", `"sessionDurationInMinutes":"60"`, "sessionDurationInMinutes", "whole"},
		{"session huge", `"sessionDurationInMinutes":99999999999999999999`, "sessionDurationInMinutes", "whole"},
		{"attribute number", `"attributes":{"k":1}`, "attributes", "not a string"},
		{"attribute null", `"attributes":{"k":null}`, "attributes", "not a string"},
		{"attribute repeated", `"attributes":{"k":"a","k":"b"}`, "attributes", "more than once"},
		{"attribute repeated by escape", `"attributes":{"k":"a","\u006b":"b"}`, "attributes", "more than once"},
		{"attribute surrogate", `"attributes":{"k":"\ud800"}`, "attributes", "surrogate"},
		{"attribute key surrogate", `"attributes":{"\ud800":"v"}`, "attributes", "surrogate"},
		{"attributes list", `"attributes":["k"]`, "attributes", "object"},
		{"attributes too large", `"attributes":{"k":"` + strings.Repeat("v", 1024) + `"}`, "attributes", "1025 bytes used"},
		{"empty key", `"attributes":{"":"v"}`, "attributes", "empty key"},
		{"other case", `"UserId":"mallory"`, "(unknown)", "not a member"},
		{"unknown", `"admin":true,"root":1`, "(unknown)", "not a member"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := `{`
			for _, member := range []string{`"roomIdentifier":"` + tokentest.Room + `"`, `"userId":"u"`} {
				if !strings.HasPrefix(test.member, strings.SplitAfter(member, ":")[0]) {
					text += member + ","
				}
			}
			got, err := claims.ParseJSON([]byte(text+test.member+"}"), nil)
			var invalid *claims.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Fields, 1, "%v", err)
			assert.Equal(t, test.field, invalid.Fields[0].Name)
			assert.Contains(t, invalid.Fields[0].Message, test.says)
			assert.Zero(t, got)
		})
	}
}

func TestParseJSONListsEveryField(t *testing.T) {
	_, err := claims.ParseJSON([]byte(`{"roomIdentifier":"x","userId":1,"userId":2,"capabilities":[1],
		"attributes":{"":""},"sessionDurationInMinutes":0,"x":1}`), nil)
	var invalid *claims.ValidationError
	require.ErrorAs(t, err, &invalid)
	var names []string
	for _, f := range invalid.Fields {
		names = append(names, f.Name)
	}
	assert.Equal(t, []string{"roomIdentifier", "userId", "capabilities", "attributes",
		"sessionDurationInMinutes", "(unknown)"}, names, "each once, in order")
}

func TestFieldErrorJSON(t *testing.T) {
	got, err := json.Marshal(claims.FieldError{Name: "userId", Message: "wrong"})
	require.NoError(t, err)
	assert.Equal(t, `{"name":"userId","message":"wrong"}`, string(got))
	got, err = json.Marshal(&claims.ValidationError{Fields: []claims.FieldError{{Name: "userId", Message: "wrong"}}})
	require.NoError(t, err)
	assert.Equal(t, `{"fieldList":[{"name":"userId","message":"wrong"}]}`, string(got))
}

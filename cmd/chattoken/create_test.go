package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRequest(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, `{}`},
		{"text", []string{"--user-id", `a"b`, "--room-identifier=r"}, `{"roomIdentifier":"r","userId":"a\"b"}`},
		{"capabilities", []string{"--capabilities", "A", "B"}, `{"capabilities":["A","B"]}`},
		{"no capabilities", []string{"--capabilities"}, `{"capabilities":[]}`},
		{"capabilities in JSON", []string{"--capabilities", `["A", "B"]`}, `{"capabilities":["A","B"]}`},
		{"shorthand", []string{"--attributes", "k=v,k2='v, w'"}, `{"attributes":{"k":"v","k2":"v, w"}}`},
		{"attributes in JSON", []string{"--attributes", `{"k": "v"}`}, `{"attributes":{"k":"v"}}`},
		{"duration", []string{"--session-duration-in-minutes", "30"}, `{"sessionDurationInMinutes":30}`},
		{"duration of 0", []string{"--session-duration-in-minutes=0"}, `{"sessionDurationInMinutes":0}`},
		{"duration below 0", []string{"--session-duration-in-minutes", "-5"}, `{"sessionDurationInMinutes":-5}`},
		{"duration that is no number", []string{"--session-duration-in-minutes", "null"}, `{"sessionDurationInMinutes":"null"}`},
		{"JSON", []string{"--cli-input-json", `{"userId":"a"}`}, `{"userId":"a"}`},
		{"flags replace members", []string{"--cli-input-json", `{"userId":"a","roomIdentifier":"r"}`, "--user-id", "b"},
			`{"roomIdentifier":"r","userId":"b"}`},
		{"maps are replaced as a whole", []string{"--cli-input-json", `{"attributes":{"a":"1","b":"2"}}`, "--attributes", "a=3"},
			`{"attributes":{"a":"3"}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, err := parseArguments(test.args, createFlags())
			require.NoError(t, err)
			got, err := new(process).request(a)
			require.NoError(t, err)
			assert.JSONEq(t, test.want, string(got))
		})
	}
}

func TestRequestInUTF8(t *testing.T) {
	for flag, value := range map[string]string{
		"user-id": "a\xff", "attributes": "{\"a\":\"\xff\"}", "capabilities": "\xff", "cli-input-json": "{\"userId\":\"\xff\"}",
	} {
		a, err := parseArguments([]string{"--" + flag, value}, createFlags())
		require.NoError(t, err)
		_, err = new(process).request(a)
		assert.ErrorAs(t, err, new(usageError))
		assert.ErrorContains(t, err, "--"+flag+": not ")
		assert.ErrorContains(t, err, "valid UTF-8")
	}
}

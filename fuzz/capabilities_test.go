package fuzz_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
)

// FuzzCapabilities reads any text as a list of capabilities, and as one in
// JSON. The oracle is a table of the three names.
func FuzzCapabilities(f *testing.F) {
	bits := map[string]claims.Capabilities{"SEND_MESSAGE": 1, "DISCONNECT_USER": 2, "DELETE_MESSAGE": 4}
	set := func(names []string) (c claims.Capabilities, ok bool) {
		for _, name := range names {
			bit, known := bits[name]
			if !known {
				return 0, false
			}
			c |= bit
		}
		return c, true
	}
	f.Fuzz(func(t *testing.T, text string) {
		var names []string
		if text != "" {
			names = strings.Split(text, ",")
		}
		want, ok := set(names)
		requireCapabilities(t, want, ok, func(c *claims.Capabilities) error { return c.UnmarshalText([]byte(text)) })
		parsed, err := claims.ParseCapabilities(names...)
		require.Equal(t, ok, err == nil)
		require.Equal(t, want, parsed)

		names = nil
		err = json.Unmarshal([]byte(text), &names)
		want, ok = set(names)
		requireCapabilities(t, want, ok && err == nil, func(c *claims.Capabilities) error { return json.Unmarshal([]byte(text), c) })
	})
}

// requireCapabilities parses into a set that has all capabilities.
func requireCapabilities(t testing.TB, want claims.Capabilities, ok bool, parse func(*claims.Capabilities) error) {
	t.Helper()
	c := claims.Capabilities(7)
	err := parse(&c)
	require.Equal(t, ok, err == nil, "%v", err)
	if !ok {
		require.Equal(t, claims.Capabilities(7), c, "changed on an error")
		return
	}
	require.Equal(t, want, c)
	text, err := c.MarshalText()
	require.NoError(t, err)
	var again claims.Capabilities
	require.NoError(t, again.UnmarshalText(text))
	require.Equal(t, c, again)
	array, err := json.Marshal(c)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(array, &again))
	require.Equal(t, c, again)
}

func capabilitiesSeeds(testing.TB) []seed {
	return []seed{
		{"empty", args("")},
		{"one", args("SEND_MESSAGE")},
		{"all", args("DELETE_MESSAGE,DISCONNECT_USER,SEND_MESSAGE")},
		{"repeated", args("SEND_MESSAGE,SEND_MESSAGE")},
		{"lower-case", args("send_message")},
		{"space", args("SEND_MESSAGE, DELETE_MESSAGE")},
		{"comma-at-the-end", args("SEND_MESSAGE,")},
		{"unknown", args("VIEW_MESSAGE")},
		{"json", args(`["SEND_MESSAGE","DELETE_MESSAGE"]`)},
		{"json-empty", args("[]")},
		{"json-null", args("null")},
		{"json-null-name", args("[null]")},
		{"json-escaped", args(`["SEND\u005fMESSAGE"]`)},
		{"json-number", args("[1]")},
		{"json-text", args(`"SEND_MESSAGE"`)},
	}
}

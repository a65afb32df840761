package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseArguments(t *testing.T) {
	known := map[string]arity{"none": none, "one": one, "other": one, "many": many}
	type flags = map[string][]string
	tests := []struct {
		name     string
		args     []string
		flags    flags
		operands []string
	}{
		{"nothing", nil, flags{}, nil},
		{"value behind a space", []string{"--one", "1"}, flags{"one": {"1"}}, nil},
		{"value behind an equals sign", []string{"--one=1=2"}, flags{"one": {"1=2"}}, nil},
		{"empty values", []string{"--one", "", "--other="}, flags{"one": {""}, "other": {""}}, nil},
		{"value that begins with one dash", []string{"--one", "-", "--other", "-5"}, flags{"one": {"-"}, "other": {"-5"}}, nil},
		{"value that begins with two dashes", []string{"--one=--other"}, flags{"one": {"--other"}}, nil},
		{"many", []string{"--many", "A", "B", "--one", "1"}, flags{"many": {"A", "B"}, "one": {"1"}}, nil},
		{"many of none", []string{"--many", "--one", "1"}, flags{"many": {}, "one": {"1"}}, nil},
		{"many of one behind an equals sign", []string{"--many=A", "B"}, flags{"many": {"A"}}, []string{"B"}},
		{"no value", []string{"--none", "1", "--one", "1"}, flags{"none": {}, "one": {"1"}}, []string{"1"}},
		{"operands among flags", []string{"a", "--one", "1", "-"}, flags{"one": {"1"}}, []string{"a", "-"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, err := parseArguments(test.args, known)
			require.NoError(t, err)
			assert.Equal(t, test.flags, a.flags)
			assert.Equal(t, test.operands, a.operands)
			assert.False(t, a.help)
		})
	}
}

func TestParseArgumentsErrors(t *testing.T) {
	known := map[string]arity{"none": none, "one": one, "many": many, "room-identifier": one, "session-duration-in-minutes": one}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"of the API", []string{"--roomIdentifier", "x"}, "unknown flag; did you mean --room-identifier?"},
		{"of the API, behind an equals sign", []string{"--sessionDurationInMinutes=5"}, "unknown flag; did you mean --session-duration-in-minutes?"},
		{"of Go", []string{"--RoomIdentifier", "x"}, "unknown flag; did you mean --room-identifier?"},
		{"with underscores", []string{"--room_identifier", "x"}, "unknown flag; did you mean --room-identifier?"},
		{"of the environment", []string{"--ROOM_IDENTIFIER", "x"}, "unknown flag; did you mean --room-identifier?"},
		{"nearly one of the API", []string{"--roomIdentifiers", "x"}, "unknown flag"},
		{"no value", []string{"--one"}, "--one needs a value; if it begins with --, write --one=VALUE"},
		{"flag for a value", []string{"--one", "--many"}, "--one needs a value; if it begins with --, write --one=VALUE"},
		{"-h for a value", []string{"--one", "-h"}, "--one needs a value; if it begins with --, write --one=VALUE"},
		{"a value for none", []string{"--none=1"}, "--none takes no value"},
		{"twice", []string{"--one", "1", "--one=2"}, "--one is given twice"},
		{"many twice", []string{"--many", "A", "--many", "B"}, "--many is given twice"},
		{"unknown", []string{"--two=secret"}, "unknown flag --two"},
		{"unknown and perhaps a secret", []string{"--ct1_AbC"}, "unknown flag"},
		{"only dashes", []string{"--"}, "unknown flag --"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseArguments(test.args, known)
			assert.Equal(t, usageError(test.want), err)
		})
	}
}

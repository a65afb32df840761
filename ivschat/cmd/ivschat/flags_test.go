package main

import (
	"flag"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseFlags(t *testing.T) {
	noEnv := map[string]string{}
	parse := func(env map[string]string, args ...string) (flags, error) {
		return parseFlags(args, func(name string) string { return env[name] })
	}
	f, err := parse(noEnv)
	require.NoError(t, err)
	want := flags{listen: "127.0.0.1:8080", guardURL: memory, guard: guardURL{engine: memory}, notice: 5 * time.Second, over: 10 * time.Second}
	assert.Equal(t, want, f)

	// Of all variables only that of the password is for a start without
	// keyring.
	env := map[string]string{envKEK: "kek", envContext: "context", envGuardPassword: "password"}
	want.password = "password"
	f, err = parse(env)
	require.NoError(t, err)
	assert.Equal(t, want, f)

	f, err = parse(env, "-keyring", "ring", "-guard", "valkey://u@a", "-origins", "https://a,https://b", "-v")
	require.NoError(t, err)
	want.keyring.Name, want.kek, want.keyring.Config.Context = "ring", "kek", "context"
	want.guardURL = "valkey://u@a"
	want.guard = guardURL{engine: "valkey", user: "u", addresses: []string{"a"}}
	want.server.Origins = []string{"https://a", "https://b"}
	want.verbose = true
	assert.Equal(t, want, f)

	f, err = parse(env, "-keyring", "ring", "-kek-file", "file", "-context", "other")
	require.NoError(t, err)
	assert.Equal(t, "file", f.kekFile)
	assert.Equal(t, "other", f.keyring.Config.Context, "a flag counts before its variable")

	for name, args := range map[string][]string{
		"unknown":            {"-nothing"},
		"argument":           {"serve"},
		"number":             {"-message-rate", "many"},
		"no KEK":             {"-keyring", "ring"},
		"two KEKs":           {"-keyring", "ring", "-kek-file", "file", "-kek-command", "c"},
		"no keyring":         {"-kek-file", "file"},
		"command alone":      {"-kek-command", "c"},
		"context alone":      {"-context", "c"},
		"high-water alone":   {"-high-water", "file"},
		"mode alone":         {"-insecure-any-mode"},
		"form alone":         {"-refuse-form-1"},
		"guard alone":        {"-guard", "valkey://a"},
		"bad guard":          {"-guard", "a"},
		"password of memory": {"-guard-password-file", "file"},
		"user, no password":  {"-keyring", "ring", "-kek-file", "file", "-guard", "valkey://u@a"},
		"negative notice":    {"-drain-notice", "-1s"},
		"negative over":      {"-drain-over", "-1s"},
	} {
		_, err := parse(noEnv, args...)
		assert.Error(t, err, name)
	}
}

// The help has exactly the flags.
func TestUsage(t *testing.T) {
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`).FindAllStringSubmatch(usage, -1) {
		documented[m[1]] = true
	}
	var names []string
	new(flags).set().VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	assert.Equal(t, names, slices.Sorted(maps.Keys(documented)))
	for _, line := range regexp.MustCompile(`.{81,}`).FindAllString(usage, -1) {
		assert.Fail(t, "a line is too long", line)
	}
}

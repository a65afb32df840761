package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

func TestParseGuard(t *testing.T) {
	for text, want := range map[string]guardURL{
		"memory":                        {engine: "memory"},
		"valkey://db":                   {engine: "valkey", addresses: []string{"db"}},
		"valkey://db:6379/3":            {engine: "valkey", addresses: []string{"db:6379"}, database: 3},
		"valkeys://chat@a:1,[::1]:2/":   {engine: "valkey", tls: true, user: "chat", addresses: []string{"a:1", "[::1]:2"}},
		"etcd://us%40er@a:1,b:2":        {engine: "etcd", user: "us@er", addresses: []string{"a:1", "b:2"}},
		"etcds://a:1?ca=x&cert=y&key=z": {engine: "etcd", tls: true, addresses: []string{"a:1"}, ca: "x", cert: "y", key: "z"},
		"valkey://a:1?prefix=p%2F&timeout=1s&max-waiting=2&max-revocations=3&accept-eviction=true&accept-no-append-only-file=1": {
			engine: "valkey", addresses: []string{"a:1"}, prefix: "p/", timeout: time.Second, maxWaiting: 2, maxRevocations: 3,
			acceptEviction: true, acceptNoAppendOnlyFile: true},
	} {
		got, err := parseGuard(text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "redis://db:6379", "valkey", "valkey:db", "valkeyss://db", "memory://", "memory?prefix=x",
		"valkey://", "valkey:///3", "valkey://a:1,", "valkey://u@", "valkey://u%zz@a:1",
		"valkey://a:1/x", "valkey://a:1/3/4", "etcd://a:1/3",
		"valkey://a:1?prefix=%zz", "valkey://a:1?nothing=1", "valkey://a:1?prefix=a&prefix=b", "valkey://a:1?timeout=soon",
		"valkey://a:1?ca=x", "valkeys://a:1?cert=x", "valkeys://a:1?key=x", "etcd://a:1?accept-eviction=true",
	} {
		_, err := parseGuard(text)
		assert.Error(t, err, text)
	}
	_, err := parseGuard("valkey://chat:hunter2@db")
	require.ErrorContains(t, err, envGuardPassword)
	assert.NotContains(t, err.Error(), "hunter2")
}

// The start notices a server that doesn't answer.
func TestGuardIsNotThere(t *testing.T) {
	t.Parallel()
	ring, kek := sealedRing(t, soon)
	for _, guard := range []string{"valkey://127.0.0.1:1", "etcd://127.0.0.1:1?timeout=1s"} {
		assert.ErrorIs(t, fails("-keyring", ring, "-kek-file", kek, "-guard", guard), token.ErrUnavailable, guard)
	}
}

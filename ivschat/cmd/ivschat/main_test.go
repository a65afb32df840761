package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// started runs the command on a free port, and returns its address.
func started(t *testing.T, args ...string) (url string) {
	t.Helper()
	lines := output(t, args...)
	url, ok := strings.CutPrefix(line(t, lines), "ivschat: listening on ")
	require.True(t, ok)
	go io.Copy(io.Discard, lines)
	return url
}

// output runs the command on a free port, and returns what it writes, all of which
// has to be read.
func output(t *testing.T, args ...string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stdout, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0", "-drain-notice", "0", "-drain-over", "0"}, args...), w, io.Discard)
		w.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return bufio.NewReader(stdout)
}

func line(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	text, err := lines.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(text)
}

// sealedRing returns the names of a keyring and of what it is sealed under.
func sealedRing(t *testing.T) (name, kekName string) {
	t.Helper()
	return sealedRingOf(t, keyring.Policy{})
}

func sealedRingOf(t *testing.T, policy keyring.Policy) (name, kekName string) {
	t.Helper()
	dir := t.TempDir()
	name, kekName = filepath.Join(dir, "keyring"), filepath.Join(dir, "kek")
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	require.NoError(t, kek.WriteFile(kekName))
	file := keyring.File{Name: name, KEK: kek, Config: keyring.Config{Policy: policy}}
	_, err = file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	return name, kekName
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	// A server with these is not ready for a minute.
	ring, kek := sealedRingOf(t, keyring.Policy{MaxTTL: 2 * time.Minute, ClockSkew: time.Minute})
	config := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(config, []byte(
		`{"region":"r","rooms":["arn:aws:ivschat:r:1:room/a"],"credentials":[]}`), 0o600))

	for name, test := range map[string]struct {
		args   []string
		status int
	}{
		"nothing":      {nil, http.StatusOK},
		"config":       {[]string{"-config", config, "-cpuprofile", filepath.Join(dir, "cpu")}, http.StatusOK},
		"keys of file": {[]string{"-keyring", ring, "-kek", kek}, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := http.Get(started(t, test.args...) + "/healthz")
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, test.status, resp.StatusCode)
		})
	}
	mark := filepath.Join(dir, "serial")
	started(t, "-keyring", ring, "-kek", kek, "-high-water", mark)
	serial, err := os.ReadFile(mark)
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(serial))
	require.NoError(t, os.WriteFile(mark, []byte("2\n"), 0o600))
	assert.ErrorIs(t, run(t.Context(), []string{"-keyring", ring, "-kek", kek, "-high-water", mark}, io.Discard, io.Discard), keyring.ErrRollback)

	profile, err := os.Stat(filepath.Join(dir, "cpu"))
	require.NoError(t, err)
	assert.Positive(t, profile.Size())
}

// What the operator watches is on a listener of its own, and, but for the
// demonstration, nowhere else.
func TestDebug(t *testing.T) {
	t.Run("demonstration", func(t *testing.T) { testDebug(t, http.StatusOK) })
	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(
		`{"region":"r","rooms":["arn:aws:ivschat:r:1:room/a"],"credentials":[]}`), 0o600))
	t.Run("config", func(t *testing.T) { testDebug(t, http.StatusBadRequest, "-config", config) })
}

func testDebug(t *testing.T, public int, args ...string) {
	lines := output(t, append(args, "-debug", "127.0.0.1:0")...)
	listening, _ := strings.CutPrefix(line(t, lines), "ivschat: listening on ")
	vars, ok := strings.CutPrefix(line(t, lines), "ivschat: numbers at ")
	require.True(t, ok)
	go io.Copy(io.Discard, lines)
	debug := strings.TrimSuffix(vars, "/debug/vars")
	for url, status := range map[string]int{
		vars:                      http.StatusOK,
		listening + "/debug/vars": public,
		debug + "/":               http.StatusNotFound,
		debug + "/healthz":        http.StatusNotFound,
	} {
		resp, err := http.Get(url)
		require.NoError(t, err)
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, status, resp.StatusCode, url)
		assert.Equal(t, status == http.StatusOK, strings.Contains(string(data), `"chattoken":{"minted":0`), url)
	}
}

func TestRunErrors(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	require.NoError(t, os.WriteFile(junk, []byte("junk"), 0o600))
	for name, args := range map[string][]string{
		"unknown flag":  {"-nothing"},
		"argument":      {"serve"},
		"no KEK":        {"-keyring", junk},
		"no keyring":    {"-valkey", "127.0.0.1:1"},
		"no ring":       {"-high-water", junk},
		"bad KEK":       {"-keyring", junk, "-kek", junk},
		"no config":     {"-config", filepath.Join(dir, "none")},
		"bad config":    {"-config", junk},
		"bad token TTL": {"-token-ttl", "1s"},
		"bad address":   {"-listen", "127.0.0.1:99999"},
		"bad debug":     {"-listen", "127.0.0.1:0", "-debug", "127.0.0.1:99999"},
		"bad profile":   {"-cpuprofile", dir},
	} {
		assert.Error(t, run(t.Context(), args, io.Discard, io.Discard), name)
	}
}

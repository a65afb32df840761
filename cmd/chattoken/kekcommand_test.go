package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// helper returns the flags of a KEK behind a helper program.
func helper(t *testing.T, flag string) []string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		testenv.Skip(t, "openssl is missing")
	}
	name := filepath.Join(t.TempDir(), "kek")
	require.NoError(t, os.WriteFile(name, []byte(strings.ReplaceAll(t.Name(), "/", " ")), 0o600))
	script := filepath.Join("..", "..", "keyring", "kekhelper", "testdata", "file-helper.sh")
	return []string{flag, "sh " + script + " " + name}
}

// Every command that takes a KEK takes one behind a helper.
func TestKEKCommand(t *testing.T) {
	f := newFake(t)
	flags := append([]string{"--keyring", filepath.Join(t.TempDir(), "ring")}, helper(t, "--kek-command")...)
	run := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := f.run(append(args, flags...)...)
		require.Equal(t, exitOK, status, stderr)
		return stdout
	}
	run("keyring", "init")
	run("keyring", "set", "--lead", "2h")
	run("keyring", "rotate")
	run("keyring", "check")
	var l listing
	require.NoError(t, json.Unmarshal([]byte(run("keyring", "list", "--output", "json")), &l))
	before := f.mint(t, flags...)
	assert.Contains(t, run("open", before), "11231234")
	run("keyring", "revoke", l.Keys[0].ID)
	status, _, stderr := f.run(append([]string{"open", before}, flags...)...)
	assert.Equal(t, exitRefused, status)
	assert.Contains(t, stderr, "revoked-key")
}

// A KEK changes from a file to a helper and back.
func TestRewrapKEKCommand(t *testing.T) {
	r := newRig(t)
	text := r.mint(t, r.args...)
	other := helper(t, "--kek-command")
	moved := append([]string{"--keyring", r.args[1]}, other...)
	opens := func(flags []string) {
		t.Helper()
		status, _, stderr := r.run(append([]string{"open", text}, flags...)...)
		require.Equal(t, exitOK, status, stderr)
	}
	for range 2 { // the second time it is under the new one already
		r.change(t, "rewrap", "--new-kek-command", other[1])
		opens(moved)
	}
	status, _, stderr := r.run(append([]string{"keyring", "rotate"}, r.args...)...)
	require.Equal(t, exitTrouble, status)
	require.Contains(t, stderr, "sealed under the KEK")
	status, _, stderr = r.run(append([]string{"keyring", "rewrap", "--new-kek-file", r.args[3]}, moved...)...)
	require.Equal(t, exitOK, status, stderr)
	opens(r.args)
}

func TestKEKCommandErrors(t *testing.T) {
	r := newRig(t)
	ring := []string{"--keyring", r.args[1]}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no keyring":      {[]string{"open", "x", "--kek-command", "x"}, "--kek-command needs --keyring"},
		"two KEKs":        {append([]string{"open", "x", "--kek-command", "x"}, r.args...), "--kek-file and --kek-command are two KEKs"},
		"two new KEKs":    {append([]string{"keyring", "rewrap", "--new-kek-command", "x", "--new-kek-file", "x"}, r.args...), "--new-kek-file and --new-kek-command are two KEKs"},
		"no program":      {append([]string{"open", "x", "--kek-command", " "}, ring...), "needs the name of a program"},
		"missing program": {append([]string{"open", "x", "--kek-command", "/nonexistent x"}, ring...), "running /nonexistent: "},
		"failing program": {append([]string{"open", "x", "--kek-command", os.Args[0] + " -test.nonsense"}, ring...), "-test.nonsense\n"}, // what it printed
		"foreign KEK":     {append(append([]string{"open", "x"}, ring...), helper(t, "--kek-command")...), "not made by this KEK"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := r.run(test.args...)
			assert.Equal(t, exitTrouble, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.want)
		})
	}
	status, stdout, _ := r.run(append([]string{"keyring", "check", "--kek-command", "/nonexistent"}, ring...)...)
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stdout, "unusable: ")
}

// KEKs in the environment are not handed on to a helper.
func TestHelperEnvironment(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	t.Setenv("CHATTOKEN_KEK", kek.InsecureText())
	t.Setenv("CHATTOKEN_NEW_KEK", kek.InsecureText())
	t.Setenv("CHATTOKEN_KEK_PROFILE", "kept")
	script, seen := filepath.Join(t.TempDir(), "helper"), filepath.Join(t.TempDir(), "seen")
	require.NoError(t, os.WriteFile(script, []byte(`env > "$1"; exit 1`), 0o600))
	status, _, _ := newFake(t).run("keyring", "init", "--keyring", filepath.Join(t.TempDir(), "ring"), "--kek-command", "sh "+script+" "+seen)
	require.Equal(t, exitTrouble, status)
	environ, err := os.ReadFile(seen)
	require.NoError(t, err)
	assert.NotContains(t, string(environ), kek.InsecureText())
	assert.Contains(t, string(environ), "CHATTOKEN_KEK_PROFILE=kept")
}

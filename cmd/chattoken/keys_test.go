package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// files makes a keyring and its KEK and returns their names, and the KEK.
func files(t *testing.T) (ring, kekFile, kek string) {
	t.Helper()
	f := newFake(t)
	f.mint(t)
	h := home(filepath.Join(f.dir, "chattoken"))
	text, err := os.ReadFile(h.kek())
	require.NoError(t, err)
	require.NotEmpty(t, text)
	return h.keyring(), h.kek(), string(text[:len(text)-1])
}

func TestKeyring(t *testing.T) {
	ring, kekFile, kek := files(t)
	f := newFake(t)
	text := f.mint(t, "--keyring", ring, "--kek-file", kekFile)
	status, _, stderr := f.run("open", text, "--keyring", ring, "--kek-file", kekFile)
	assert.Equal(t, exitOK, status, stderr)

	for value, want := range map[string]int{kek: exitOK, kek + "\n": exitOK, kek + "\n\n": exitTrouble, kek + "\r\n": exitTrouble, " " + kek: exitTrouble} {
		f.env[kekFlags.variable] = value
		status, _, stderr = f.run("open", text, "--keyring", ring)
		assert.Equal(t, want, status, stderr)
		assert.NotContains(t, stderr, kek)
	}
	assert.NoDirExists(t, f.dir, "the user's own keyring was touched")
}

// TestContext checks that the flag counts more than the environment.
func TestContext(t *testing.T) {
	f := newFake(t)
	text := f.mint(t, "--context", "production")
	f.env[envContext] = "staging"
	status, _, stderr := f.run("open", text)
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "keyring: keyring: sealed ring of another context", "its file is named")
	status, _, stderr = f.run("open", text, "--context", "production")
	assert.Equal(t, exitOK, status, stderr)
	f.env[envContext] = "production"
	status, _, stderr = f.run("open", text)
	assert.Equal(t, exitOK, status, stderr)
}

func TestKeyErrors(t *testing.T) {
	ring, kekFile, kek := files(t)
	_, otherKEK, _ := files(t)
	readable := filepath.Join(t.TempDir(), "kek")
	require.NoError(t, os.WriteFile(readable, []byte(kek+"\n"), 0o600))
	require.NoError(t, os.Chmod(readable, 0o644))
	tests := []struct {
		name string
		args []string
		env  string
		want string
	}{
		{"no KEK", []string{"--keyring", ring}, "", "there is no KEK: give --kek-file, --kek-command or the variable CHATTOKEN_KEK"},
		{"no keyring", []string{"--kek-file", kekFile}, "", "--kek-file needs --keyring"},
		{"KEK for its file", []string{"--keyring", ring, "--kek-file", kek}, "", "a token or a KEK was given where it does not belong"},
		{"malformed KEK", []string{"--keyring", ring}, kek + "A", kekFlags.variable + ": keyring: not a KEK"},
		{"missing KEK", []string{"--keyring", ring, "--kek-file", kekFile + "x"}, "", "no such file"},
		{"readable KEK", []string{"--keyring", ring, "--kek-file", readable}, "", "others can read it"},
		{"another KEK", []string{"--keyring", ring, "--kek-file", otherKEK}, kek, "sealed under the KEK"},
		{"missing keyring", []string{"--keyring", ring + "x"}, kek, "no such file"},
		{"keyring that is none", []string{"--keyring", kekFile}, kek, "not a sealed ring"},
		{"directory", []string{"--keyring", filepath.Dir(ring)}, kek, "not a regular file"},
		{"context that is too long", []string{"--context", string(make([]byte, 256))}, "", "longer than 255 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.env[kekFlags.variable] = test.env
			status, stdout, stderr := f.create(test.args...)
			assert.Equal(t, exitTrouble, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.want)
			assert.NotContains(t, stderr, kek)
		})
	}
}

// TestOwnKeyring checks what makes no keyring.
func TestOwnKeyring(t *testing.T) {
	t.Run("there is one", func(t *testing.T) {
		f := newFake(t)
		f.mint(t)
		status, _, stderr := f.create()
		assert.Equal(t, exitOK, status)
		assert.Empty(t, stderr, "announced twice")
	})
	t.Run("no place", func(t *testing.T) {
		f := newFake(t)
		f.configDir = func() (string, error) { return "", errors.New("no home") }
		status, _, stderr := f.create()
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, "no place for a keyring: no home")
	})
	t.Run("file in the way", func(t *testing.T) {
		f := newFake(t)
		require.NoError(t, os.WriteFile(f.dir, nil, 0o600))
		status, _, _ := f.create()
		assert.Equal(t, exitTrouble, status)
	})
	t.Run("KEK without its keyring", func(t *testing.T) {
		f := newFake(t)
		f.mint(t)
		h := home(filepath.Join(f.dir, "chattoken"))
		kek, err := os.ReadFile(h.kek())
		require.NoError(t, err)
		require.NoError(t, os.Remove(h.keyring()))
		status, _, stderr := f.create()
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, "making a keyring")
		after, err := os.ReadFile(h.kek())
		require.NoError(t, err)
		assert.Equal(t, kek, after, "the KEK was replaced")
		assertOnly(t, f.dir, "chattoken")
	})
	t.Run("keyring without its KEK", func(t *testing.T) {
		f := newFake(t)
		f.mint(t)
		require.NoError(t, os.Remove(home(filepath.Join(f.dir, "chattoken")).kek()))
		status, _, stderr := f.create()
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, "reading KEK")
	})
}

// assertOnly checks that a directory holds these names and no draft.
func assertOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	assert.ElementsMatch(t, want, got)
}

// A secret that is given where the name of a file belongs is not repeated by
// the error of opening that file.
func TestSecretsAreNotEchoed(t *testing.T) {
	f := newFake(t)
	secret := f.mint(t)
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	for _, secret := range []string{secret, kek.InsecureText()} {
		for _, args := range [][]string{
			{"open", "--keyring", secret, "x"},
			{"open", "--keyring", "ring", "--kek-file", secret, "x"},
			{"create-chat-token", "--cli-input-json", "file://" + secret},
			{"create-chat-token", "--keyring", secret},
			{"keyring", "make-kek", "missing/" + secret},
			{"keyring", "list", "--keyring", secret},
			{"keyring", "rewrap", "--keyring", "ring", "--new-kek-file", secret},
			{secret},
			{"help", secret},
			{"open", "--" + secret},
			{"open", secret, secret},
			{"create-chat-token", secret},
		} {
			f := newFake(t)
			f.env[kekFlags.variable] = kek.InsecureText()
			status, stdout, stderr := f.run(args...)
			assert.NotEqual(t, exitOK, status, "%.60q", args)
			assert.NotContains(t, stdout+stderr, secret)
			assert.NotEmpty(t, stderr)
		}
	}
}

// A directory without a keyring is filled if it is empty, and left alone if
// not.
func TestFirstUseInAnEmptyDirectory(t *testing.T) {
	f := newFake(t)
	require.NoError(t, os.MkdirAll(filepath.Join(f.dir, "chattoken"), 0o700))
	f.mint(t)

	f = newFake(t)
	name := filepath.Join(f.dir, "chattoken", "other")
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	status, _, stderr := f.run("create-chat-token", "--room-identifier", "arn:aws:ivschat:a:1:room/a", "--user-id", "u")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "has no keyring in it")
	assert.FileExists(t, name)
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

var testNow = time.Unix(1647405789, 0) // 2022-03-16T04:43:09Z

// fake is a process that was not started, with a configuration directory of its
// own and a clock that stands still.
type fake struct {
	process
	out, err strings.Builder
	env      map[string]string
	dir      string
}

func newFake(t *testing.T) *fake {
	f := &fake{env: map[string]string{}, dir: filepath.Join(t.TempDir(), "config")}
	f.process = process{
		stdin:     iotest.ErrReader(errors.New("standard input was read")),
		stdout:    &f.out,
		stderr:    &f.err,
		getenv:    func(name string) string { return f.env[name] },
		configDir: func() (string, error) { return f.dir, nil },
		now:       func() time.Time { return testNow },
	}
	return f
}

// run runs a command line and returns what it wrote.
func (f *fake) run(args ...string) (status int, stdout, stderr string) {
	f.out.Reset()
	f.err.Reset()
	status = f.process.run(args)
	return status, f.out.String(), f.err.String()
}

// create runs create-chat-token for a user of tokentest.Room.
func (f *fake) create(args ...string) (status int, stdout, stderr string) {
	return f.run(append([]string{"create-chat-token", "--room-identifier", tokentest.Room, "--user-id", "11231234"}, args...)...)
}

// mint mints a token, which must succeed.
func (f *fake) mint(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := f.create(args...)
	require.Equal(t, exitOK, status, stderr)
	return member(t, stdout, "token")
}

// seed makes all keys and nonces of a test the same in every run.
func seed(t *testing.T) { cryptotest.SetGlobalRandom(t, 1) }

// golden compares got with a file in testdata, or writes the file where
// CHATTOKEN_UPDATE is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if os.Getenv("CHATTOKEN_UPDATE") != "" {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "in %s", name)
}

func TestDispatch(t *testing.T) {
	const text = "ct1_secretsecretsecret"
	tests := []struct {
		name           string
		args           []string
		status         int
		stdout, stderr string // what they contain; "" is nothing at all
	}{
		{"nothing", nil, 2, "", "no command"},
		{"unknown command", []string{text}, 2, "", "unknown command"},
		{"help", []string{"help"}, 0, "create-chat-token  mint", ""},
		{"-h", []string{"-h"}, 0, "create-chat-token  mint", ""},
		{"--help", []string{"--help"}, 0, "create-chat-token  mint", ""},
		{"help of a command", []string{"help", "open"}, 0, "Usage: chattoken open", ""},
		{"help of an unknown command", []string{"help", text}, 2, "", "unknown command"},
		{"help of two commands", []string{"help", "open", "demo"}, 2, "", "one command"},
		{"create --help", []string{"create-chat-token", "--user-id", "a", "--help", "--nonsense"}, 0, "--cli-input-json", ""},
		{"open -h", []string{"open", "-h"}, 0, "--keyring FILE", ""},
		{"demo -h", []string{"demo", "-h"}, 0, "Usage: chattoken demo", ""},
		{"version", []string{"version"}, 0, "format 1 (ct1_)", ""},
		{"version with an argument", []string{"version", text}, 2, "", "unexpected argument"},
		{"demo with an argument", []string{"demo", text}, 2, "", "unexpected argument"},
		{"create with an argument", []string{"create-chat-token", text}, 2, "", "unexpected argument"},
		{"open with two tokens", []string{"open", text, text}, 2, "", "more than one token"},
		{"unknown flag", []string{"open", "--nonsense=" + text}, 2, "", "unknown flag --nonsense\n"},
		{"unknown flag that may be a secret", []string{"open", "--" + text}, 2, "", "unknown flag\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := newFake(t).run(test.args...)
			assert.Equal(t, test.status, status)
			for _, out := range []struct{ got, want string }{{stdout, test.stdout}, {stderr, test.stderr}} {
				assert.Contains(t, out.got, out.want)
				assert.Equal(t, out.want == "", out.got == "", out.got)
				assert.NotContains(t, out.got, text)
			}
		})
	}
}

// TestWidth checks that help fits into a terminal.
func TestWidth(t *testing.T) {
	f := newFake(t)
	for _, args := range [][]string{{"help"}, {"help", "create-chat-token"}, {"help", "open"}, {"help", "demo"}, {"help", "version"}} {
		_, stdout, _ := f.run(args...)
		for line := range strings.Lines(stdout) {
			assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 80, line)
		}
	}
}

func TestResultNotWritten(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"version"}, {"demo"}, {"demo", "-h"}} {
		f := newFake(t)
		f.stdout = fullDisk{}
		status, _, stderr := f.run(args...)
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, "writing the result: disk full")
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

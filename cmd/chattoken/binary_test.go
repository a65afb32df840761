package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// TestBinary runs the command as its users do.
func TestBinary(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of files, and the shell that sets the umask, are of Unix")
	}
	name := filepath.Join(t.TempDir(), "chattoken")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", name, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	b := binary{name, filepath.Join(t.TempDir(), "config")}

	// The first use, by several at once.
	const processes = 8
	results := make([]result, processes)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = b.run("", "create-chat-token", "--room-identifier", tokentest.Room, "--user-id", "11231234")
		})
	}
	wg.Wait()

	announced := 0
	for _, r := range results {
		require.Equal(t, exitOK, r.status, r.stderr)
		if r.stderr != "" {
			announced++
		}
		opened := b.run(member(t, r.stdout, "token")+"\n", "open", "-")
		assert.Equal(t, exitOK, opened.status, opened.stderr)
		assert.Equal(t, "11231234", member(t, opened.stdout, "userId"))
	}
	assert.Equal(t, 1, announced)
	assertOnly(t, b.config, "chattoken")
	b.checkModes(t)

	assert.Equal(t, exitRefused, b.run("", "open", "ct1_x").status)
	assert.Equal(t, exitTrouble, b.run("", "open", "--nonsense").status)
	demo := b.run("", "demo")
	assert.Equal(t, exitOK, demo.status, demo.stdout)
}

// binary is the built command, with a configuration directory.
type binary struct{ name, config string }

type result struct {
	status         int
	stdout, stderr string
}

// run runs the command under a umask that forbids nothing.
func (b binary) run(stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/bin/sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, b.name}, args...)...)
	// Where the configuration is looked for differs between systems.
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+b.config, "HOME="+b.config, "CHATTOKEN_KEK=", "CHATTOKEN_CONTEXT=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{-1, "", err.Error()}
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// checkModes checks that nobody else can look into what was made.
func (b binary) checkModes(t *testing.T) {
	t.Helper()
	files := 0
	require.NoError(t, filepath.WalkDir(b.config, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		require.NoError(t, err)
		if !d.IsDir() {
			files++
		}
		assert.Zero(t, info.Mode().Perm()&0o077, name)
		return nil
	}))
	assert.GreaterOrEqual(t, files, 2)
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/kms/internal/localkms"
)

// TestMain makes this program chattoken-kms under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "chattoken-kms" {
		main()
	}
	os.Exit(m.Run())
}

// install puts chattoken and chattoken-kms into a directory of the PATH.
func install(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "github.com/seed17cb2b26/chattoken/cmd/chattoken").CombinedOutput()
	require.NoError(t, err, string(out))
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(dir, "chattoken-kms")))
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("GORACE", "atexit_sleep_ms=0")
}

// The whole command line works on a keyring whose KEK is in a service. Its KEK
// can also move to the service and back.
func TestCommandLine(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands are those of a shell")
	}
	s := localkms.Start(t)
	install(t)
	t.Setenv("K", "--keyring ring --kek-command")
	t.Setenv("A", "chattoken-kms "+s.NewKey(t))
	t.Setenv("B", "chattoken-kms "+s.NewKey(t))
	dir := t.TempDir()
	sh := func(script string) (out string, err error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
		cmd.Dir = dir
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	works := func(script string) string {
		t.Helper()
		out, err := sh(script)
		require.NoError(t, err, out)
		return out
	}
	fails := func(script, want string) {
		t.Helper()
		out, err := sh(script)
		require.Error(t, err)
		require.Contains(t, out, want)
	}
	works(`chattoken keyring init $K "$A"
		chattoken keyring set --lead 2h $K "$A"
		chattoken keyring rotate $K "$A"
		chattoken keyring check $K "$A"`)
	works(`chattoken create-chat-token --any-room --room-identifier lobby --user-id alice $K "$A" > token`)
	opens := func(kek string) {
		t.Helper()
		require.Contains(t, works(`chattoken open `+kek+` < token`), "alice")
	}
	opens(`$K "$A"`)
	fails(`chattoken open $K "$B" < token`, "sealed under the KEK")

	works(`chattoken keyring make-kek kek
		chattoken keyring rewrap $K "$A" --new-kek-file kek`)
	opens(`--keyring ring --kek-file kek`)
	fails(`chattoken keyring rotate $K "$A"`, "sealed under the KEK")
	works(`chattoken keyring rewrap --keyring ring --kek-file kek --new-kek-command "$B"`)
	opens(`$K "$B"`)

	s.Misbehave(localkms.Refuses)
	fails(`chattoken keyring rotate $K "$B"`, "AccessDeniedException")
	out, err := sh(`chattoken keyring check $K "$B"`)
	require.Error(t, err)
	require.Contains(t, out, "critical\nunusable: ")
	s.Misbehave(nil)
	works(`chattoken keyring revoke $(chattoken keyring list $K "$B" | awk '$2 == "primary" {print $1}') $K "$B"`)
	fails(`chattoken open $K "$B" < token`, "revoked-key")
}

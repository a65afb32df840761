package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// A saver is a process that changes a file's ring as its environment says, and
// prints the result.
const (
	saverVariable = "CHATTOKEN_KEYRING_TEST_SAVER" // "revoke" or "rotate"
	saverFile     = "CHATTOKEN_KEYRING_TEST_FILE"
	saverKEK      = "CHATTOKEN_KEYRING_TEST_KEK"
	saverMark     = "CHATTOKEN_KEYRING_TEST_MARK"
)

// While packages are initialized, everything runs in the process's first
// thread. So its system calls are the same every time.
func init() {
	if what := os.Getenv(saverVariable); what != "" {
		result, err := save(what)
		fmt.Println(result)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// A saver prints one of these results.
const (
	saved    = "saved"
	notDue   = "not due"
	conflict = "conflict"
)

func save(what string) (result string, err error) {
	ctx := context.Background()
	kek, err := keyring.ParseKEK(os.Getenv(saverKEK))
	if err != nil {
		return "", err
	}
	name := os.Getenv(saverFile)
	file := keyring.File{Name: name, KEK: kek, HighWater: os.Getenv(saverMark)}
	r, err := file.Load(ctx)
	if err != nil {
		return "", err
	}
	changed := true
	if what == "rotate" {
		io.ReadAll(os.Stdin) // until all are ready
		changed, err = r.Rotate(start.Add(period))
	} else {
		for k := range r.Keys(start) {
			if k.State == keyring.Primary {
				err = r.Revoke(start, k.ID)
			}
		}
	}
	if err != nil || !changed {
		return notDue, err
	}
	os.Lstat(saveBegins)
	err = file.Save(ctx, r)
	os.Lstat(saveEnds)
	switch {
	case errors.Is(err, keyring.ErrConflict):
		return conflict, nil
	case err != nil:
		return "", err
	}
	return saved, nil
}

// No file has these names, and a list of system calls shows them.
const (
	saveBegins = "/chattoken-save-begins"
	saveEnds   = "/chattoken-save-ends"
)

// saver returns a command that starts a saver, behind the words of another one.
func saver(t *testing.T, what, name string, kek *keyring.LocalKEK, words ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	words = append(words, self)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), saverVariable+"="+what, saverFile+"="+name, saverKEK+"="+kek.InsecureText())
	return cmd
}

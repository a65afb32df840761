//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package keyring_test

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// Cron starts several rotators of one file at the same time. One rotates, and
// each of the others says that it did not.
func TestRotators(t *testing.T) {
	const rotators = 4
	results := make(map[string]int)
	for range 5 {
		name := filepath.Join(t.TempDir(), "ring")
		kek := newKEK(t)
		r := newRing(t, start)
		require.NoError(t, saveFile(t, r, kek, name))
		round := runTogether(t, rotators, name, kek)
		require.Equal(t, 1, round[saved], round)
		require.Equal(t, rotators, round[saved]+round[conflict]+round[notDue], round)
		got := loadFile(t, kek, name)
		require.EqualValues(t, 2, got.Serial())
		require.Equal(t, []keyring.State{retired, primary, pending}, states(got, start.Add(period)))
		for result, n := range round {
			results[result] += n
		}
	}
	t.Logf("rotators: %v", results)
}

// runTogether starts rotators at the same moment, and counts their results.
func runTogether(t *testing.T, n int, name string, kek *keyring.LocalKEK) map[string]int {
	t.Helper()
	outs := make([]bytes.Buffer, n)
	var guns []io.Closer
	var waits []func() error
	for i := range n {
		cmd := saver(t, "rotate", name, kek)
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		gun, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		guns, waits = append(guns, gun), append(waits, cmd.Wait)
	}
	for _, gun := range guns {
		require.NoError(t, gun.Close())
	}
	results := make(map[string]int)
	for i, wait := range waits {
		require.NoError(t, wait(), outs[i].String())
		results[strings.TrimSpace(outs[i].String())]++
	}
	return results
}

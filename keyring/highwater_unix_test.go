//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package keyring_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// The mark may be a link to where it outlives the process. The mark is written
// there. It does not replace the link, or it would be lost with the link's
// directory.
func TestHighWaterLink(t *testing.T) {
	s := newSource(t, newKEK(t))
	lasting := filepath.Join(t.TempDir(), "serial")
	// Whatever the umask.
	require.NoError(t, os.Chmod(filepath.Dir(s.HighWater), 0o755))
	require.NoError(t, os.Rename(s.HighWater, lasting))
	require.NoError(t, os.Symlink(lasting, s.HighWater))
	s.change(t)
	_, err := s.follower.Refresh(t.Context(), start)
	require.NoError(t, err)
	mark, err := os.ReadFile(lasting)
	require.NoError(t, err)
	assert.Equal(t, "2\n", string(mark))
	link, err := os.Readlink(s.HighWater)
	require.NoError(t, err)
	assert.Equal(t, lasting, link)

	require.NoError(t, os.Remove(lasting))
	_, err = s.Follow(t.Context(), start)
	require.ErrorContains(t, err, "a symbolic link to no file")
	_, err = os.Lstat(lasting)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Processes that share a mark, such as cron and an operator on the rotator,
// leave the highest one, whoever is last.
func TestHighWaterShared(t *testing.T) {
	const versions = 6
	dir, kek := t.TempDir(), newKEK(t)
	writer := newRing(t, start)
	files := make([]keyring.File, versions)
	for i := range files {
		files[i] = keyring.File{Name: filepath.Join(dir, "ring"+string(rune('1'+i))), KEK: kek, HighWater: filepath.Join(dir, "serial")}
		require.NoError(t, saveFile(t, writer, kek, files[i].Name))
		require.NoError(t, writer.Revoke(start, sealer(t, writer, start)))
	}
	for range 30 {
		_ = os.Remove(files[0].HighWater)
		var wg sync.WaitGroup
		for _, f := range files {
			wg.Go(func() {
				if _, err := f.Follow(t.Context(), start); err != nil {
					assert.Equal(t, keyring.ErrRollback, err, "a higher one was there")
				}
			})
		}
		wg.Wait()
		mark, err := os.ReadFile(files[0].HighWater)
		require.NoError(t, err)
		require.Equal(t, "6\n", string(mark))
	}
}

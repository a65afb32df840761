//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package keyring_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// volume is a directory as Kubernetes mounts a Secret. The file is a link into
// ..data, which is a link to a directory that never changes again.
type volume struct {
	dir      string
	versions int
}

// put swaps in a directory with this content, and removes the one before it.
func (v *volume) put(t *testing.T, content []byte) {
	t.Helper()
	v.versions++
	name := fmt.Sprintf("..version-%d", v.versions)
	require.NoError(t, os.Mkdir(filepath.Join(v.dir, name), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(v.dir, name, "ring"), content, 0o444))
	require.NoError(t, os.Symlink(name, filepath.Join(v.dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	if v.versions == 1 {
		require.NoError(t, os.Symlink(filepath.Join("..data", "ring"), filepath.Join(v.dir, "ring")))
		return
	}
	require.NoError(t, os.RemoveAll(filepath.Join(v.dir, fmt.Sprintf("..version-%d", v.versions-1))))
}

// A follower of such a volume goes from one whole version to a later one, while
// the volume swaps them at full speed and others use the ring.
func TestFollowVolume(t *testing.T) {
	v := &volume{dir: t.TempDir()}
	kek := newKEK(t)
	writer := newRing(t, start)
	put := func() {
		data, err := writer.Marshal(t.Context(), kek)
		require.NoError(t, err)
		v.put(t, data)
	}
	put()
	follower, err := keyring.File{Name: filepath.Join(v.dir, "ring"), KEK: kek}.Follow(t.Context(), start)
	require.NoError(t, err)

	var done atomic.Bool
	var refreshed atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			changed, err := follower.Refresh(t.Context(), start)
			// A version may be removed right after its name was
			// looked up.
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if changed {
				refreshed.Add(1)
			}
		}
	})
	wg.Go(func() {
		for !done.Load() {
			box, err := follower.Ring().Box(nil, nil, start)
			if err == nil {
				_, err = follower.Ring().Unbox(nil, box, start)
			}
			if err != nil && err != keyring.ErrRevokedKey {
				t.Error(err)
			}
		}
	})
	for i := range 50 {
		require.NoError(t, writer.Revoke(start, sealer(t, writer, start)))
		put()
		for i == 25 && refreshed.Load() == 0 { // let the follower run
			time.Sleep(time.Millisecond)
		}
	}
	done.Store(true)
	wg.Wait()
	_, err = follower.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.Equal(t, keys(writer, start), keys(follower.Ring(), start))
}

// What replaces the file is refused without waiting for it.
func TestFollowNotRegular(t *testing.T) {
	for name, put := range map[string]func(name string) error{
		"pipe":     func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"loop":     func(name string) error { return os.Symlink(name, name) },
		"dangling": func(name string) error { return os.Symlink("nothing", name) },
		"device":   func(name string) error { return os.Symlink("/dev/zero", name) },
		"terminal": func(name string) error { return os.Symlink("/dev/tty", name) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t, newKEK(t))
			for _, path := range []string{s.Name, s.HighWater} {
				require.NoError(t, os.Remove(path))
				require.NoError(t, put(path))
			}
			before := keys(s.follower.Ring(), start)
			_, err := s.follower.Refresh(t.Context(), start.Add(second))
			require.Error(t, err)
			require.Equal(t, before, keys(s.follower.Ring(), start))
			require.Equal(t, second, s.follower.Stale(start.Add(second)))
			_, err = s.Follow(t.Context(), start)
			require.Error(t, err)
		})
	}
}

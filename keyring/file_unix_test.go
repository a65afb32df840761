//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package keyring_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// What is no file is refused at once. A pipe would wait for a writer.
func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	dangling := filepath.Join(dir, "dangling")
	require.NoError(t, os.Symlink("nothing", dangling))
	for _, name := range []string{fifo, loop, dangling, dir, "/dev/null", "/dev/zero"} {
		_, err := keyring.File{Name: name, KEK: newKEK(t)}.Load(t.Context())
		require.Error(t, err, name)
		_, err = keyring.KEKFile{Name: name}.Read()
		require.Error(t, err, name)
		_, err = keyring.KEKFile{Name: name, InsecureAnyMode: true}.Read()
		require.Error(t, err, name)
	}
	directory := filepath.Join(dir, "directory")
	require.NoError(t, os.Mkdir(directory, 0o700))
	for _, name := range []string{fifo, loop, dangling, directory, directory + "/", "/dev/null"} {
		require.ErrorContains(t, saveFile(t, newRing(t, start), newKEK(t), name), name)
		require.Error(t, newKEK(t).WriteFile(name), name)
	}
	t.Chdir(dir)
	require.ErrorIs(t, saveFile(t, newRing(t, start), newKEK(t), ""), fs.ErrNotExist)
	require.Equal(t, []string{"dangling", "directory", "fifo", "loop"}, files(t, dir), "a lock was left")
	require.NoFileExists(t, "/dev/null.lock")
}

// Kubernetes swaps a symbolic link to a directory. A saver leaves links alone.
func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	kek := newKEK(t)
	r := newRing(t, start)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o700))
	require.NoError(t, os.Symlink("v1", filepath.Join(dir, "data")))
	require.NoError(t, os.Symlink("data/ring", filepath.Join(dir, "ring")))
	require.NoError(t, saveFile(t, r, kek, filepath.Join(dir, "v1", "ring")))
	name := filepath.Join(dir, "ring")
	loadFile(t, kek, name)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, saveFile(t, r, kek, name))
	info, err := os.Lstat(name)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink, info.Mode().Type())
	require.Equal(t, keys(r, start), keys(loadFile(t, kek, filepath.Join(dir, "v1", "ring")), start))
}

func TestModes(t *testing.T) {
	dir := t.TempDir()
	kek := newKEK(t)
	name := filepath.Join(dir, "kek")
	require.NoError(t, kek.WriteFile(name))
	for mode, ok := range map[fs.FileMode]bool{
		0o400: true, 0o600: true, 0o700: true, 0o604: false, 0o640: false, 0o644: false, 0o620: false, 0o601: false, 0o610: false,
	} {
		require.NoError(t, os.Chmod(name, mode))
		_, err := keyring.KEKFile{Name: name}.Read()
		require.Equal(t, ok, err == nil, "%v: %v", mode, err)
		_, err = keyring.KEKFile{Name: name, InsecureAnyMode: true}.Read()
		require.NoError(t, err)
	}
	ring := filepath.Join(dir, "ring")
	require.NoError(t, saveFile(t, newRing(t, start), kek, ring))
	require.NoError(t, os.Chmod(ring, 0o444))
	loadFile(t, kek, ring)
}

// Whoever could read the ring before a save can read it after.
func TestSaveKeepsAccess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ring")
	kek, r := newKEK(t), newRing(t, start)
	save := func() *syscall.Stat_t {
		require.NoError(t, r.Revoke(start, sealer(t, r, start)))
		require.NoError(t, saveFile(t, r, kek, name))
		info, err := os.Stat(name)
		require.NoError(t, err)
		return info.Sys().(*syscall.Stat_t)
	}
	defer syscall.Umask(syscall.Umask(0))
	require.EqualValues(t, 0o600, save().Mode&0o7777, "the first one is private")
	syscall.Umask(0o077)
	for _, mode := range []uint32{0o644, 0o640, 0o664, 0o400, 0o444, 0o604} {
		require.NoError(t, os.Chmod(name, fs.FileMode(mode)))
		require.Equal(t, mode, uint32(save().Mode)&0o7777)
	}
	t.Run("owner", func(t *testing.T) {
		if err := os.Chown(name, 4711, 4712); err != nil {
			testenv.NotAllowed(t, fmt.Sprintf("no file can be given away: %v", err))
		}
		require.NoError(t, os.Chmod(name, 0o640))
		got := save()
		require.EqualValues(t, []uint32{4711, 4712, 0o640}, []uint32{got.Uid, got.Gid, uint32(got.Mode) & 0o7777})
	})
}

// A second saver gets an error at once. The first one's lock ends with its
// file.
func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ring")
	kek := newKEK(t)
	r := newRing(t, start)
	f, err := os.Create(name + ".lock")
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	require.ErrorIs(t, saveFile(t, r, kek, name), keyring.ErrConflict)
	require.NoFileExists(t, name)
	require.NoError(t, f.Close())
	require.NoError(t, saveFile(t, r, kek, name))
	require.NoError(t, saveFile(t, r, kek, name))
}

// If a file cannot be written to the end, the old one stays as it was, and no
// draft remains.
func TestWriteFails(t *testing.T) {
	if !inChild() {
		out, err := runChild(t)
		require.NoError(t, err, "%s", out)
		return
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "ring")
	kek := newKEK(t)
	r := newRing(t, start)
	require.NoError(t, saveFile(t, r, kek, name))
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))

	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: limit.Max}))
	err = saveFile(t, r, kek, name)
	kekErr := kek.WriteFile(filepath.Join(dir, "kek"))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	require.ErrorIs(t, err, syscall.EFBIG)
	require.ErrorIs(t, kekErr, syscall.EFBIG)
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, []string{"ring", "ring.lock"}, files(t, dir))
}

package keyring_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// loadFile is what a process does when it starts.
func loadFile(t *testing.T, kek keyring.KEK, name string) *keyring.Ring {
	t.Helper()
	data, err := keyring.ReadFile(name)
	require.NoError(t, err)
	r, err := keyring.Load(t.Context(), kek, data, keyring.Config{})
	require.NoError(t, err)
	return r
}

// files returns the names in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ring")
	kek := newKEK(t)
	r := newRing(t, start)
	require.NoError(t, r.WriteFile(t.Context(), kek, name))
	info, err := os.Stat(name)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	require.Equal(t, keys(r, start), keys(loadFile(t, kek, name), start))

	require.NoError(t, r.WriteFile(t.Context(), kek, name), "the same again")
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, r.WriteFile(t.Context(), kek, name), "two versions on")
	got := loadFile(t, kek, name)
	require.Equal(t, keys(r, start), keys(got, start))

	require.NoError(t, got.Revoke(start, sealer(t, got, start)))
	require.NoError(t, got.WriteFile(t.Context(), kek, name), "by who has loaded it")
	require.Equal(t, keyring.ErrRollback, r.WriteFile(t.Context(), kek, name))
	data, err := keyring.ReadFile(name)
	require.NoError(t, err)
	_, err = r.Update(t.Context(), kek, data)
	require.NoError(t, err)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, r.WriteFile(t.Context(), kek, name), "by who has followed it")
	require.Subset(t, []string{"ring", "ring.lock"}, files(t, dir))
}

// Two savers that do not know of each other never lose a key silently.
func TestWriteFileConflicts(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ring")
	kek := newKEK(t)
	a := newRing(t, start)
	require.NoError(t, a.WriteFile(t.Context(), kek, name))
	b := loadFile(t, kek, name)
	revoke := func(r *keyring.Ring) { require.NoError(t, r.Revoke(start, sealer(t, r, start))) }
	revoke(a)
	require.NoError(t, a.WriteFile(t.Context(), kek, name))
	revoke(b)
	require.Equal(t, keyring.ErrConflict, b.WriteFile(t.Context(), kek, name), "the same serial")
	revoke(b)
	require.Equal(t, keyring.ErrConflict, b.WriteFile(t.Context(), kek, name), "a higher serial")
	stranger := newRing(t, start)
	require.Equal(t, keyring.ErrRollback, stranger.WriteFile(t.Context(), kek, name))
	revoke(stranger)
	revoke(stranger)
	require.Equal(t, keyring.ErrConflict, stranger.WriteFile(t.Context(), kek, name))
	require.Equal(t, keys(a, start), keys(loadFile(t, kek, name), start))
}

func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	kek := newKEK(t)
	r := newRing(t, start)
	name := filepath.Join(dir, "ring")
	check := func(msg string) {
		t.Helper()
		err := r.WriteFile(t.Context(), kek, name)
		require.Error(t, err, msg)
		require.True(t, strings.HasPrefix(err.Error(), "keyring: "), err)
		for _, f := range files(t, dir) {
			require.NotContains(t, f, ".tmp", msg)
		}
	}
	for _, junk := range []string{"", "junk", strings.Repeat("x", 1<<20+1)} {
		require.NoError(t, os.WriteFile(name, []byte(junk), 0o600))
		check("junk")
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, junk, string(got))
	}
	other := newKEK(t)
	damaged, err := keyring.Seal(t.Context(), kek, []byte("no document"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, damaged, 0o600))
	check("a plaintext that is none")
	require.NoError(t, os.Remove(name))
	require.NoError(t, r.WriteFile(t.Context(), other, name))
	check("another KEK")
	require.NoError(t, os.Remove(name))
	require.Error(t, r.WriteFile(t.Context(), nil, name))
	require.NotContains(t, files(t, dir), "ring")

	name = filepath.Join(dir, "missing", "ring")
	check("no such directory")
	name = filepath.Join(dir, "directory")
	require.NoError(t, os.Mkdir(name, 0o700))
	check("a directory")
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	_, err := keyring.ReadFile(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(name, make([]byte, 1<<20), 0o644))
	data, err := keyring.ReadFile(name)
	require.NoError(t, err)
	require.Len(t, data, 1<<20)
	require.NoError(t, os.WriteFile(name, make([]byte, 1<<20+1), 0o644))
	_, err = keyring.ReadFile(name)
	require.ErrorContains(t, err, "too large")
	_, err = keyring.ReadFile(dir)
	require.ErrorContains(t, err, "not a regular file")
	_, err = keyring.ReadFile("file\x00")
	require.Error(t, err)
}

func TestKEKFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "kek")
	kek := newKEK(t)
	require.NoError(t, kek.WriteFile(name))
	got, err := keyring.KEKFile{Name: name}.Read()
	require.NoError(t, err)
	require.Equal(t, kek.InsecureText(), got.InsecureText())
	require.Error(t, newKEK(t).WriteFile(name), "never replaced")
	require.Error(t, kek.WriteFile(filepath.Join(dir, "missing", "kek")))
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, kek.InsecureText()+"\n", string(content))
	require.Equal(t, []string{"kek"}, files(t, dir))

	for text, ok := range map[string]bool{
		kek.InsecureText():            true,
		kek.InsecureText() + "\n\n":   false,
		kek.InsecureText() + "\r\n":   false,
		"":                            false,
		strings.Repeat("\n", 4096):    false,
		strings.Repeat("\n", 4097):    false,
		"\n" + kek.InsecureText():     false,
		kek.InsecureText()[:57]:       false,
		kek.InsecureText() + "\x00":   false,
		"\ufeff" + kek.InsecureText(): false,
	} {
		name := filepath.Join(t.TempDir(), "kek")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, err := keyring.KEKFile{Name: name}.Read()
		require.Equal(t, ok, err == nil, "%q: %v", text, err)
	}
	_, err = keyring.KEKFile{Name: filepath.Join(dir, "missing")}.Read()
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = keyring.KEKFile{Name: dir}.Read()
	require.Error(t, err)
}

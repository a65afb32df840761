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

// loadFile does what a process does when it starts.
func loadFile(t *testing.T, kek keyring.KEK, name string) *keyring.Ring {
	t.Helper()
	r, err := keyring.File{Name: name, KEK: kek}.Load(t.Context())
	require.NoError(t, err)
	return r
}

// saveFile does what a process does after it changed the ring.
func saveFile(t *testing.T, r *keyring.Ring, kek keyring.KEK, name string) error {
	return keyring.File{Name: name, KEK: kek}.Save(t.Context(), r)
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

func TestSave(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ring")
	kek := newKEK(t)
	r := newRing(t, start)
	require.NoError(t, saveFile(t, r, kek, name))
	info, err := os.Stat(name)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	require.Equal(t, keys(r, start), keys(loadFile(t, kek, name), start))

	require.NoError(t, saveFile(t, r, kek, name), "the same again")
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, saveFile(t, r, kek, name), "two versions on")
	got := loadFile(t, kek, name)
	require.Equal(t, keys(r, start), keys(got, start))

	require.NoError(t, got.Revoke(start, sealer(t, got, start)))
	require.NoError(t, saveFile(t, got, kek, name), "by who has loaded it")
	require.Equal(t, keyring.ErrRollback, saveFile(t, r, kek, name))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	_, err = r.Update(t.Context(), kek, data)
	require.NoError(t, err)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, saveFile(t, r, kek, name), "by who has followed it")
	require.Subset(t, []string{"ring", "ring.lock"}, files(t, dir))
}

// Two savers that do not know of each other never lose a key silently.
func TestSaveConflicts(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ring")
	kek := newKEK(t)
	a := newRing(t, start)
	require.NoError(t, saveFile(t, a, kek, name))
	b := loadFile(t, kek, name)
	revoke := func(r *keyring.Ring) { require.NoError(t, r.Revoke(start, sealer(t, r, start))) }
	revoke(a)
	require.NoError(t, saveFile(t, a, kek, name))
	revoke(b)
	require.Equal(t, keyring.ErrConflict, saveFile(t, b, kek, name), "the same serial")
	revoke(b)
	require.Equal(t, keyring.ErrConflict, saveFile(t, b, kek, name), "a higher serial")
	stranger := newRing(t, start)
	require.Equal(t, keyring.ErrRollback, saveFile(t, stranger, kek, name))
	revoke(stranger)
	revoke(stranger)
	require.Equal(t, keyring.ErrConflict, saveFile(t, stranger, kek, name))
	require.Equal(t, keys(a, start), keys(loadFile(t, kek, name), start))
}

func TestSaveRefused(t *testing.T) {
	dir := t.TempDir()
	kek := newKEK(t)
	r := newRing(t, start)
	name := filepath.Join(dir, "ring")
	check := func(msg string) {
		t.Helper()
		err := saveFile(t, r, kek, name)
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
	damaged, err := keyring.Seal(t.Context(), kek, "", []byte("no document"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, damaged, 0o600))
	check("a plaintext that is none")
	require.NoError(t, os.Remove(name))
	require.NoError(t, saveFile(t, r, other, name))
	check("another KEK")
	require.NoError(t, os.Remove(name))
	require.Error(t, saveFile(t, r, nil, name))
	require.NotContains(t, files(t, dir), "ring")

	name = filepath.Join(dir, "missing", "ring")
	check("no such directory")
	name = filepath.Join(dir, "directory")
	require.NoError(t, os.Mkdir(name, 0o700))
	check("a directory")
}

// A new ring replaces nothing, and leaves nothing beside what is there.
func TestCreate(t *testing.T) {
	f := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: newKEK(t)}
	r, err := f.Create(t.Context(), start)
	require.NoError(t, err)
	require.Equal(t, keys(r, start), keys(loadFile(t, f.KEK, f.Name), start))
	dir := t.TempDir()
	f.Name = filepath.Join(dir, "ring")
	for _, content := range []string{"", "junk"} {
		require.NoError(t, os.WriteFile(f.Name, []byte(content), 0o600))
		r, err := f.Create(t.Context(), start)
		require.Nil(t, r)
		require.ErrorIs(t, err, fs.ErrExist)
		require.ErrorContains(t, err, f.Name)
		got, err := os.ReadFile(f.Name)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
		require.Equal(t, []string{"ring"}, files(t, dir))
	}
}

// A save refuses what hosts with the mark would refuse.
func TestSaveBelowTheMark(t *testing.T) {
	s := newSource(t, newKEK(t))
	before := s.content(t)
	require.NoError(t, s.writer.Revoke(start, sealer(t, s.writer, start)))
	for mark, want := range map[string]string{"3\n": keyring.ErrRollback.Error(), "junk": "not a serial in decimal"} {
		require.NoError(t, os.WriteFile(s.HighWater, []byte(mark), 0o600))
		require.ErrorContains(t, s.Save(t.Context(), s.writer), want)
		require.Equal(t, before, s.content(t))
		require.Equal(t, mark, s.highWater(t))
	}
	require.NoError(t, os.WriteFile(s.HighWater, []byte("1\n"), 0o600))
	require.NoError(t, s.writer.RaiseSerial(1<<32))
	s.save(t)
	require.NoError(t, s.writer.RaiseSerial(1<<32+2))
	require.ErrorContains(t, s.Save(t.Context(), s.writer), "too far ahead")
	require.NoError(t, os.Remove(s.HighWater))
	require.NoError(t, s.Save(t.Context(), s.writer))
	require.Equal(t, "4294967298\n", s.highWater(t))
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	f := keyring.File{Name: filepath.Join(dir, "file"), KEK: newKEK(t)}
	_, err := f.Load(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, f.Name)
	for size, want := range map[int]string{1 << 20: "not a sealed ring", 1<<20 + 1: "too large"} {
		require.NoError(t, os.WriteFile(f.Name, make([]byte, size), 0o644))
		_, err = f.Load(t.Context())
		require.ErrorContains(t, err, want)
	}
	f.Name = dir
	_, err = f.Load(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	f.Name = "file\x00"
	_, err = f.Load(t.Context())
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

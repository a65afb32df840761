//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package keyring_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// mallory is another user.
const mallory = 4711

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Skip(t, "only root can make files of another user")
	}
}

// give gives files and links to another user, and not what links lead to.
func give(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, os.Lchown(name, mallory, mallory))
	}
}

// directory makes a directory of that mode, whatever the umask.
func directory(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	parent := t.TempDir()
	require.NoError(t, os.Chmod(parent, 0o755))
	dir := filepath.Join(parent, "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chmod(dir, mode))
	return dir
}

// Somebody who can write to the ring's directory puts a link where the lock
// should be. That makes no file, and takes no lock, elsewhere.
func TestLockIsNoLink(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"own": 0o700, "group's": 0o775, "everybody's": 0o777, "sticky": 0o777 | fs.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			dir, elsewhere := directory(t, mode), directory(t, 0o700)
			f := keyring.File{Name: filepath.Join(dir, "ring"), KEK: newKEK(t), HighWater: filepath.Join(dir, "mark")}
			r, err := f.Create(t.Context(), start)
			require.NoError(t, err)
			for _, lock := range []string{f.Name + ".lock", f.HighWater + ".lock"} {
				for _, target := range []string{filepath.Join(elsewhere, "victim"), "inside", "mark"} {
					require.NoError(t, os.Remove(lock))
					require.NoError(t, os.Symlink(target, lock))
					require.NoError(t, r.Revoke(start, sealer(t, r, start)))
					require.ErrorContains(t, f.Save(t.Context(), r), "not a regular file")
				}
				require.NoError(t, os.Remove(lock))
				require.NoError(t, os.Mkdir(lock, 0o700))
				require.Error(t, f.Save(t.Context(), r))
				require.NoError(t, os.Remove(lock))
				require.NoError(t, f.Save(t.Context(), r))
			}
			require.Empty(t, files(t, elsewhere))
			require.Equal(t, []string{"mark", "mark.lock", "ring", "ring.lock"}, files(t, dir))
		})
	}
}

// If the lock file loses its name to another, a process that waits for it then
// waits for the other.
func TestLockIsTheOneOfThatName(t *testing.T) {
	s := newSource(t, newKEK(t))
	take := func(name string) *os.File {
		f, err := os.Create(name)
		require.NoError(t, err)
		require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
		return f
	}
	lock := s.HighWater + ".lock"
	require.NoError(t, os.Remove(lock))
	first := take(lock)
	s.change(t)
	done := make(chan error)
	go func() {
		_, err := s.follower.Refresh(t.Context(), start)
		done <- err
	}()
	time.Sleep(20 * time.Millisecond) // it may wait by now
	second := take(lock + ".new")
	require.NoError(t, os.Rename(lock+".new", lock))
	require.NoError(t, first.Close())
	select {
	case err := <-done:
		t.Errorf("not waited for the second lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	assert.Equal(t, "1\n", s.highWater(t))
	require.NoError(t, second.Close())
	require.NoError(t, <-done)
	assert.Equal(t, "2\n", s.highWater(t))
}

// links lead from "file" in a directory to a file in another one, and may be
// followed or not.
var links = []struct {
	name  string
	mode  fs.FileMode // of the directory
	lay   func(t *testing.T, dir, elsewhere string)
	error string
}{
	{"own link", 0o755, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(dir, "file")))
	}, ""},
	{"own link of a sticky directory", 0o777 | fs.ModeSticky, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(dir, "file")))
	}, ""},
	{"own links, by way of a directory", 0o755, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "data")))
		require.NoError(t, os.Symlink("data/../"+filepath.Base(elsewhere)+"/file", filepath.Join(dir, "file")))
	}, ""},
	{"another's link", 0o777 | fs.ModeSticky, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(dir, "file")))
		give(t, filepath.Join(dir, "file"))
	}, "a symbolic link of another user's"},
	{"another's link to a directory", 0o777 | fs.ModeSticky, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "data")))
		require.NoError(t, os.Symlink("data/file", filepath.Join(dir, "file")))
		give(t, filepath.Join(dir, "data"))
	}, "a symbolic link of another user's"},
	{"out of a directory of everybody's", 0o777, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(dir, "file")))
	}, "leads out of a directory that others can write"},
	{"out of a directory of everybody's, by dots", 0o777, func(t *testing.T, dir, elsewhere string) {
		target, err := filepath.Rel(dir, filepath.Join(elsewhere, "file"))
		require.NoError(t, err)
		require.NoError(t, os.Symlink(target, filepath.Join(dir, "file")))
	}, "path escapes"},
	{"out of a directory of everybody's, by another one", 0o777, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "data")))
		require.NoError(t, os.Symlink("data/file", filepath.Join(dir, "file")))
	}, "path escapes"},
	{"out of another's directory", 0o755, func(t *testing.T, dir, elsewhere string) {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(dir, "file")))
		give(t, dir)
	}, "leads out of a directory that others can write"},
	{"loop", 0o755, func(t *testing.T, dir, _ string) {
		require.NoError(t, os.Symlink("file", filepath.Join(dir, "file")))
	}, "too many symbolic links"},
	{"loop in a directory of everybody's", 0o777, func(t *testing.T, dir, _ string) {
		require.NoError(t, os.Symlink("file", filepath.Join(dir, "file")))
	}, "too many symbolic links"},
}

// If others may have made a link, the ring is not written through it, and the
// mark and the KEK are not trusted. The ring is read, because it is sealed.
func TestForeignLinks(t *testing.T) {
	needRoot(t)
	for _, tt := range links {
		t.Run(tt.name, func(t *testing.T) {
			dir, elsewhere := directory(t, tt.mode), directory(t, 0o755)
			file, at := filepath.Join(dir, "file"), filepath.Join(elsewhere, "file")
			tt.lay(t, dir, elsewhere)
			check := func(err error) {
				t.Helper()
				if tt.error == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tt.error)
				}
			}
			kek := newKEK(t)
			require.NoError(t, kek.WriteFile(at))
			_, err := keyring.KEKFile{Name: file}.Read()
			check(err)
			if _, err := os.Stat(file); err == nil {
				_, err = keyring.KEKFile{Name: file, InsecureAnyMode: true}.Read()
				require.NoError(t, err)
			}

			require.NoError(t, os.WriteFile(at, []byte("0\n"), 0o600))
			f := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: kek, HighWater: file}
			_, err = f.Create(t.Context(), start)
			check(err)

			f.HighWater = ""
			require.NoError(t, os.Remove(at))
			_ = os.Remove(f.Name)
			f.Name = at
			r, err := f.Create(t.Context(), start)
			require.NoError(t, err)
			before, err := os.ReadFile(at)
			require.NoError(t, err)
			require.NoError(t, os.Remove(at+".lock"))
			require.NoError(t, r.Revoke(start, sealer(t, r, start)))
			f.Name = file
			check(f.Save(t.Context(), r))
			if tt.error != "" {
				after, err := os.ReadFile(at)
				require.NoError(t, err)
				require.Equal(t, before, after)
				require.Equal(t, []string{"file"}, files(t, elsewhere), "a lock or a draft was left")
			}
			if _, err := os.Stat(file); err == nil {
				_, err := f.Load(t.Context())
				require.NoError(t, err, "whatever is sealed can be read")
			}
		})
	}
}

// In a directory of others, a file is used as anywhere, and through links that
// stay inside, such as those of Kubernetes.
func TestOthersDirectory(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"everybody's": 0o777, "sticky": 0o777 | fs.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			dir, kek := directory(t, mode), newKEK(t)
			data := filepath.Join(dir, "..2026")
			require.NoError(t, os.Mkdir(data, 0o755))
			require.NoError(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
			for _, name := range []string{"ring", "kek", "mark"} {
				require.NoError(t, os.Symlink("..data/"+name, filepath.Join(dir, name)))
			}
			require.NoError(t, kek.WriteFile(filepath.Join(data, "kek")))
			require.NoError(t, os.WriteFile(filepath.Join(data, "mark"), []byte("0\n"), 0o600))
			f := keyring.File{Name: filepath.Join(data, "ring"), KEK: keyring.KEKFile{Name: filepath.Join(dir, "kek")}, HighWater: filepath.Join(dir, "mark")}
			r, err := f.Create(t.Context(), start)
			require.NoError(t, err)
			f.Name = filepath.Join(dir, "ring")
			require.NoError(t, r.Revoke(start, sealer(t, r, start)))
			require.NoError(t, f.Save(t.Context(), r))
			follower, err := f.Follow(t.Context(), start)
			require.NoError(t, err)
			require.Equal(t, keys(r, start), keys(follower.Ring(), start))
			require.Equal(t, []string{"..2026", "..data", "kek", "mark", "ring"}, files(t, dir))
			require.Equal(t, []string{"kek", "mark", "mark.lock", "ring", "ring.lock"}, files(t, data))
			mark, err := os.ReadFile(filepath.Join(data, "mark"))
			require.NoError(t, err)
			require.Equal(t, "2\n", string(mark))

			t.Chdir(filepath.Dir(dir))
			for _, path := range []string{"dir/ring", "./dir//ring", "dir/..data/ring", "dir/..2026/../ring"} {
				f.Name = path
				require.NoError(t, f.Save(t.Context(), r), path)
			}
			for _, path := range []string{"dir/", "dir/.", "dir/..", "dir/ring/", "dir/ring/x", "dir/x/ring"} {
				f.Name = path
				require.Error(t, f.Save(t.Context(), r), path)
			}
		})
	}
}

// A KEK or a mark of another user is not trusted. A ring is sealed.
func TestOwners(t *testing.T) {
	needRoot(t)
	dir := directory(t, 0o755)
	name, kek := filepath.Join(dir, "kek"), newKEK(t)
	require.NoError(t, kek.WriteFile(name))
	give(t, name)
	_, err := keyring.KEKFile{Name: name}.Read()
	require.ErrorContains(t, err, name+": belongs to another user")
	_, err = keyring.KEKFile{Name: name, InsecureAnyMode: true}.Read()
	require.NoError(t, err)

	f := keyring.File{Name: filepath.Join(dir, "ring"), KEK: kek, HighWater: filepath.Join(dir, "mark")}
	r, err := f.Create(t.Context(), start)
	require.NoError(t, err)
	give(t, f.Name)
	require.NoError(t, f.Save(t.Context(), r))
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	give(t, f.HighWater)
	require.ErrorContains(t, f.Save(t.Context(), r), "belongs to another user")
	_, err = f.Load(t.Context())
	require.ErrorContains(t, err, "belongs to another user")
	f.InsecureAnyMode = true
	require.NoError(t, f.Save(t.Context(), r))
}

// Others could lower a mark that they can write.
func TestMarkMode(t *testing.T) {
	s := newSource(t, newKEK(t))
	insecure := s.File
	insecure.InsecureAnyMode = true
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o644: true, 0o444: true, 0o620: false, 0o602: false, 0o666: false, 0o660: false} {
		require.NoError(t, os.Chmod(s.HighWater, mode))
		_, err := s.Load(t.Context())
		require.Equal(t, ok, err == nil, mode)
		if !ok {
			require.ErrorContains(t, err, "others can write it")
		}
		_, err = insecure.Load(t.Context())
		require.NoError(t, err)
	}
}

// Whoever holds a mark's lock delays nobody for ever, and the newer version is
// in force by then.
func TestLockIsNotWaitedForForEver(t *testing.T) {
	s := newSource(t, newKEK(t))
	f, err := os.OpenFile(s.HighWater+".lock", os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	s.change(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	changed, err := s.follower.Refresh(ctx, start)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "somebody else holds the lock")
	require.True(t, changed)
	require.EqualValues(t, 2, s.follower.Ring().Serial())
	_, err = s.Follow(ctx, start)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := s.Follow(t.Context(), start)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*second, time.Since(began))
	})
}

// A lock file of another user, who can hold the lock, is not waited for.
func TestLockOfAnother(t *testing.T) {
	needRoot(t)
	dir := directory(t, 0o777|fs.ModeSticky)
	f := keyring.File{Name: filepath.Join(dir, "ring"), KEK: newKEK(t), HighWater: filepath.Join(dir, "mark")}
	r, err := f.Create(t.Context(), start)
	require.NoError(t, err)
	for _, lock := range []string{f.Name + ".lock", f.HighWater + ".lock"} {
		give(t, lock)
		require.NoError(t, r.Revoke(start, sealer(t, r, start)))
		require.ErrorContains(t, f.Save(t.Context(), r), filepath.Base(lock)+": belongs to another user")
		require.NoError(t, os.Remove(lock))
		require.NoError(t, f.Save(t.Context(), r))
	}
}

// In a directory of everybody's, another user's link in place of a file is not
// followed either, even if it stays inside.
func TestForeignLinkInside(t *testing.T) {
	needRoot(t)
	dir := directory(t, 0o777)
	private := filepath.Join(dir, "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(private, "mark"), []byte("5\n"), 0o600))
	f := keyring.File{Name: filepath.Join(private, "ring"), KEK: newKEK(t), HighWater: filepath.Join(dir, "mark")}
	require.NoError(t, os.Symlink("private/mark", f.HighWater))
	give(t, f.HighWater)
	_, err := f.Create(t.Context(), start)
	require.ErrorContains(t, err, "a symbolic link of another user's")
	require.Equal(t, []string{"mark"}, files(t, private))
	require.NoError(t, os.Lchown(f.HighWater, 0, 0))
	_, err = f.Create(t.Context(), start)
	require.NoError(t, err)
}

// A path may begin in a directory that others can write, and leave it at once.
func TestPathOutOfOthersDirectory(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"group's": 0o775, "everybody's": 0o777} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t, mode)
			require.NoError(t, newKEK(t).WriteFile(filepath.Join(filepath.Dir(dir), "kek")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
			require.NoError(t, os.Symlink("../kek", filepath.Join(dir, "link")))
			t.Chdir(dir)
			for _, path := range []string{"../kek", "./../kek", ".//..//dir/../kek", dir + "/../kek"} {
				_, err := keyring.KEKFile{Name: path}.Read()
				require.NoError(t, err, path)
			}
			for _, path := range []string{"link", "sub/../../kek", "../dir/link"} {
				_, err := keyring.KEKFile{Name: path}.Read()
				require.ErrorContains(t, err, "path escapes from parent", path)
			}
		})
	}
}

// Inspect leaves nothing behind, whoever calls it, and refuses what Load
// refuses.
func TestInspect(t *testing.T) {
	s := newSource(t, newKEK(t))
	older := s.content(t)
	s.change(t)
	dir := filepath.Dir(s.Name)
	for _, mark := range []string{"serial", "another"} {
		s.HighWater = filepath.Join(dir, mark)
		before := files(t, dir)
		r, err := s.Inspect(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Serial())
		require.Equal(t, before, files(t, dir))
	}
	s.HighWater = filepath.Join(dir, "serial")
	require.Equal(t, "1\n", s.highWater(t))
	s.follow(t)
	s.put(t, older)
	_, err := s.Inspect(t.Context())
	require.Equal(t, keyring.ErrRollback, err)
}

// A user can use their own files and root's, in a directory that they can only
// search.
func TestOwnersOfAUser(t *testing.T) {
	const searched = "CHATTOKEN_KEYRING_TEST_DIRECTORY"
	if dir := os.Getenv(searched); inChild() && dir != "" {
		require.NoError(t, syscall.Setgid(mallory))
		require.NoError(t, syscall.Setuid(mallory))
		_, err := os.ReadDir(dir)
		require.ErrorIs(t, err, fs.ErrPermission)
		_, err = keyring.KEKFile{Name: filepath.Join(dir, "mallorys")}.Read()
		require.NoError(t, err)
		_, err = keyring.KEKFile{Name: filepath.Join(dir, "roots")}.Read()
		require.ErrorIs(t, err, fs.ErrPermission, "of the system, not of this package")
		_, err = keyring.KEKFile{Name: filepath.Join(dir, "anothers")}.Read()
		require.ErrorContains(t, err, "others can read it")
		return
	}
	needRoot(t)
	dir := directory(t, 0o711)
	for path := dir; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o711))
	}
	for _, name := range []string{"mallorys", "roots", "anothers"} {
		require.NoError(t, newKEK(t).WriteFile(filepath.Join(dir, name)))
	}
	give(t, filepath.Join(dir, "mallorys"))
	require.NoError(t, os.Chmod(filepath.Join(dir, "anothers"), 0o644))
	out, err := runChild(t, searched+"="+dir)
	require.NoError(t, err, "%s", out)
}

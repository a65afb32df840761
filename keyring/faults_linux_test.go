package keyring_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// target is a file that a saver replaces while something goes wrong.
type target struct {
	dir, name string
	mark      string // of the highest serial, elsewhere
	kek       *keyring.LocalKEK
	ring      *keyring.Ring // the old one
	content   []byte        // its sealed form
}

func newTarget(t *testing.T, dir string) *target {
	t.Helper()
	x := &target{dir: dir, name: filepath.Join(dir, "ring"), mark: filepath.Join(t.TempDir(), "mark"), kek: newKEK(t), ring: newRing(t, start)}
	require.NoError(t, x.file().Save(t.Context(), x.ring))
	var err error
	x.content, err = os.ReadFile(x.name)
	require.NoError(t, err)
	x.share(t)
	return x
}

func (x *target) file() keyring.File {
	return keyring.File{Name: x.name, KEK: x.kek, HighWater: x.mark}
}

// reset puts the old ring back.
func (x *target) reset(t *testing.T) {
	t.Helper()
	for _, dir := range []string{x.dir, filepath.Dir(x.mark)} {
		for _, name := range files(t, dir) {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
	}
	require.NoError(t, os.WriteFile(x.name, x.content, 0o600))
	require.NoError(t, os.WriteFile(x.mark, []byte("1\n"), 0o600))
	x.share(t)
}

// share lets a group read the file, so a save must do so too. If this process
// may choose one, it is another group.
func (x *target) share(t *testing.T) {
	t.Helper()
	require.NoError(t, os.Chmod(x.name, 0o640))
	_ = os.Chown(x.name, -1, 1)
}

// isNew reports whether the file holds what the saver should write. It must
// hold that or the old ring, whole, and the mark must let it be loaded.
func (x *target) isNew(t *testing.T) bool {
	t.Helper()
	got := loadFile(t, x.kek, x.name)
	mark, err := os.ReadFile(x.mark)
	require.NoError(t, err)
	require.Contains(t, []string{"1\n", fmt.Sprintln(got.Serial())}, string(mark))
	old := keys(x.ring, start)
	if got.Serial() == 1 {
		require.Equal(t, old, keys(got, start))
		return false
	}
	require.EqualValues(t, 2, got.Serial())
	require.Equal(t, []keyring.State{primary, pending, revoked}, states(got, start))
	require.Equal(t, old[1].ID, keys(got, start)[0].ID)
	require.Equal(t, old[0].ID, keys(got, start)[2].ID)
	return true
}

// run runs a saver under strace, which logs system calls on files.
func (x *target) run(t *testing.T, options ...string) (trace string, out []byte, err error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	words := append([]string{"strace", "-f", "-o", log, "-e", "trace=%file,%desc"}, options...)
	cmd := saver(t, "revoke", x.name, x.kek, words...)
	cmd.Env = append(cmd.Env, saverMark+"="+x.mark)
	out, err = cmd.CombinedOutput()
	data, readErr := os.ReadFile(log)
	require.NoError(t, readErr)
	return string(data), out, err
}

// call is a system call: its name, and how many calls of that name the
// process's first thread had made, this one included.
type call struct {
	name  string
	count int
}

// calls returns the system calls of a save.
func (x *target) calls(t *testing.T) []call {
	t.Helper()
	trace, out, err := x.run(t)
	require.NoError(t, err, "%s", out)
	require.True(t, x.isNew(t))
	counts := make(map[string]int)
	var calls []call
	thread, _, _ := strings.Cut(trace, " ")
	saving := false
	for line := range strings.Lines(trace) {
		who, rest, _ := strings.Cut(line, " ")
		name, arguments, isCall := strings.Cut(strings.TrimSpace(rest), "(")
		if who != thread || !isCall || strings.Contains(name, " ") {
			continue
		}
		counts[name]++
		switch {
		case strings.Contains(arguments, saveBegins):
			saving = true
		case strings.Contains(arguments, saveEnds):
			return calls
		case saving && name != "mmap": // the allocator's vary
			calls = append(calls, call{name, counts[name]})
		}
	}
	t.Fatal("the end of the save is not in the trace")
	return nil
}

// needStraceOften is needStrace for tests that start a process for each system
// call.
func needStraceOften(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a process for each system call")
	}
	needStrace(t)
}

// needStrace lets strace pretend to remove a directory that does not exist.
func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		testenv.Skip(t, "strace is not installed")
	}
	cmd := exec.Command("strace", "-f", "-o", os.DevNull, "-e", "inject=?rmdir,unlinkat:retval=0", "rmdir", filepath.Join(t.TempDir(), "none"))
	if out, err := cmd.CombinedOutput(); err != nil {
		complaint, _, _ := strings.Cut(string(out), "\n")
		testenv.NotAllowed(t, "strace cannot change what a process does: "+complaint)
	}
}

// again checks that the next save succeeds, whatever the last one left behind.
func (x *target) again(t *testing.T) {
	t.Helper()
	r, err := x.file().Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, x.file().Save(t.Context(), r))
	require.Equal(t, keys(r, start), keys(loadFile(t, x.kek, x.name), start))
	mark, err := os.ReadFile(x.mark)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(r.Serial()), string(mark))
}

// A save is killed at each of its system calls.
func TestSaveKilled(t *testing.T) {
	needStraceOften(t)
	x := newTarget(t, t.TempDir())
	calls := x.calls(t)
	killed := make(map[string]int)
	old, replaced := 0, 0
	for _, c := range calls {
		x.reset(t)
		trace, out, _ := x.run(t, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", c.name, c.count))
		assert.Contains(t, trace, "killed by SIGKILL", "%v: %s", c, out)
		if x.isNew(t) {
			replaced++
		} else {
			old++
		}
		x.again(t)
		killed[c.name]++
	}
	assert.NotZero(t, killed["openat"])
	assert.NotZero(t, old)
	assert.NotZero(t, replaced)
	t.Logf("killed at %d calls, %v; %d times the file was the old one, %d times the new one", len(calls), killed, old, replaced)
}

// The draft is on the disk before it takes the old file's name, and the name
// after that. Then the same for the mark, which must never be ahead of the
// file. A crash of the machine cannot be tried, so the test looks at the calls.
func TestSaveOrder(t *testing.T) {
	needStrace(t)
	var order []string
	for _, c := range newTarget(t, t.TempDir()).calls(t) {
		switch {
		case strings.HasPrefix(c.name, "rename"):
			order = append(order, "rename")
		case slices.Contains([]string{"flock", "write", "fsync"}, c.name):
			order = append(order, c.name)
		}
	}
	once := []string{"flock", "write", "fsync", "rename", "fsync"}
	require.Equal(t, slices.Concat(once, once), order)
}

// System calls of a save fail, one at a time. If the save succeeds, the file is
// the new one. In no case does a draft remain.
func TestSaveFails(t *testing.T) {
	needStraceOften(t)
	errnos := map[string][]string{
		"openat":     {"EIO", "EROFS", "ENOSPC", "EACCES", "EMFILE"},
		"newfstatat": {"EIO"},
		"fstat":      {"EIO"},
		"flock":      {"ENOLCK", "EINTR"},
		"read":       {"EIO"},
		"write":      {"EIO", "ENOSPC", "EDQUOT", "EROFS"},
		"fsync":      {"EIO", "ENOSPC", "EROFS"},
		"fchown":     {"EPERM", "EIO"},
		"fchmod":     {"EPERM", "EIO"},
		"close":      {"EIO"},
		"renameat":   {"EIO", "ENOSPC", "EROFS"},
	}
	x := newTarget(t, t.TempDir())
	failed := make(map[string]int)
	for _, c := range x.calls(t) {
		for _, errno := range errnos[c.name] {
			x.reset(t)
			trace, out, err := x.run(t, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", c.name, errno, c.count))
			assert.Contains(t, trace, errno+" ", "%v", c)
			if !x.isNew(t) {
				assert.Error(t, err, "%v %s: %s", c, errno, out)
			}
			for _, name := range slices.Concat(files(t, x.dir), files(t, filepath.Dir(x.mark))) {
				assert.NotContains(t, name, ".tmp", "%v %s", c, errno)
			}
			x.again(t)
			if err != nil {
				assert.Contains(t, string(out), "keyring: ", "%v %s", c, errno)
				failed[c.name+" "+errno]++
			}
		}
	}
	for _, what := range []string{"write EIO", "write ENOSPC", "openat EROFS", "fsync EIO", "fchmod EIO"} {
		assert.NotZero(t, failed[what], what)
	}
	t.Logf("%d kinds of failure: %v", len(failed), slices.Sorted(maps.Keys(failed)))
}

// The disk is full: before the save, in the middle of it, and at its very end.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		testenv.NotAllowed(t, fmt.Sprintf("no tmpfs can be mounted: %v", err))
	}
	defer syscall.Unmount(dir, 0)
	x := newTarget(t, dir)
	// A ring of several pages.
	r := loadFile(t, x.kek, x.name)
	for range 200 {
		require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	}
	require.NoError(t, saveFile(t, r, x.kek, x.name))
	page := os.Getpagesize()
	failures := 0
	for free := range 6 {
		filler := filepath.Join(dir, "filler")
		fill(t, filler)
		info, err := os.Stat(filler)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(filler, info.Size()/int64(page)*int64(page)-int64(free*page)))

		before, err := os.ReadFile(x.name)
		require.NoError(t, err)
		require.NoError(t, r.Revoke(start, sealer(t, r, start)))
		err = saveFile(t, r, x.kek, x.name)
		after, readErr := os.ReadFile(x.name)
		require.NoError(t, readErr)
		if err != nil {
			failures++
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.True(t, bytes.Equal(before, after), "%d pages free", free)
		}
		require.Equal(t, []string{"filler", "ring", "ring.lock"}, files(t, dir))
		require.NoError(t, os.Remove(filler))
		require.NoError(t, saveFile(t, r, x.kek, x.name))
		require.Equal(t, keys(r, start), keys(loadFile(t, x.kek, x.name), start))
	}
	require.Greater(t, failures, 1)
	require.Less(t, failures, 6)
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
}

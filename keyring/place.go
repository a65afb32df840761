package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// place is where a file is or will be: an open directory, and a name in it. Its
// methods stay in that directory, even if somebody renames or links something
// meanwhile.
type place struct {
	dir  *os.Root
	name string
}

const (
	maxLinks   = 40
	maxRetries = 100

	maxWait      = 10 * time.Second // for a lock, if ctx has no deadline
	lockInterval = 10 * time.Millisecond
)

var (
	errNotRegular = errors.New("not a regular file")
	errDangling   = errors.New("a symbolic link to no file")
	errFileSize   = errors.New("file is too large")
	errLinks      = errors.New("too many symbolic links")
	errLinkOwner  = errors.New("a symbolic link of another user's")
	errLeadsOut   = errors.New("a symbolic link that leads out of a directory that others can write")
	errMoved      = errors.New("a directory was replaced meanwhile")
	errOwner      = errors.New("belongs to another user")
	errLocked     = errors.New("somebody else holds the lock")
)

// locate finds a file that is to be written. It follows a symbolic link only if
// root or this user owns it. Once the path reaches a directory that others can
// write, it must stay there: others could make it lead anywhere.
func locate(path string) (place, error) {
	w, root, err := find(path)
	if err == nil && root == nil {
		root, err = os.OpenRoot(w.dir)
	}
	return place{root, w.name}, err
}

// readTrusted reads a regular file of at most limit bytes, and finds it as
// locate does. The directory need not be readable.
func readTrusted(path string, limit int64) ([]byte, fs.FileInfo, error) {
	w, root, err := find(path)
	switch {
	case err != nil:
		return nil, nil, err
	case root == nil:
		// In a sticky directory, others may replace their own file by a
		// link.
		return openRegular(filepath.Join(w.dir, w.name), nofollow, limit)
	}
	defer root.Close()
	return place{root, w.name}.read(limit)
}

// find goes to the directory of a file. It opens the directory if others can
// write on the way there.
func find(path string) (w walk, root *os.Root, err error) {
	path, err = absolute(path)
	if err != nil {
		return w, nil, err
	}
	err = w.from(path)
	for err == nil && w.name == "" {
		if !isGuarded(w.info) && !w.goesBack() {
			root, err = w.confined()
			return w, root, err
		}
		err = w.step()
	}
	return w, nil, err
}

// walk is a position on the way to a file. Only root and this user can replace
// dir.
type walk struct {
	dir   string      // without symbolic links
	info  fs.FileInfo // of dir
	rest  string      // of the path
	name  string      // of the file, once it is found
	links int
	named bool // a link was in place of the file itself
}

// goesBack reports whether the path leaves the directory again at once. Then
// nothing in it need be trusted.
func (w *walk) goesBack() bool {
	for name := range strings.SplitSeq(w.rest, string(filepath.Separator)) {
		if name != "" && name != "." {
			return name == ".."
		}
	}
	return false
}

// from begins at the root of an absolute path.
func (w *walk) from(path string) (err error) {
	volume := filepath.VolumeName(path)
	w.dir, w.rest = volume+string(filepath.Separator), path[len(volume):]
	w.info, err = os.Lstat(w.dir)
	return err
}

// step takes one element of the path.
func (w *walk) step() error {
	name, rest, more := strings.Cut(w.rest, string(filepath.Separator))
	path := filepath.Join(w.dir, name)
	switch {
	case !more && isNoName(name):
		return errNotRegular
	case name == "..":
		path = filepath.Dir(w.dir)
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeSymlink:
		return w.follow(path, info, rest, more)
	case err == nil && more:
		w.dir, w.info, w.rest = path, info, rest
		return nil
	case err != nil && (more || !errors.Is(err, fs.ErrNotExist)):
		return err
	case err != nil && w.named:
		return errDangling
	}
	w.name = name
	return nil
}

// follow replaces a link by its target.
func (w *walk) follow(name string, info fs.FileInfo, rest string, more bool) error {
	if !isOurs(info) {
		return errLinkOwner
	}
	if w.links++; w.links > maxLinks {
		return errLinks
	}
	target, err := os.Readlink(name)
	if err != nil {
		return err
	}
	w.named = w.named || !more
	if more {
		target += string(filepath.Separator) + rest
	}
	if filepath.IsAbs(target) {
		return w.from(target)
	}
	w.rest = target
	return nil
}

// confined goes the rest of the way inside an open directory.
func (w *walk) confined() (*os.Root, error) {
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if info, err := root.Stat("."); err != nil || !os.SameFile(info, w.info) {
		return nil, errors.Join(errMoved, err)
	}
	w.rest = strings.TrimLeft(w.rest, string(filepath.Separator))
	for ; w.links <= maxLinks; w.links++ {
		dir, name := filepath.Split(w.rest)
		if isNoName(name) {
			return nil, errNotRegular
		}
		info, err := root.Lstat(w.rest)
		switch {
		case err == nil && info.Mode().Type() == fs.ModeSymlink:
			if err := w.confinedFollow(root, dir, info); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, fs.ErrNotExist) && w.named:
			return nil, errDangling
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		w.name = name
		return root.OpenRoot(dir + ".")
	}
	return nil, errLinks
}

// confinedFollow is follow for a link in place of the file. root follows links
// to directories, whoever made them, and lets none lead out.
func (w *walk) confinedFollow(root *os.Root, dir string, info fs.FileInfo) error {
	if !isOurs(info) {
		return errLinkOwner
	}
	target, err := root.Readlink(w.rest)
	if err == nil && filepath.IsAbs(target) {
		err = errLeadsOut
	}
	w.rest, w.named = dir+target, true
	return err
}

func isNoName(name string) bool { return name == "" || name == "." || name == ".." }

func (p place) close() { p.dir.Close() }

// readRegular reads a regular file of at most limit bytes. It follows symbolic
// links, whoever made them.
func readRegular(name string, limit int64) ([]byte, fs.FileInfo, error) {
	return openRegular(name, 0, limit)
}

func openRegular(name string, flag int, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|nonblock|flag, 0)
	if err != nil {
		return nil, nil, err
	}
	return readAll(f, limit)
}

// read is readRegular for the file at p.
func (p place) read(limit int64) ([]byte, fs.FileInfo, error) {
	f, err := p.dir.OpenFile(p.name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	return readAll(f, limit)
}

func readAll(f *os.File, limit int64) ([]byte, fs.FileInfo, error) {
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errNotRegular
	case info.Size() > limit:
		return nil, nil, errFileSize
	}
	// The file may grow meanwhile.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errFileSize
	}
	return data, info, err
}

// create writes a new file of mode 0600, durably.
func (p place) create(data []byte) error {
	f, err := p.dir.OpenFile(p.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := finish(f, data); err != nil {
		p.dir.Remove(p.name)
		return err
	}
	return p.sync()
}

// replace writes a draft beside the old file, syncs it, and renames it over
// that.
func (p place) replace(data []byte) error {
	draft := fmt.Sprintf(".%s.%08x.tmp", p.name, rand.Uint32())
	f, err := p.dir.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(p.copyAccess(f), finish(f, data))
	if err == nil {
		err = p.dir.Rename(draft, p.name)
	}
	if err != nil {
		p.dir.Remove(draft)
		return err
	}
	return p.sync()
}

// finish writes data durably and closes f.
func finish(f *os.File, data []byte) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// copyAccess gives f the mode and owner of the file that it is to replace, if
// there is one. If nothing differs, it changes nothing: not every file system
// can.
func (p place) copyAccess(f *os.File) error {
	old, err := p.dir.Lstat(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	draft, draftErr := f.Stat()
	if err := errors.Join(err, draftErr); err != nil {
		return err
	}
	copyOwner(f, draft, old)
	if draft.Mode() == old.Mode() {
		return nil
	}
	return f.Chmod(old.Mode().Perm())
}

// lock locks p, by a file of p's name and ".lock". It makes that file if it is
// missing, and leaves it in place. If somebody else holds the lock, the error
// is ErrConflict. With wait, lock waits for it until ctx ends, or for maxWait
// if ctx has no deadline, because whoever can open the lock file can hold the
// lock. The lock ends with the process, however that ends.
func (p place) lock(ctx context.Context, wait bool) (unlock func() error, err error) {
	if !canLock {
		return func() error { return nil }, nil
	}
	lock := place{p.dir, p.name + ".lock"}
	for range maxRetries {
		f, err := lock.openOrMake()
		if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			continue // made or removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		err = flock(f)
		if wait && errors.Is(err, ErrConflict) {
			err = waitFor(ctx, f)
		}
		same := false
		if err == nil {
			same, err = lock.names(f)
		}
		if same {
			return f.Close, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		// A lock on a file that has lost its name excludes nobody.
	}
	return nil, ErrConflict
}

// waitFor locks f, which somebody else has locked.
func waitFor(ctx context.Context, f *os.File) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxWait)
		defer cancel()
	}
	again := time.NewTicker(lockInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errLocked, ctx.Err())
		case <-again.C:
		}
		if err := flock(f); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// openOrMake opens or makes a regular file that is ours. It follows no link.
func (p place) openOrMake() (*os.File, error) {
	flag := os.O_RDWR | nonblock
	info, err := p.dir.Lstat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		flag = os.O_RDWR | os.O_CREATE | os.O_EXCL
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", p.name, errNotRegular)
	}
	f, err := p.dir.OpenFile(p.name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !isOurs(info) {
		err = fmt.Errorf("%s: %w", p.name, errOwner)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// names reports whether p still names f.
func (p place) names(f *os.File) (bool, error) {
	is, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := p.dir.Lstat(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(is, named), err
}

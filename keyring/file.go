package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

var (
	errNotRegular = errors.New("not a regular file")
	errDangling   = errors.New("a symbolic link to no file")
	errFileSize   = errors.New("file is too large")
)

// ReadFile returns the content of a file of at most 1 MiB for [Load] or
// [Ring.Update]. It follows symbolic links. What is not a regular file is
// refused, without waiting for a writer where it is a pipe.
func ReadFile(name string) ([]byte, error) {
	data, _, err := readRegular(name, maxSealed)
	if err != nil {
		return nil, fmt.Errorf("keyring: reading %s: %w", name, err)
	}
	return data, nil
}

// readRegular reads a regular file of at most limit bytes.
func readRegular(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, nil, err
	}
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

// finish writes data durably and closes f.
func finish(f *os.File, data []byte) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// WriteFile saves the sealed form of the ring, durably: after a crash at any moment
// the file is the old one or the new one. A crash may leave a draft beside it,
// named .*.tmp and sealed as well. name may be a symbolic link, which then stays.
// The last step makes the new file durable: after an error of that, the new file is
// in place all the same. Saving again is safe.
//
// The first file has mode 0600. The next ones have the mode of the one before, and
// its owner and group as far as the system allows; nothing else, such as an access
// control list, is taken over.
//
// A file that is there already must be a version that this ring was loaded from
// or saved as, or have the same content; else the error is [ErrConflict] or
// [ErrRollback], and the file stays as it is. It also stays, with an error, where
// kek does not open it. Of two processes on one host that save at the same time,
// one gets ErrConflict. On Unix a lock on the file name + ".lock", which is left in
// place, sees to that. A saver on another host is not noticed.
func (r *Ring) WriteFile(ctx context.Context, kek KEK, name string) error {
	name, err := resolve(name)
	if err != nil {
		return fmt.Errorf("keyring: saving: %w", err)
	}
	unlock, err := lock(name+".lock", false)
	if err != nil {
		return fmt.Errorf("keyring: locking: %w", err)
	}
	defer unlock()
	old, err := ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.save(ctx, kek, old, func(sealed []byte) error {
		if err := replace(name, sealed); err != nil {
			return fmt.Errorf("keyring: saving: %w", err)
		}
		return nil
	})
}

// resolve follows symbolic links as far as the file exists. What exists has to be
// a regular file: nothing else is to get a lock beside it, which would stay.
func resolve(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: %w", name, errNotRegular)
	case err == nil:
		return filepath.EvalSymlinks(name)
	case name == "", !errors.Is(err, fs.ErrNotExist):
		return "", err // it names the file
	}
	// It may have been made meanwhile.
	if info, err := os.Lstat(name); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return "", fmt.Errorf("%s: %w", name, errDangling) // it would be replaced
	}
	return name, nil
}

// replace writes a file beside the old one, which it replaces once all of it is
// on the disk.
func replace(name string, data []byte) error {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	err = errors.Join(giveAccess(f, name), finish(f, data))
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

// giveAccess lets those read f who can read the file that it is to replace, if
// there is one. Where nothing has to be changed for that it changes nothing: not
// every file system can.
func giveAccess(f *os.File, name string) error {
	old, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	draft, draftErr := f.Stat()
	if err := errors.Join(err, draftErr); err != nil {
		return err
	}
	giveOwner(f, draft, old)
	if draft.Mode() == old.Mode() {
		return nil
	}
	return f.Chmod(old.Mode().Perm())
}

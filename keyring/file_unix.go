//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package keyring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	nonblock = syscall.O_NONBLOCK // don't wait for a pipe's writer
	nofollow = syscall.O_NOFOLLOW
	canLock  = true
)

// flock locks a file. If somebody else holds the lock, it returns ErrConflict.
func flock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == syscall.EINTR:
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrConflict
		default:
			return err
		}
	}
}

// sync makes the names in the directory durable.
func (p place) sync() error {
	d, err := p.dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyOwner gives f, whose info is is, the owner and group of another file. If
// only root may do that, it gives f the group alone, or neither.
func copyOwner(f *os.File, is, other fs.FileInfo) {
	from, ok := is.Sys().(*syscall.Stat_t)
	to, okToo := other.Sys().(*syscall.Stat_t)
	if !ok || !okToo || from.Uid == to.Uid && from.Gid == to.Gid {
		return
	}
	if f.Chown(int(to.Uid), int(to.Gid)) != nil {
		f.Chown(-1, int(to.Gid))
	}
}

// isOurs reports whether a file belongs to root or to this process's user.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

// isGuarded reports whether others can neither rename nor remove our files in a
// directory, nor give write permission to those who could.
func isGuarded(dir fs.FileInfo) bool {
	return isOurs(dir) && (dir.Mode()&fs.ModeSticky != 0 || dir.Mode().Perm()&0o022 == 0)
}

// checkAccess returns errOwner unless the file is ours, and err if it has any
// of the forbidden permissions.
func checkAccess(info fs.FileInfo, forbidden fs.FileMode, err error) error {
	switch {
	case !isOurs(info):
		return errOwner
	case info.Mode().Perm()&forbidden != 0:
		return err
	}
	return nil
}

// absolute keeps every "..", because its meaning depends on the links before
// it.
func absolute(path string) (string, error) {
	if path == "" {
		return "", fs.ErrNotExist
	}
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Getwd()
	return dir + string(filepath.Separator) + path, err
}

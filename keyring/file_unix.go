//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package keyring

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// nonblock opens a pipe without waiting for who writes to it.
const nonblock = syscall.O_NONBLOCK

// lock takes the lock on a file, which it makes where it is missing. Where
// another holds it, it waits, or returns ErrConflict. The lock ends with the
// process, however that ends.
func lock(name string, wait bool) (unlock func() error, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|nonblock, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if wait {
		how = syscall.LOCK_EX
	}
	for {
		if err = syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			break
		}
	}
	if err == nil {
		return f.Close, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrConflict
	}
	return nil, err
}

// syncDir makes the names in a directory durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// giveOwner gives f, of which is tells what it is, the owner and group of another
// file. Where only root may do that, it gives it the group alone, or neither.
func giveOwner(f *os.File, is, other fs.FileInfo) {
	from, ok := is.Sys().(*syscall.Stat_t)
	to, okToo := other.Sys().(*syscall.Stat_t)
	if !ok || !okToo || from.Uid == to.Uid && from.Gid == to.Gid {
		return
	}
	if f.Chown(int(to.Uid), int(to.Gid)) != nil {
		f.Chown(-1, int(to.Gid))
	}
}

func checkPrivate(info fs.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return errKEKMode
	}
	return nil
}

//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package keyring

import (
	"io/fs"
	"os"
	"path/filepath"
)

// On these systems the standard library has no lock, directories cannot be
// synced, and a file's owner and mode do not say who can read and write it.

const (
	nonblock = 0
	nofollow = 0
	canLock  = false
)

func flock(*os.File) error { return nil }

func (place) sync() error { return nil }

func copyOwner(*os.File, fs.FileInfo, fs.FileInfo) {}

func isOurs(fs.FileInfo) bool { return true }

func isGuarded(fs.FileInfo) bool { return true }

func checkAccess(fs.FileInfo, fs.FileMode, error) error { return nil }

// absolute removes .. lexically, as the system does.
func absolute(path string) (string, error) {
	if path == "" {
		return "", fs.ErrNotExist
	}
	return filepath.Abs(path)
}

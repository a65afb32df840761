package keyring

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// File is a sealed ring in a file that another process rotates, and what it
// takes to use it. Name and KEK are needed.
type File struct {
	// Name is the file's. Symbolic links in it are followed anew each time, so
	// that it may be in a volume of Kubernetes', which swaps one.
	Name string

	// KEK opens the file. With a [KEKFile] it can be another one later on.
	KEK    KEK
	Config Config

	// HighWater names a second file, in which this process keeps the highest
	// serial that it has seen, in decimal: after a restart it refuses an older
	// ring with [ErrRollback], as it refuses one below Config.MinSerial. A file
	// that is missing is made, and stands for no serial. It has to be out of reach
	// of whoever could put an old ring in place, and to outlive the process. It
	// may be a symbolic link, to a file that has to be there: at first, write 0
	// into that. Processes of one host may share it: on Unix a lock on the file
	// name + ".lock", beside the file itself, sees to that. Empty means no such
	// file.
	HighWater string
}

// Follow loads the ring and returns what keeps it up to date.
func (f File) Follow(ctx context.Context, now time.Time) (*Follower, error) {
	highest, err := f.HighestSerial()
	if err != nil {
		return nil, err
	}
	sealed, err := ReadFile(f.Name)
	if err != nil {
		return nil, err
	}
	c := f.Config
	c.MinSerial = max(c.MinSerial, highest)
	r, err := Load(ctx, f.KEK, sealed, c)
	if err == nil {
		err = f.record(r.Serial())
	}
	if err != nil {
		return nil, err
	}
	follower := &Follower{file: f, ring: r, sum: sha256.Sum256(sealed), serial: r.Serial()}
	follower.refreshed.Store(&now)
	return follower, nil
}

// Follower keeps a ring up to date with its file, whenever Refresh is called.
// It is made by [File.Follow] and safe for concurrent use.
type Follower struct {
	file      File
	ring      *Ring
	refreshed atomic.Pointer[time.Time]

	mu     sync.Mutex  // held throughout a refresh
	sum    fingerprint // of the file's content when last taken up,
	serial uint64      // and the serial that the ring had then
}

// Ring returns the ring, which is the same one at all times.
func (f *Follower) Ring() *Ring { return f.ring }

// Refresh puts the file's version of the ring in force if it is newer, and
// reports whether that changed anything. Call it every so often, several times
// within Policy.Lead, in which each host must have heard of the next key.
// Nobody who uses the ring waits for it, and the KEK is asked only where the
// file has changed.
//
// If anything about the file is wrong, the version in force stays, and the error
// says why: it is one of [ReadFile] or [Ring.Update]. One error is different: if
// the HighWater file cannot be written, the newer version is in force all the
// same, because it may revoke a key. After any error the next call tries again.
func (f *Follower) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err = f.refresh(ctx)
	if err == nil {
		f.refreshed.Store(&now)
	}
	return changed, err
}

func (f *Follower) refresh(ctx context.Context) (changed bool, err error) {
	sealed, err := ReadFile(f.file.Name)
	if err != nil {
		return false, err
	}
	// Times and sizes do not tell for certain whether a file has changed.
	sum := fingerprint(sha256.Sum256(sealed))
	if sum == f.sum && f.ring.Serial() == f.serial {
		return false, nil
	}
	changed, err = f.ring.Update(ctx, f.file.KEK, sealed)
	if err != nil {
		return false, err
	}
	serial := f.ring.Serial()
	if err := f.file.record(serial); err != nil {
		return changed, err
	}
	f.sum, f.serial = sum, serial
	return changed, nil
}

// Stale returns for how long the ring may have been out of date: the time from
// the last Refresh without an error, or from the start, to now. It grows when
// nobody calls Refresh, or when that waits for a file system or KEK, too. From
// Policy.Lead on, less ClockSkew and a second, tokens may be refused that other
// hosts mint under a key that is not known here.
func (f *Follower) Stale(now time.Time) time.Duration {
	// Not by the monotonic clock, which stands still while a host is suspended:
	// keys go on by the time of day.
	return max(0, now.Round(0).Sub(*f.refreshed.Load()))
}

const maxHighWater = 64

var errHighWater = errors.New("not a serial in decimal")

// HighestSerial returns what is in the HighWater file, or 0 where there is none.
func (f File) HighestSerial() (uint64, error) {
	if f.HighWater == "" {
		return 0, nil
	}
	var data []byte
	name, err := resolve(f.HighWater) // a link to no file is an error before it is written to
	if err == nil {
		data, _, err = readRegular(name, maxHighWater)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
	}
	text := strings.TrimSuffix(string(data), "\n")
	serial, parseErr := strconv.ParseUint(text, 10, 63)
	if err == nil && (parseErr != nil || strconv.FormatUint(serial, 10) != text) {
		err = errHighWater
	}
	if err != nil {
		return 0, fmt.Errorf("keyring: reading the high-water mark %s: %w", f.HighWater, err)
	}
	return serial, nil
}

// record writes serial to the HighWater file, unless a higher one is there.
func (f File) record(serial uint64) error {
	highest, err := f.HighestSerial()
	if err != nil || f.HighWater == "" || serial <= highest {
		return err
	}
	if err := f.raise(serial); err != nil {
		return fmt.Errorf("keyring: writing the high-water mark: %w", err)
	}
	return nil
}

// raise is for one process at a time: it would else lower the mark that another
// one writes between its look at the file and its own writing.
func (f File) raise(serial uint64) error {
	name, err := resolve(f.HighWater)
	if err != nil {
		return err
	}
	unlock, err := lock(name+".lock", true)
	if err != nil {
		return err
	}
	defer unlock()
	highest, err := f.HighestSerial()
	if err == nil && serial > highest {
		err = replace(name, fmt.Appendln(nil, serial))
	}
	return err
}

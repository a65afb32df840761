package keyring

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Follow loads the ring and returns what keeps it up to date.
func (f File) Follow(ctx context.Context, now time.Time) (*Follower, error) {
	r, sum, err := f.load(ctx)
	if err != nil {
		return nil, err
	}
	follower := &Follower{file: f, ring: r, sum: sum, serial: r.Serial()}
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

// String returns what that of the ring does.
func (f *Follower) String() string { return f.ring.String() }

// Format writes what String returns, whatever the verb.
func (f *Follower) Format(s fmt.State, verb rune) { f.ring.Format(s, verb) }

// LogValue returns what that of the ring does.
func (f *Follower) LogValue() slog.Value { return f.ring.LogValue() }

// Ring returns the ring, which is the same one at all times.
func (f *Follower) Ring() *Ring { return f.ring }

// Refresh puts the file's version of the ring in force if it is newer, and
// reports whether that changed anything. Call it every so often, several times
// within Policy.Lead, in which each host must have heard of the next key.
// Nobody who uses the ring waits for it, and the KEK is asked only where the
// file has changed.
//
// If anything about the file is wrong, the version in force stays, and the
// error says why: it is one of reading, or of [Ring.Update]. [ErrRollback] also
// says that a process that shares the HighWater file has seen a newer one. One
// error is different: if the HighWater file cannot be read or written, or its
// lock is not to be had before ctx ends, the newer version is in force all the
// same, because it may revoke a key. After any error the next call tries again.
func (f *Follower) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The clock was set back. What is said to be of the future would not age.
	if now.Round(0).Before(*f.refreshed.Load()) {
		f.refreshed.Store(&now)
	}
	changed, err = f.refresh(ctx)
	if err == nil {
		f.refreshed.Store(&now)
	}
	return changed, err
}

func (f *Follower) refresh(ctx context.Context) (changed bool, err error) {
	// The mark first: what others adopt later is no reason to refuse this.
	known, markErr := f.file.highest()
	sealed, err := f.file.read()
	if err != nil {
		return false, err
	}
	// Times and sizes do not tell for certain whether a file has changed.
	sum := fingerprint(sha256.Sum256(sealed))
	if sum == f.sum && f.ring.Serial() == f.serial {
		if f.serial < known {
			return false, ErrRollback
		}
		return false, markErr
	}
	changed, err = f.ring.update(ctx, f.file.KEK, sealed, known)
	if err != nil {
		return false, err
	}
	serial := f.ring.Serial()
	if err := f.file.record(ctx, known, serial); err != nil {
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
//
// It says nothing about a file that can be read and never changes, as where the
// file itself is mounted and not its directory: see Health.
func (f *Follower) Stale(now time.Time) time.Duration {
	// Not by the monotonic clock, which stands still while a host is suspended:
	// keys go on by the time of day.
	return max(0, now.Round(0).Sub(*f.refreshed.Load()))
}

// Health returns nil if new keys reach this process in time, and else an error
// that says what keeps them away: the ring is overdue, whatever the cause (see
// [Ring.Overdue]), its next rotation is far ahead (see [Ring.FarAhead]), or
// this process has not refreshed it for more than half of Policy.Lead. As a
// rule nobody has been refused for that yet.
func (f *Follower) Health(now time.Time) error {
	if err := f.ring.health(now); err != nil {
		return err
	}
	if d := f.Stale(now); d > f.ring.Policy().Lead/2 {
		return fmt.Errorf("keyring: stale: not refreshed for %v", d.Truncate(time.Second))
	}
	return nil
}

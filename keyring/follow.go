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

// Follow loads the ring as [File.Load] does, and returns its Follower.
func (f File) Follow(ctx context.Context, now time.Time) (*Follower, error) {
	r, sum, err := f.load(ctx)
	if err != nil {
		return nil, err
	}
	follower := &Follower{file: f, ring: r, sum: sum, serial: r.Serial()}
	follower.refreshed.Store(&now)
	return follower, nil
}

// Follower keeps a ring up to date with its file. [File.Follow] makes it, and
// the caller calls Refresh. It is safe for concurrent use.
type Follower struct {
	file      File
	ring      *Ring
	refreshed atomic.Pointer[time.Time]

	mu     sync.Mutex  // held throughout a refresh
	sum    fingerprint // of the file when last adopted,
	serial uint64      // and the serial that the ring had then
}

// String returns what the ring's String does.
func (f *Follower) String() string { return f.ring.String() }

// Format writes what String returns, whatever the verb.
func (f *Follower) Format(s fmt.State, verb rune) { f.ring.Format(s, verb) }

// LogValue returns what the ring's LogValue does.
func (f *Follower) LogValue() slog.Value { return f.ring.LogValue() }

// Ring returns the ring, always the same one.
func (f *Follower) Ring() *Ring { return f.ring }

// Refresh puts the file's version of the ring in force if it is newer, and
// reports whether that changed anything. Call it several times within
// Policy.Lead, the time in which each host must learn of the next key. Users of
// the ring never wait for it. It asks the KEK only if the file has changed.
//
// If anything about the file is wrong, the version in force stays. The error is
// one of reading, or of [Ring.Update]. [ErrRollback] also says that a process
// that shares the HighWater file has seen a newer version. One error is
// different: if the HighWater file cannot be read, written or locked before ctx
// ends, the newer version is in force all the same, because it may revoke a
// key. After any error the next call tries again.
func (f *Follower) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The clock was set back. A time in the future would not age.
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
	// Read the mark first: it may rise before the file is read, and must
	// not refuse that file then.
	known, markErr := f.file.highest()
	sealed, err := f.file.read()
	if err != nil {
		return false, err
	}
	// Times and sizes do not prove that a file is unchanged.
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
// the last Refresh without an error, or from Follow, to now. It also grows when
// nobody calls Refresh, or when Refresh waits for a file system or a KEK. Once
// it reaches Policy.Lead, less ClockSkew and a second, this host may refuse
// tokens that others mint under a key that it does not know.
//
// It does not see a file that can be read and never changes, such as a mount of
// the file itself instead of its directory. Health does.
func (f *Follower) Stale(now time.Time) time.Duration {
	// Drop the monotonic clock, which stands still while a host is
	// suspended: keys go by the time of day.
	return max(0, now.Round(0).Sub(*f.refreshed.Load()))
}

// Health returns nil if new keys reach this process in time. Otherwise the
// error says what is wrong:
//
//   - overdue: the next key is missing (see [Ring.Overdue]);
//   - far ahead: the next rotation is too late (see [Ring.FarAhead]);
//   - stale: the last Refresh without an error is more than half of Policy.Lead
//     ago (see Stale).
//
// As a rule, no token has been refused for that yet.
func (f *Follower) Health(now time.Time) error {
	if err := f.ring.health(now); err != nil {
		return err
	}
	if d := f.Stale(now); d > f.ring.Policy().Lead/2 {
		return fmt.Errorf("keyring: stale: not refreshed for %v", d.Truncate(time.Second))
	}
	return nil
}

package keyring

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// File is a sealed ring in a file. One process makes and rotates the ring
// ([File.Create], [File.Load], [File.Save]). The others follow it
// ([File.Follow]). Name and KEK are required.
//
// On Unix, File checks symbolic links, owners, modes and locks. It reads the
// ring through any link, because the KEK tells if the ring is authentic. To
// write the ring, and for the HighWater file and a [KEKFile], there are two
// rules:
//
//   - It follows only links of root or of this user.
//   - Once the path enters a directory that others can write, it must not leave
//     that. Others choose the file in there, but cannot have root write
//     elsewhere.
//
// So it can follow a Kubernetes volume, which swaps a link. A link in place of
// the file stays there when File saves. A lock file must belong to root or to
// this user, and not be a link.
type File struct {
	// Name is the file's name. Each call looks it up anew.
	Name string

	// KEK opens the file. A [KEKFile] may have another KEK later.
	KEK    KEK
	Config Config

	// HighWater names a second file, which keeps the highest serial that
	// this process has seen, in decimal. After a restart, an older ring is
	// refused with [ErrRollback], as one below Config.MinSerial is. Empty
	// means no such file.
	//
	// A missing file stands for no serial, and is made. The file must
	// outlive the process. Whoever could put an old ring in place must not
	// reach it: it must belong to root or to this user, and nobody else may
	// write it. It may be a symbolic link to a file that exists: write 0
	// into that at first.
	//
	// Processes of one host may share it. On Unix they lock the file name +
	// ".lock" beside it, and wait for each other until the context ends, or
	// for 10 s if the context has no deadline.
	HighWater string

	// InsecureAnyMode accepts a HighWater file of any mode and owner, for
	// places where these cannot be chosen, such as fsGroup in Kubernetes.
	InsecureAnyMode bool
}

// Create makes a new ring, as [New] does, and saves it in a new file. Its
// serial is one above that in the HighWater file. If Name exists, the error
// matches [fs.ErrExist]. If making the file durable or writing the HighWater
// file fails, the file exists all the same: load it.
func (f File) Create(ctx context.Context, now time.Time) (*Ring, error) {
	known, err := f.highest()
	if err != nil {
		return nil, err
	}
	c := f.Config
	c.MinSerial = max(c.MinSerial, known+1)
	r, err := New(now, c)
	if err == nil {
		err = f.put(ctx, r, known, true)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Load loads the ring, and raises the HighWater mark to its serial. It returns
// the errors of [Load], and those of reading and writing the mark: a process
// that cannot remember what it saw does not start. An error repeats nothing of
// a file but the KEK's ID.
func (f File) Load(ctx context.Context) (*Ring, error) {
	r, _, err := f.load(ctx)
	return r, err
}

// Inspect loads the ring as [File.Load] does, but writes nothing. Another user
// can look without leaving a file behind.
func (f File) Inspect(ctx context.Context) (*Ring, error) {
	r, _, _, err := f.inspect(ctx)
	return r, err
}

func (f File) load(ctx context.Context) (*Ring, fingerprint, error) {
	r, sum, known, err := f.inspect(ctx)
	if err == nil {
		err = f.record(ctx, known, r.Serial())
	}
	if err != nil {
		return nil, fingerprint{}, err
	}
	return r, sum, nil
}

// inspect returns the ring, its file's hash, and the mark.
func (f File) inspect(ctx context.Context) (*Ring, fingerprint, uint64, error) {
	known, err := f.highest()
	if err != nil {
		return nil, fingerprint{}, 0, err
	}
	sealed, err := f.read()
	if err != nil {
		return nil, fingerprint{}, 0, err
	}
	c := f.Config
	c.MinSerial = max(c.MinSerial, known)
	r, err := Load(ctx, f.KEK, sealed, c)
	return r, sha256.Sum256(sealed), known, err
}

func (f File) read() ([]byte, error) {
	sealed, _, err := readRegular(f.Name, maxSealed)
	if err != nil {
		return nil, fmt.Errorf("keyring: reading %s: %w", f.Name, err)
	}
	return sealed, nil
}

// Save saves the ring durably: after a crash at any moment, the file is the old
// one or the new one. A crash may leave a draft beside it, named .*.tmp and
// sealed as well. The last two steps make the new file durable and raise the
// HighWater mark. If one of them fails, the new file is in place all the same.
// Saving again is safe.
//
// A new file has mode 0600. A replacement has the mode of the old file, and its
// owner and group as far as the system allows. Nothing else, such as an access
// control list, is kept.
//
// An existing file must be a version that this ring was loaded from or saved
// as, or have the same content. Otherwise the error is [ErrConflict],
// [ErrRollback] or [ErrContext], and the file stays as it is. It also stays,
// with an error, if KEK does not open it. If two processes on one host save at
// the same time, one gets ErrConflict: on Unix Save locks the file name +
// ".lock", and leaves that in place. Save does not notice a writer on another
// host.
func (f File) Save(ctx context.Context, r *Ring) error {
	known, err := f.highest()
	if err != nil {
		return err
	}
	return f.put(ctx, r, known, false)
}

// put saves a ring in a new file or over the old one. known is the mark.
func (f File) put(ctx context.Context, r *Ring, known uint64, isNew bool) error {
	r.mu.Lock()
	s, base := r.load(), r.base
	r.mu.Unlock()
	switch known := max(known, f.Config.MinSerial); {
	case r.context != f.Config.Context:
		return ErrContext // nobody could load it
	case s.serial < known:
		return ErrRollback
	case known > 0 && s.serial > ceiling(known):
		return errAhead
	}
	p, err := locate(f.Name)
	if err != nil {
		return fmt.Errorf("keyring: saving %s: %w", f.Name, err)
	}
	defer p.close()
	if err := p.check(isNew); err != nil {
		return fmt.Errorf("keyring: saving %s: %w", f.Name, err)
	}
	unlock, err := p.lock(ctx, false)
	if err != nil {
		return fmt.Errorf("keyring: locking %s: %w", f.Name, err)
	}
	defer unlock()
	if err := f.exchange(ctx, r, s, base, p, isNew); err != nil {
		return err
	}
	return f.record(ctx, known, s.serial)
}

// check looks, before it makes a lock file, at what is to be made or replaced.
func (p place) check(isNew bool) error {
	info, err := p.dir.Lstat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case isNew:
		return fs.ErrExist
	case !info.Mode().IsRegular():
		return errNotRegular
	}
	return nil
}

// exchange replaces the file. The caller holds the lock.
func (f File) exchange(ctx context.Context, r *Ring, s *snapshot, base fingerprint, p place, isNew bool) error {
	old, _, err := p.read(maxSealed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return fmt.Errorf("keyring: reading %s: %w", f.Name, err)
	case isNew:
		return fmt.Errorf("keyring: saving %s: %w", f.Name, fs.ErrExist)
	}
	return r.save(ctx, f.KEK, s, base, old, func(sealed []byte) error {
		if err := p.replace(sealed); err != nil {
			return fmt.Errorf("keyring: saving %s: %w", f.Name, err)
		}
		return nil
	})
}

const maxHighWater = 64

var (
	errHighWater = errors.New("not a serial in decimal")
	errMarkMode  = errors.New("others can write it; its mode must be 0644 or less")
)

// highest returns what is in the HighWater file, or 0 if there is none.
func (f File) highest() (uint64, error) {
	if f.HighWater == "" {
		return 0, nil
	}
	serial, err := f.parseHighWater(readTrusted(f.HighWater, maxHighWater))
	if err != nil {
		return 0, fmt.Errorf("keyring: reading the high-water mark %s: %w", f.HighWater, err)
	}
	return serial, nil
}

func (f File) parseHighWater(data []byte, info fs.FileInfo, err error) (uint64, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil && !f.InsecureAnyMode {
		err = checkAccess(info, 0o022, errMarkMode)
	}
	if err != nil {
		return 0, err
	}
	text := strings.TrimSuffix(string(data), "\n")
	serial, err := strconv.ParseUint(text, 10, 63)
	if err != nil || strconv.FormatUint(serial, 10) != text {
		return 0, errHighWater
	}
	return serial, nil
}

// record raises the HighWater mark to serial, unless known is as high.
func (f File) record(ctx context.Context, known, serial uint64) error {
	if f.HighWater == "" || serial <= known {
		return nil
	}
	if err := f.raise(ctx, serial); err != nil {
		return fmt.Errorf("keyring: writing the high-water mark %s: %w", f.HighWater, err)
	}
	return nil
}

// raise locks out other processes: one of them might write a higher mark
// between this one's read and write.
func (f File) raise(ctx context.Context, serial uint64) error {
	p, err := locate(f.HighWater)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.check(false); err != nil {
		return err
	}
	unlock, err := p.lock(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	known, err := f.parseHighWater(p.read(maxHighWater))
	if err != nil || serial <= known {
		return err
	}
	return p.replace(fmt.Appendln(nil, serial))
}

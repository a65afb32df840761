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

// File is a sealed ring in a file, and what it takes to use it. One process
// makes and rotates the ring ([File.Create], [File.Load], [File.Save]); the
// others follow it ([File.Follow]). Name and KEK are needed.
//
// What is only read, the ring, may be reached by any symbolic link: its KEK
// tells whether it is authentic. What is written, or trusted as it is, the
// HighWater file and that of a [KEKFile], is reached only by links that belong
// to root or to this user. Once the path has come to a directory that others
// can write, it must not lead out again; which of the files in there is meant,
// they can say. So nobody has root write elsewhere. A volume of Kubernetes',
// which swaps a link, can be followed, and a link that is in place of a file
// stays there when the file is saved. A lock file is never a link, and belongs
// to root or to this user. This goes for Unix, as does all that is said of
// owners, modes and locks.
type File struct {
	// Name is the file's. It is looked up anew each time.
	Name string

	// KEK opens the file. With a [KEKFile] it can be another one later on.
	KEK    KEK
	Config Config

	// HighWater names a second file, in which this process keeps the highest
	// serial that it has seen, in decimal: after a restart it refuses an older
	// ring with [ErrRollback], as it refuses one below Config.MinSerial. A file
	// that is missing is made, and stands for no serial. It has to be out of
	// reach of whoever could put an old ring in place, to outlive the process,
	// and to belong to root or to this user, and nobody else may write it. It
	// may be a symbolic link, to a file that has to be there: at first, write 0
	// into that. Processes of one host may share it: on Unix a lock on the file
	// name + ".lock", beside the file itself, sees to that. They wait for each
	// other until the context ends, for 10 s if it has no deadline. Empty means
	// no such file.
	HighWater string

	// InsecureAnyMode has the HighWater file used whatever its mode and owner,
	// for places where these cannot be chosen, as with fsGroup in Kubernetes.
	InsecureAnyMode bool
}

// Create makes a new ring, as [New] does, and a file that has it. Its serial
// is the one after that in the HighWater file. It is an error that matches
// [fs.ErrExist] if there is something by that name. After an error of making
// the new file durable or of writing the HighWater file, the file is there all
// the same: load it.
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

// Load loads the ring, and raises the HighWater mark to its serial. The errors
// are those of [Load], of reading and of writing that mark, for example because
// the disk is full: a process that cannot remember what it saw does not start.
// None repeats anything of a file but the name of the KEK.
func (f File) Load(ctx context.Context) (*Ring, error) {
	r, _, err := f.load(ctx)
	return r, err
}

// Inspect loads the ring as [File.Load] does, and writes nothing: a look at it,
// also as another user, leaves no file behind.
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

// inspect returns the ring, the sum of its file, and the mark.
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

// Save saves the ring, durably: after a crash at any moment the file is the old
// one or the new one. A crash may leave a draft beside it, named .*.tmp and
// sealed as well. The last steps make the new file durable and raise the
// HighWater mark: after an error of these the new file is in place all the
// same. Saving again is safe.
//
// The first file has mode 0600. The next ones have the mode of the one before,
// and its owner and group as far as the system allows; nothing else, such as an
// access control list, is taken over.
//
// A file that is there already must be a version that this ring was loaded from
// or saved as, or have the same content; else the error is [ErrConflict],
// [ErrRollback] or [ErrContext], and the file stays as it is. It also stays,
// with an error, where KEK does not open it. Of two processes on one host that
// save at the same time, one gets ErrConflict. On Unix a lock on the file name
// + ".lock", which is left in place, sees to that. A saver on another host is
// not noticed.
func (f File) Save(ctx context.Context, r *Ring) error {
	known, err := f.highest()
	if err != nil {
		return err
	}
	return f.put(ctx, r, known, false)
}

// put saves a ring where the mark was known, in a new file or in place of one.
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

// check looks, before there is a lock beside it, at what is to be made or
// replaced.
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

// exchange replaces the old version of the file by the new one, under the lock.
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

// highest returns what is in the HighWater file, or 0 where there is none.
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

// record raises the HighWater mark to serial, unless it is known to be as high.
func (f File) record(ctx context.Context, known, serial uint64) error {
	if f.HighWater == "" || serial <= known {
		return nil
	}
	if err := f.raise(ctx, serial); err != nil {
		return fmt.Errorf("keyring: writing the high-water mark %s: %w", f.HighWater, err)
	}
	return nil
}

// raise is for one process at a time: it would else lower the mark that another
// one writes between its look at the file and its own writing.
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

package keyring_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// countingKEK counts its calls, and fails while it is down.
type countingKEK struct {
	keyring.KEK
	unwraps int
	down    error
}

func (k *countingKEK) Unwrap(ctx context.Context, kekID string, wrapped []byte) ([]byte, error) {
	k.unwraps++
	if k.down != nil {
		return nil, k.down
	}
	return k.KEK.Unwrap(ctx, kekID, wrapped)
}

// source is a file, its writer, and its follower.
type source struct {
	keyring.File
	writer   *keyring.Ring
	follower *keyring.Follower
}

func newSource(t *testing.T, kek keyring.KEK) *source {
	t.Helper()
	dir := t.TempDir()
	s := &source{
		File:   keyring.File{Name: filepath.Join(dir, "ring"), KEK: kek, HighWater: filepath.Join(dir, "serial")},
		writer: newRing(t, start),
	}
	s.save(t)
	s.follow(t)
	return s
}

func (s *source) save(t *testing.T) {
	t.Helper()
	require.NoError(t, saveFile(t, s.writer, s.KEK, s.Name))
}

// change saves another version.
func (s *source) change(t *testing.T) {
	t.Helper()
	require.NoError(t, s.writer.Revoke(start, sealer(t, s.writer, start)))
	s.save(t)
}

func (s *source) follow(t *testing.T) {
	t.Helper()
	var err error
	s.follower, err = s.Follow(t.Context(), start)
	require.NoError(t, err)
}

// put replaces the file by content.
func (s *source) put(t *testing.T, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(s.Name, content, 0o600))
}

func (s *source) content(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(s.Name)
	require.NoError(t, err)
	return content
}

func (s *source) highWater(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(s.HighWater)
	require.NoError(t, err)
	return string(content)
}

func TestFollow(t *testing.T) {
	kek := &countingKEK{KEK: newKEK(t)}
	s := newSource(t, kek)
	ring := s.follower.Ring()
	require.Equal(t, keys(s.writer, start), keys(ring, start))
	require.Equal(t, "1\n", s.highWater(t))
	require.Equal(t, 5*second, s.follower.Stale(start.Add(5*second)))
	require.Zero(t, s.follower.Stale(start.Add(-second)))

	asked := kek.unwraps
	now := start.Add(10 * second)
	changed, err := s.follower.Refresh(t.Context(), now)
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, asked, kek.unwraps, "the KEK is asked about the same file again")
	require.Zero(t, s.follower.Stale(now))

	s.change(t)
	asked = kek.unwraps
	changed, err = s.follower.Refresh(t.Context(), now)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, keys(s.writer, start), keys(ring, start))
	require.Equal(t, asked+1, kek.unwraps)
	require.Equal(t, "2\n", s.highWater(t))

	s.save(t)
	changed, err = s.follower.Refresh(t.Context(), now)
	require.NoError(t, err, "the same ring, sealed again")
	require.False(t, changed)
}

// Whatever is wrong with the file, the ring stays as it is and the error says
// so. Staleness grows until the file is good again.
func TestFollowTrouble(t *testing.T) {
	down := errors.New("service is down")
	kek := &countingKEK{KEK: newKEK(t)}
	tests := []struct {
		name  string
		spoil func(t *testing.T, s *source)
		want  string
	}{
		{"missing", func(t *testing.T, s *source) { require.NoError(t, os.Remove(s.Name)) }, "reading"},
		{"directory", func(t *testing.T, s *source) {
			require.NoError(t, os.Remove(s.Name))
			require.NoError(t, os.Mkdir(s.Name, 0o700))
		}, "not a regular file"},
		{"empty", func(t *testing.T, s *source) { s.put(t, nil) }, "cut off"},
		{"junk", func(t *testing.T, s *source) { s.put(t, []byte("junk")) }, "not a sealed ring"},
		{"large", func(t *testing.T, s *source) { s.put(t, make([]byte, 1<<20+1)) }, "too large"},
		{"cut off", func(t *testing.T, s *source) { c := s.content(t); s.put(t, c[:len(c)-1]) }, "damaged"},
		{"one bit", func(t *testing.T, s *source) { c := s.content(t); c[len(c)-1] ^= 1; s.put(t, c) }, "damaged"},
		{"another ring", func(t *testing.T, s *source) {
			data, err := newRing(t, start).Marshal(t.Context(), s.KEK)
			require.NoError(t, err)
			s.put(t, data)
		}, keyring.ErrRollback.Error()},
		{"another ring of the same serial", func(t *testing.T, s *source) {
			r := newRing(t, start)
			require.NoError(t, r.RaiseSerial(2))
			data, err := r.Marshal(t.Context(), s.KEK)
			require.NoError(t, err)
			s.put(t, data)
		}, keyring.ErrConflict.Error()},
		{"another KEK", func(t *testing.T, s *source) {
			data, err := s.writer.Marshal(t.Context(), newKEK(t))
			require.NoError(t, err)
			s.put(t, data)
		}, "sealed under the KEK"},
		{"KEK out of reach", func(t *testing.T, s *source) { s.change(t); kek.down = down }, "service is down"},
		{"changed here", func(t *testing.T, s *source) {
			require.NoError(t, s.follower.Ring().Revoke(start, sealer(t, s.follower.Ring(), start)))
		}, keyring.ErrRollback.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kek.down = nil
			s := newSource(t, kek)
			s.change(t)
			_, err := s.follower.Refresh(t.Context(), start)
			require.NoError(t, err)
			tt.spoil(t, s)
			before := keys(s.follower.Ring(), start)
			for i := range 3 {
				now := start.Add(time.Duration(i) * lead)
				changed, err := s.follower.Refresh(t.Context(), now)
				require.ErrorContains(t, err, tt.want)
				require.True(t, strings.HasPrefix(err.Error(), "keyring: "), err)
				require.False(t, changed)
				require.Equal(t, before, keys(s.follower.Ring(), start))
				require.Equal(t, now.Sub(start), s.follower.Stale(now))
			}
			kek.down = nil
			require.NoError(t, os.RemoveAll(s.Name))
			s.change(t)
			s.change(t)
			changed, err := s.follower.Refresh(t.Context(), start.Add(3*lead))
			require.NoError(t, err)
			require.True(t, changed)
			require.Zero(t, s.follower.Stale(start.Add(3*lead)))
			require.Equal(t, keys(s.writer, start), keys(s.follower.Ring(), start))
		})
	}
}

func TestFollowRefuses(t *testing.T) {
	kek := newKEK(t)
	good := newSource(t, kek).File
	set := func(f func(*keyring.File)) keyring.File {
		c := good
		f(&c)
		return c
	}
	for name, f := range map[string]keyring.File{
		"missing":             set(func(f *keyring.File) { f.Name += "x" }),
		"no KEK":              set(func(f *keyring.File) { f.KEK = nil }),
		"another KEK":         set(func(f *keyring.File) { f.KEK = newKEK(t) }),
		"below the minimum":   set(func(f *keyring.File) { f.Config.MinSerial = 2 }),
		"context too long":    set(func(f *keyring.File) { f.Config.Context = strings.Repeat("c", 256) }),
		"high water nowhere":  set(func(f *keyring.File) { f.HighWater += "x/serial" }),
		"high water of a dir": set(func(f *keyring.File) { f.HighWater = filepath.Dir(f.Name) }),
	} {
		follower, err := f.Follow(t.Context(), start)
		require.Error(t, err, name)
		require.Nil(t, follower, name)
	}
}

// After a restart, a process refuses an older ring than it had before.
func TestHighWater(t *testing.T) {
	s := newSource(t, newKEK(t))
	backup := s.content(t)
	s.change(t)
	newest := s.content(t)
	_, err := s.follower.Refresh(t.Context(), start)
	require.NoError(t, err)

	s.put(t, backup)
	_, err = s.Follow(t.Context(), start)
	require.Equal(t, keyring.ErrRollback, err)
	s.put(t, newest)
	s.follow(t)

	for content, ok := range map[string]bool{
		"2\n": true, "2": true, "0\n": true, "3\n": false, "9223372036854775807\n": false, "9223372036854775808\n": false, "18446744073709551615\n": false, "18446744073709551616\n": false,
		"": false, "\n": false, "02\n": false, "+2\n": false, "-1\n": false, "2 \n": false, "2\n\n": false, "0x2\n": false, "2\x00": false,
		strings.Repeat("1", 64): false, strings.Repeat("1", 65): false,
	} {
		require.NoError(t, os.WriteFile(s.HighWater, []byte(content), 0o600))
		_, err := s.Follow(t.Context(), start)
		require.Equal(t, ok, err == nil, "%q: %v", content, err)
		if ok {
			got, err := strconv.ParseUint(strings.TrimSpace(s.highWater(t)), 10, 64)
			require.NoError(t, err)
			require.EqualValues(t, 2, got)
		}
	}
	require.NoError(t, os.Remove(s.HighWater))
	s.follow(t)
	s.File.HighWater = ""
	s.put(t, backup)
	s.follow(t)
}

// Another KEK replaces the old one without a restart: in the sealed ring first,
// or in the KEK's file first.
func TestFollowAnotherKEK(t *testing.T) {
	for name, kekFirst := range map[string]bool{"ring first": false, "KEK first": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			kekName, other := filepath.Join(dir, "kek"), newKEK(t)
			require.NoError(t, newKEK(t).WriteFile(kekName))
			s := newSource(t, keyring.KEKFile{Name: kekName})
			replaceKEK := func() {
				require.NoError(t, os.Remove(kekName))
				require.NoError(t, other.WriteFile(kekName))
			}
			rewrap := func(both keyring.KEKs) {
				require.NoError(t, s.writer.Revoke(start, sealer(t, s.writer, start)))
				require.NoError(t, saveFile(t, s.writer, both, s.Name))
			}
			old, err := keyring.KEKFile{Name: kekName}.Read()
			require.NoError(t, err)
			both := keyring.KEKs{other, old}
			if kekFirst {
				replaceKEK()
				_, err := s.follower.Refresh(t.Context(), start)
				require.NoError(t, err, "nothing is new")
				rewrap(both)
			} else {
				rewrap(both)
				_, err := s.follower.Refresh(t.Context(), start)
				require.ErrorContains(t, err, other.ID())
				require.NotErrorIs(t, err, fs.ErrNotExist)
				require.NoError(t, os.Rename(kekName, kekName+".old"))
				_, err = s.follower.Refresh(t.Context(), start)
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.ErrorContains(t, err, kekName)
				require.NoError(t, os.Rename(kekName+".old", kekName))
				replaceKEK()
			}
			changed, err := s.follower.Refresh(t.Context(), start)
			require.NoError(t, err)
			require.True(t, changed)
			require.Equal(t, keys(s.writer, start), keys(s.follower.Ring(), start))
			s.change(t) // sealed by what is in the file
			loadFile(t, other, s.Name)
		})
	}
}

// Another process that shares the mark may have seen a newer ring. An older one
// is not adopted, and the one in force is not taken for the newest.
func TestHighWaterIsNotLowered(t *testing.T) {
	s := newSource(t, newKEK(t))
	other, err := s.Follow(t.Context(), start)
	require.NoError(t, err)
	s.change(t)
	older := s.content(t)
	s.change(t)
	newest := s.content(t)
	_, err = other.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.Equal(t, "3\n", s.highWater(t))

	s.put(t, older)
	changed, err := s.follower.Refresh(t.Context(), start)
	require.Equal(t, keyring.ErrRollback, err)
	require.False(t, changed)
	require.EqualValues(t, 1, s.follower.Ring().Serial())
	require.Equal(t, "3\n", s.highWater(t))

	s.put(t, newest)
	_, err = s.follower.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.HighWater, []byte("4\n"), 0o600))
	_, err = s.follower.Refresh(t.Context(), start.Add(lead))
	require.Equal(t, keyring.ErrRollback, err, "the same file as before")
	require.Equal(t, lead, s.follower.Stale(start.Add(lead)))
}

// A version is in force even if the high-water mark cannot be written, because
// it may revoke a key. The error stays until the mark is written.
func TestHighWaterNotWritten(t *testing.T) {
	s := newSource(t, newKEK(t))
	require.NoError(t, os.WriteFile(s.HighWater, []byte("broken"), 0o600))
	s.change(t)
	for i, want := range []bool{true, false, false} {
		changed, err := s.follower.Refresh(t.Context(), start.Add(lead))
		require.ErrorContains(t, err, "high-water mark")
		require.Equal(t, want, changed, i)
		require.Equal(t, keys(s.writer, start), keys(s.follower.Ring(), start))
		require.Equal(t, lead, s.follower.Stale(start.Add(lead)))
	}
	require.NoError(t, os.WriteFile(s.HighWater, []byte("1\n"), 0o600))
	changed, err := s.follower.Refresh(t.Context(), start.Add(lead))
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, "2\n", s.highWater(t))
}

// Sealing, opening and Stale never wait for a refresh, even one that waits for
// its KEK.
func TestFollowWaits(t *testing.T) {
	kek := &waitingKEK{KEK: newKEK(t), asked: make(chan struct{}), answer: make(chan struct{})}
	s := newSource(t, kek)
	s.change(t)
	kek.waits.Store(true)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := s.follower.Refresh(t.Context(), start.Add(lead)); err != nil {
				t.Error(err)
			}
		})
	}
	<-kek.asked
	require.NoError(t, openErr(s.follower.Ring(), box(t, s.follower.Ring(), start), start))
	require.Equal(t, lead, s.follower.Stale(start.Add(lead)))
	require.EqualValues(t, 1, s.follower.Ring().Serial())
	close(kek.answer)
	wg.Wait()
	require.EqualValues(t, 2, s.follower.Ring().Serial())
	require.Zero(t, s.follower.Stale(start.Add(lead)))
}

// waitingKEK reports each call once it is told to wait, and waits for the
// answer.
type waitingKEK struct {
	keyring.KEK
	waits         atomic.Bool
	asked, answer chan struct{}
}

func (k *waitingKEK) Unwrap(ctx context.Context, kekID string, wrapped []byte) ([]byte, error) {
	if k.waits.Load() {
		close(k.asked)
		<-k.answer
	}
	return k.KEK.Unwrap(ctx, kekID, wrapped)
}

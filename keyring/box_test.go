package keyring_test

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

const headerSize = 32

func TestRoundTrip(t *testing.T) {
	r := newRing(t, start)
	for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 100, 1100, 2838, 1 << 20} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		box, err := r.Box([]byte("prefix"), plaintext, start)
		require.NoError(t, err)
		require.Equal(t, "prefix"+keyring.Magic, string(box[:10]))
		box = box[6:]
		require.Len(t, box, n+keyring.Overhead)
		got, err := r.Unbox([]byte("prefix"), box, start)
		require.NoError(t, err)
		require.Equal(t, "prefix"+string(plaintext), string(got))
	}
}

func TestNoncesDiffer(t *testing.T) {
	r := newRing(t, start)
	seen := make(map[[24]byte]bool)
	for range 1000 {
		seen[[24]byte(box(t, r, start)[8:])] = true
	}
	require.Len(t, seen, 1000)
}

func TestTampered(t *testing.T) {
	r := newRing(t, start)
	good := box(t, r, start)
	want := func(i int) error {
		switch {
		case i < 4:
			return keyring.ErrMalformed
		case i < 8:
			return keyring.ErrUnknownKey
		}
		return keyring.ErrForged
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		require.Equal(t, want(i/8), openErr(r, bad, start), "bit %d", i)
	}
	for n := range good {
		want := keyring.ErrForged
		if n < keyring.Overhead {
			want = keyring.ErrMalformed
		}
		require.Equal(t, want, openErr(r, good[:n], start), "length %d", n)
	}
	for n := 1; n <= 64; n++ {
		require.Equal(t, keyring.ErrForged, openErr(r, append(bytes.Clone(good), make([]byte, n)...), start))
	}
	require.Equal(t, keyring.ErrMalformed, openErr(r, nil, start))
	require.Equal(t, keyring.ErrMalformed, openErr(r, append([]byte("ct2_"), good[4:]...), start))
}

// Parts of two authentic boxes make no third one. Only the key that the box
// names is tried.
func TestSwapped(t *testing.T) {
	r := ringOf(t, 2)
	a, b := box(t, r, start.Add(-second)), box(t, r, start)
	require.NotEqual(t, a[4:8], b[4:8])
	for _, part := range [][2]int{{4, 8}, {8, 32}, {32, 41}, {41, 57}, {4, 32}, {8, 41}} {
		for _, pair := range [][2][]byte{{a, b}, {b, a}} {
			mixed := bytes.Clone(pair[0])
			copy(mixed[part[0]:part[1]], pair[1][part[0]:part[1]])
			require.Equal(t, keyring.ErrForged, openErr(r, mixed, start), "bytes %v", part)
		}
	}
	other := newRing(t, start)
	require.Equal(t, keyring.ErrUnknownKey, openErr(other, a, start))
}

// padded returns a slice with n bytes of room inside memory that is filled with
// a pattern. The function checks that nothing else was written.
func padded(t *testing.T, length, room int) (dst []byte, check func()) {
	const fill = 0xee
	mem := bytes.Repeat([]byte{fill}, length+room+64)
	return mem[:length], func() {
		t.Helper()
		require.Equal(t, bytes.Repeat([]byte{fill}, length), mem[:length])
		require.Equal(t, bytes.Repeat([]byte{fill}, 64), mem[length+room:])
	}
}

func TestSpareCapacity(t *testing.T) {
	r := newRing(t, start)
	plaintext := []byte("plaintext")
	for _, length := range []int{0, 1, 50} {
		dst, check := padded(t, length, len(plaintext)+keyring.Overhead)
		box, err := r.Box(dst, plaintext, start)
		require.NoError(t, err)
		check()
		require.Equal(t, "plaintext", string(plaintext))
		box = box[length:]

		dst, check = padded(t, length, len(plaintext))
		got, err := r.Unbox(dst, box, start)
		require.NoError(t, err)
		check()
		require.Equal(t, plaintext, got[length:])

		box[40] ^= 1
		dst, check = padded(t, length, len(plaintext))
		got, err = r.Unbox(dst, box, start)
		require.Equal(t, keyring.ErrForged, err)
		check()
		require.Equal(t, dst, got)
		require.Equal(t, make([]byte, len(plaintext)), dst[length:length+len(plaintext)])
	}
}

// Wherever the plaintext lies in the box's memory, the box holds it.
func TestSealOverlap(t *testing.T) {
	r := newRing(t, start)
	for _, n := range []int{1, 5, 32, 100} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(i + 1)
		}
		for at := range n + keyring.Overhead + 8 {
			mem := make([]byte, 2*n+2*keyring.Overhead)
			plaintext := mem[at : at+n]
			copy(plaintext, want)
			box, err := r.Box(mem[:4], plaintext, start)
			require.NoError(t, err)
			got, err := r.Unbox(nil, box[4:], start)
			require.NoError(t, err, "at %d", at)
			require.Equal(t, want, got)
		}
	}
}

// Wherever in its own box a plaintext goes, it is right, or there is none.
func TestOpenOverlap(t *testing.T) {
	r := newRing(t, start)
	for _, n := range []int{1, 16, 32, 33, 100} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(i + 1)
		}
		outcomes := make(map[string]int)
		for at := range n + keyring.Overhead {
			box, err := r.Box(make([]byte, 0, 3*n+keyring.Overhead), want, start)
			require.NoError(t, err)
			outcome := "panic"
			func() {
				defer func() { _ = recover() }()
				got, err := r.Unbox(box[at:at], box, start)
				outcome = fmt.Sprint(err)
				if err == nil {
					require.Equal(t, want, got, "at %d", at)
				} else {
					require.Equal(t, keyring.ErrForged, err)
					require.Equal(t, make([]byte, n), box[at:at+n:cap(box)], "at %d", at)
				}
			}()
			outcomes[outcome]++
			if at != headerSize && at+n > headerSize && at < headerSize+n {
				require.Equal(t, "panic", outcome, "%d at %d", n, at)
			}
		}
		require.Equal(t, n+keyring.Overhead, outcomes["panic"]+outcomes["<nil>"]+outcomes[keyring.ErrForged.Error()])
	}
}

func TestInPlace(t *testing.T) {
	r := newRing(t, start)
	mem := make([]byte, 200)
	plaintext := append(mem[headerSize:headerSize], "sealed and opened in place"...)
	box, err := r.Box(mem[:0], plaintext, start)
	require.NoError(t, err)
	require.Same(t, &mem[0], &box[0])
	got, err := r.Unbox(box[headerSize:headerSize], box, start)
	require.NoError(t, err)
	require.Same(t, &mem[headerSize], &got[0])
	require.Equal(t, "sealed and opened in place", string(got))

	box, err = r.Box(mem[:0], got, start)
	require.NoError(t, err)
	box[len(box)-1] ^= 1
	_, err = r.Unbox(box[headerSize:headerSize], box, start)
	require.Equal(t, keyring.ErrForged, err)
	require.Equal(t, make([]byte, len(got)), box[headerSize:len(box)-16])
}

// The clock decides what a key may do, to the nanosecond.
func TestOpenByState(t *testing.T) {
	r := ringOf(t, 3)
	old, primary, next := box(t, r, start.Add(-1)), box(t, r, start), box(t, r, start.Add(period))
	tests := []struct {
		name string
		box  []byte
		now  time.Time
		want error
	}{
		{"the first key in 1969", old, time.Unix(-1, 0), nil},
		{"the first key at the zero time", old, time.Time{}, nil},
		{"last tick as a primary", old, start.Add(-1), nil},
		{"retired", old, start, nil},
		{"last tick as retired", old, start.Add(overlap - 1), nil},
		{"expired", old, start.Add(overlap), keyring.ErrExpiredKey},
		{"long expired", old, time.Unix(253402300799, 0), keyring.ErrExpiredKey},
		{"pending long before", primary, time.Unix(-1, 0), nil},
		{"last tick as pending", primary, start.Add(-1), nil},
		{"first tick as primary", primary, start, nil},
		{"pending", next, start, nil},
		{"the last key never expires", next, time.Unix(1<<40, 0), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, openErr(r, tt.box, tt.now))
		})
	}
	k := keys(r, start)
	require.NoError(t, r.Revoke(start, k[1].ID))
	require.Equal(t, keyring.ErrRevokedKey, openErr(r, primary, start))
	require.Equal(t, keyring.ErrRevokedKey, openErr(r, primary, time.Unix(-1, 0)))
}

func TestSealByTime(t *testing.T) {
	r := ringOf(t, 3)
	k := keys(r, start)
	tests := []struct {
		name string
		now  time.Time
		want int
	}{
		{"before 1970", time.Unix(-1, 0), 0},
		{"1970", time.Unix(0, 0), 0},
		{"one tick before", start.Add(-1), 0},
		{"to the tick", start, 1},
		{"one tick before the next", start.Add(period - 1), 1},
		{"the next", start.Add(period), 2},
		{"2106", time.Unix(1<<32, 0), 2},
		{"after 9999", time.Unix(1<<40, 0), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, k[tt.want].ID, sealer(t, r, tt.now))
			require.Equal(t, keyring.Primary, keys(r, tt.now)[tt.want].State)
		})
	}
}

func TestNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	r := ringOf(t, 3)
	plaintext := make([]byte, 1000)
	dst := make([]byte, 0, 2000)
	good := func(now time.Time) []byte {
		b, err := r.Box(nil, plaintext, now)
		require.NoError(t, err)
		return b
	}
	primary, expired, revoked := good(start), good(start.Add(-second)), good(start.Add(period))
	require.NoError(t, r.Revoke(start, keyring.ID(revoked[4:])))
	forged, unknown := bytes.Clone(primary), bytes.Clone(primary)
	forged[100] ^= 1
	unknown[5] ^= 1
	late := start.Add(overlap)
	open := func(box []byte) func() error {
		return func() error { _, err := r.Unbox(dst, box, late); return err }
	}
	tests := []struct {
		name string
		f    func() error
		want error
	}{
		{"Seal", func() error { _, err := r.Box(dst, plaintext, late); return err }, nil},
		{"Open", open(primary), nil},
		{"Open malformed", open(primary[:40]), keyring.ErrMalformed},
		{"Open unknown key", open(unknown), keyring.ErrUnknownKey},
		{"Open expired key", open(expired), keyring.ErrExpiredKey},
		{"Open revoked key", open(revoked), keyring.ErrRevokedKey},
		{"Open forged", open(forged), keyring.ErrForged},
		{"Policy", func() error { _ = r.Policy(); return nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.f())
			require.Zero(t, testing.AllocsPerRun(100, func() { tt.f() }))
		})
	}
}

func TestManyKeys(t *testing.T) {
	r := ringOf(t, 1000)
	for i := range 1000 {
		now := start.Add(time.Duration(i-1) * period)
		require.NoError(t, openErr(r, box(t, r, now), now))
	}
}

// BenchmarkKeys opens a box with more and more keys in the ring. The cost must
// not grow.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run("keys="+strconv.Itoa(n), func(b *testing.B) {
			r := ringOf(b, n)
			plaintext := make([]byte, 100)
			sealed, err := r.Box(nil, plaintext, start)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				r.Unbox(plaintext[:0], sealed, start)
			}
		})
	}
}

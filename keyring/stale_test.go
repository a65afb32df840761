package keyring_test

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// Staleness goes by the time of day, as keys do. While a host was suspended,
// the monotonic clock may have stood still.
func TestStaleAfterSuspension(t *testing.T) {
	now := time.Now()
	r := newRing(t, now)
	file := keyring.File{Name: t.TempDir() + "/ring", KEK: newKEK(t)}
	require.NoError(t, saveFile(t, r, file.KEK, file.Name))
	follower, err := file.Follow(t.Context(), now)
	require.NoError(t, err)

	later := now.Add(time.Hour)
	monotonic := &(*struct {
		_   uint64
		ext int64
	})(unsafe.Pointer(&later)).ext
	*monotonic -= int64(time.Hour)
	require.Zero(t, later.Sub(now), "the monotonic clock stood still")
	require.Equal(t, now.Unix()+3600, later.Unix(), "the other one went on")
	require.InDelta(t, time.Hour, follower.Stale(later), float64(time.Second))
}

// If a clock was ahead for a moment, a follower that fails still goes stale.
func TestStaleAfterClockWasAhead(t *testing.T) {
	s := newSource(t, newKEK(t))
	_, err := s.follower.Refresh(t.Context(), start.Add(period))
	require.NoError(t, err)
	s.put(t, nil)
	_, err = s.follower.Refresh(t.Context(), start)
	require.Error(t, err)
	require.Equal(t, lead, s.follower.Stale(start.Add(lead)))
	_, err = s.follower.Refresh(t.Context(), start.Add(lead))
	require.Error(t, err)
	require.Equal(t, lead, s.follower.Stale(start.Add(lead)))
	require.ErrorContains(t, s.follower.Health(start.Add(lead)), "stale")
}

package keyring_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// The next key is overdue two leads late, or half a period if that is less: one
// lead for a rotator that runs once in a lead, one for hosts to hear of it.
func TestOverdue(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name   string
		policy keyring.Policy
		due    time.Duration
		grace  time.Duration
	}{
		{"default", keyring.Policy{}, 30 * day, 2 * time.Hour},
		{"long lead", keyring.Policy{Period: 10 * day, Lead: 4 * day}, 10 * day, 5 * day},
		{"longest lead", keyring.Policy{Period: day, Lead: day}, day, 12 * time.Hour},
		{"short", keyring.Policy{Period: 20 * second, Lead: 6 * second}, 20 * second, 10 * second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := keyring.New(start, keyring.Config{Policy: tt.policy})
			require.NoError(t, err)
			due := start.Add(tt.due)
			for _, now := range []time.Time{start.Add(-day), start, due.Add(-1), due, due.Add(tt.grace)} {
				require.Zero(t, r.Overdue(now), now)
			}
			for _, late := range []time.Duration{tt.grace + 1, tt.grace + second, 1000 * day} {
				require.Equal(t, late, r.Overdue(due.Add(late)))
				require.Equal(t, late, clone(t, r).Overdue(due.Add(late)))
			}
			late := due.Add(2 * tt.grace)
			require.True(t, rotate(t, r, late))
			require.Zero(t, r.Overdue(late))
			all := keys(r, late)
			next := all[len(all)-1].Activates
			require.Zero(t, r.Overdue(next.Add(tt.grace)), "the next one counts")
			require.Equal(t, tt.grace+1, r.Overdue(next.Add(tt.grace+1)))
		})
	}
}

// A pending key is never overdue. In a ring of one key, the next one is due
// from when that was made.
func TestOverdueWhateverHappened(t *testing.T) {
	r := newRing(t, start)
	now := start.Add(2 * lead)
	require.NoError(t, r.RotateNow(now))
	require.Zero(t, r.Overdue(now.Add(2*lead)))
	for range 3 {
		require.NoError(t, r.Revoke(now, sealer(t, r, now)))
		require.Zero(t, r.Overdue(now.Add(2*lead)))
	}
	d := good()
	only := documentKey{Secret: secret(1), Created: start.Unix(), Activates: 0, Retires: 0, Expires: 0, Revoked: 0}
	d.Chain, d.Revoked = []documentKey{only}, []documentKey{}
	r = load(t, d, keyring.Config{})
	require.Zero(t, r.Overdue(start.Add(2*lead)))
	require.Equal(t, 2*lead+1, r.Overdue(start.Add(2*lead+1)))
}

// If the file itself is mounted, a gateway reads the same content for ever,
// without an error. Its ring says that there should be another key.
func TestFrozenFile(t *testing.T) {
	for name, freeze := range map[string]func(t *testing.T, name, frozen string){
		// Both act like a bind mount of a file: they keep the old file
		// when another replaces it.
		"hard link": func(t *testing.T, name, frozen string) { require.NoError(t, os.Link(name, frozen)) },
		"mount":     bind,
	} {
		t.Run(name, func(t *testing.T) {
			dir, kek := t.TempDir(), newKEK(t)
			writer := keyring.File{Name: filepath.Join(dir, "ring"), KEK: kek}
			r, err := writer.Create(t.Context(), start)
			require.NoError(t, err)
			frozen := keyring.File{Name: filepath.Join(dir, "frozen"), KEK: kek}
			freeze(t, writer.Name, frozen.Name)
			stuck, err := frozen.Follow(t.Context(), start)
			require.NoError(t, err)
			good, err := writer.Follow(t.Context(), start)
			require.NoError(t, err)

			due := start.Add(period)
			for _, now := range []time.Time{due.Add(-lead), due, due.Add(2 * lead), due.Add(2*lead + second), due.Add(period)} {
				if changed, err := r.Rotate(now); changed {
					require.NoError(t, writer.Save(t.Context(), r))
				} else {
					require.NoError(t, err)
				}
				for _, f := range []*keyring.Follower{good, stuck} {
					_, err := f.Refresh(t.Context(), now)
					require.NoError(t, err, "nothing is wrong with the file")
					require.Zero(t, f.Stale(now))
				}
				require.NoError(t, good.Health(now))
				if now.After(due.Add(2 * lead)) {
					require.ErrorContains(t, stuck.Health(now), "overdue")
				} else {
					require.NoError(t, stuck.Health(now))
				}
			}
			now := due.Add(period)
			require.Equal(t, keyring.ErrUnknownKey, openErr(stuck.Ring(), box(t, good.Ring(), now), now), "a period later")
		})
	}
}

// Health reports a process that does not refresh, or cannot.
func TestHealthStale(t *testing.T) {
	s := newSource(t, newKEK(t))
	require.NoError(t, s.follower.Health(start.Add(lead/2)))
	require.ErrorContains(t, s.follower.Health(start.Add(lead/2+1)), "stale: not refreshed for 30m0s")
	require.NoError(t, os.Remove(s.Name))
	_, err := s.follower.Refresh(t.Context(), start.Add(lead))
	require.Error(t, err)
	require.ErrorContains(t, s.follower.Health(start.Add(lead)), "stale: not refreshed for 1h0m0s")
	s.save(t)
	_, err = s.follower.Refresh(t.Context(), start.Add(lead))
	require.NoError(t, err)
	require.NoError(t, s.follower.Health(start.Add(lead)))
}

// A next key that seals too late delays rotation until then: the clock was
// ahead, or the period was longer.
func TestFarAhead(t *testing.T) {
	r := newRing(t, start)
	k, err := keyring.NewInMemory(r)
	require.NoError(t, err)
	require.False(t, r.FarAhead(start))
	require.False(t, r.FarAhead(start.Add(-5*second)), "of a host whose clock is behind by the skew")
	require.True(t, r.FarAhead(start.Add(-6*second)))
	require.False(t, new(keyring.Ring).FarAhead(start))

	r = newRing(t, start)
	require.NoError(t, r.SetPolicy(start, keyring.Policy{Period: 7 * 24 * time.Hour}))
	seals := keys(r, start)[1].Activates
	require.True(t, r.FarAhead(seals.Add(-7*24*time.Hour-6*second)), "a shorter period")
	require.False(t, r.FarAhead(seals.Add(-7*24*time.Hour-5*second)))

	ahead := start.Add(100 * period)
	_, err = k.Refresh(t.Context(), ahead)
	require.NoError(t, err)
	require.NoError(t, k.Health(ahead))
	require.ErrorContains(t, k.Health(start), "far ahead")

	s := newSource(t, newKEK(t))
	rotate(t, s.writer, ahead)
	s.save(t)
	_, err = s.follower.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.ErrorContains(t, s.follower.Health(start), "far ahead")
	require.Zero(t, s.follower.Ring().Overdue(start))
}

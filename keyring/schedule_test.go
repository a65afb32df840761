package keyring_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

const (
	pending = keyring.Pending
	primary = keyring.Primary
	retired = keyring.Retired
	expired = keyring.Expired
	revoked = keyring.Revoked
)

// rotate applies the policy and reports whether that changed the ring. It
// checks that a second time changes nothing.
func rotate(t *testing.T, r *keyring.Ring, now time.Time) bool {
	t.Helper()
	before := r.Serial()
	changed, err := r.Rotate(now)
	require.NoError(t, err)
	require.Equal(t, changed, r.Serial() == before+1)
	again, err := r.Rotate(now)
	require.NoError(t, err)
	require.False(t, again)
	return changed
}

func TestRotate(t *testing.T) {
	r := newRing(t, start)
	first := keys(r, start)
	due := start.Add(period)
	steps := []struct {
		name    string
		now     time.Time
		changed bool
		states  []keyring.State
	}{
		{"at once", start, false, []keyring.State{primary, pending}},
		{"one tick early", due.Add(-1), false, []keyring.State{primary, pending}},
		{"due", due, true, []keyring.State{retired, primary, pending}},
		{"one tick before expiry", due.Add(overlap - 1), false, []keyring.State{retired, primary, pending}},
		{"expiry", due.Add(overlap), true, []keyring.State{primary, pending}},
		{"the next one due", due.Add(period), true, []keyring.State{retired, primary, pending}},
	}
	for _, s := range steps {
		require.Equal(t, s.changed, rotate(t, r, s.now), s.name)
		require.Equal(t, s.states, states(r, s.now), s.name)
	}
	got := keys(r, due.Add(period))
	require.Equal(t, first[1].ID, got[0].ID)
	require.Zero(t, got[0].Activates, "the oldest key has sealed since ever")
	require.Equal(t, due.Add(2*period), got[2].Activates)
	require.Equal(t, due.Add(period), got[2].Created)
}

// Without a rotator the next key takes over, and seals for ever.
func TestNobodyRotates(t *testing.T) {
	r := newRing(t, start)
	next := keys(r, start)[1].ID
	for _, after := range []time.Duration{period, 2 * period, 100 * period} {
		now := start.Add(after)
		require.Equal(t, next, sealer(t, r, now))
		require.NoError(t, openErr(r, box(t, r, now), now))
	}
	// A rotator that comes back publishes first. It changes nothing before
	// all hosts can know.
	now := start.Add(100 * period)
	require.True(t, rotate(t, r, now))
	require.Equal(t, []keyring.State{primary, pending}, states(r, now))
	require.Equal(t, now.Add(lead), keys(r, now)[1].Activates)
	require.Equal(t, next, sealer(t, r, now.Add(lead-1)))
	require.NotEqual(t, next, sealer(t, r, now.Add(lead)))
}

func TestRotateNow(t *testing.T) {
	r := newRing(t, start)
	next := keys(r, start)[1].ID
	require.Equal(t, keyring.ErrTooSoon, r.RotateNow(start.Add(lead-1)))
	require.EqualValues(t, 1, r.Serial())
	now := start.Add(lead)
	late := clone(t, r)
	require.NoError(t, r.RotateNow(now))
	require.EqualValues(t, 2, r.Serial())
	require.Equal(t, next, sealer(t, r, now))
	require.Equal(t, []keyring.State{retired, primary, pending}, states(r, now))
	require.Equal(t, keyring.ErrTooSoon, r.RotateNow(now.Add(lead-1)))
	// A host that hears as late as it may seals until then.
	box := box(t, late, now.Add(lead-1))
	require.NoError(t, openErr(r, box, now.Add(lead+overlap-1)))
	require.Equal(t, keyring.ErrExpiredKey, openErr(r, box, now.Add(lead+overlap)))
	require.False(t, rotate(t, r, now))

	// No key is kept for longer than before.
	r = newRing(t, start)
	require.NoError(t, r.RotateNow(start.Add(period-second)))
	require.Equal(t, start.Add(period+overlap), keys(r, start)[0].Expires)
}

func TestRotateNowWithoutSpare(t *testing.T) {
	require.Equal(t, keyring.ErrTooSoon, newRing(t, start).RotateNow(start.Add(period)))
}

func TestRevokePrimary(t *testing.T) {
	r := ringOf(t, 3)
	k := keys(r, start)
	old, bad := box(t, r, start.Add(-second)), box(t, r, start)
	require.NoError(t, r.Revoke(start, k[1].ID))
	require.EqualValues(t, 8, r.Serial())
	require.Equal(t, []keyring.State{retired, primary, pending, revoked}, states(r, start))
	require.Equal(t, k[2].ID, sealer(t, r, start))
	require.Equal(t, keyring.ErrRevokedKey, openErr(r, bad, start))
	require.NoError(t, openErr(r, old, start.Add(overlap-1)))
	got := keys(r, start)
	require.Equal(t, k[1].Activates, got[1].Activates, "the next key seals on hosts with any clock")
	require.Equal(t, start, got[3].Revoked)
	// The older key does not seal again, and retires no later than before.
	require.Equal(t, k[0].Retires, got[0].Retires)
	require.Equal(t, k[0].Expires, got[0].Expires)

	require.NoError(t, r.Revoke(start, k[1].ID), "once more")
	require.EqualValues(t, 8, r.Serial())
	require.Equal(t, keyring.ErrUnknownKey, r.Revoke(start, keyring.ID{}))
	require.EqualValues(t, 8, r.Serial())
}

func TestRevokePrimaryWithoutSpare(t *testing.T) {
	r := newRing(t, start)
	now := start.Add(2 * period)
	k := keys(r, now)
	require.Equal(t, []keyring.State{expired, primary}, states(r, now))
	require.NoError(t, r.Revoke(now, k[1].ID))
	require.Equal(t, []keyring.State{primary, pending, revoked}, states(r, now))
	require.NotContains(t, []keyring.ID{k[0].ID, k[1].ID}, sealer(t, r, now))
	require.NoError(t, openErr(r, box(t, r, now), now))
}

func TestRevokeFirstPrimary(t *testing.T) {
	r := newRing(t, start)
	k := keys(r, start)
	now := start.Add(second)
	require.NoError(t, r.Revoke(now, k[0].ID))
	require.Equal(t, []keyring.State{primary, pending, revoked}, states(r, now))
	require.Equal(t, k[1].ID, sealer(t, r, now))
	require.Equal(t, k[1].ID, sealer(t, r, start.Add(-time.Hour)), "on a host with another clock")
	require.Equal(t, start.Add(period), keys(r, now)[1].Activates)
}

func TestRevokePending(t *testing.T) {
	r := ringOf(t, 4)
	k := keys(r, start)
	require.NoError(t, r.Revoke(start, k[2].ID))
	require.Equal(t, []keyring.State{retired, primary, pending, pending, revoked}, states(r, start))
	got := keys(r, start)
	require.NotEqual(t, k[2].ID, got[2].ID)
	want := k[2]
	want.ID, want.Created = got[2].ID, start
	require.Equal(t, want, got[2], "a fresh key has its times")
	require.Equal(t, k[3], got[3])

	require.NoError(t, r.Revoke(start, k[3].ID))
	got = keys(r, start)
	require.Equal(t, k[3].Activates, got[3].Activates)
	require.Equal(t, start.Add(overlap), got[5].Expires)
	// A key that never sealed is dropped once nobody can use it.
	require.False(t, rotate(t, r, start.Add(overlap-1)))
	require.True(t, rotate(t, r, start.Add(overlap)))
}

func TestRevokeRetired(t *testing.T) {
	r := ringOf(t, 3)
	k := keys(r, start)
	bad, good := box(t, r, start.Add(-second)), box(t, r, start)
	require.NoError(t, r.Revoke(start, k[0].ID))
	require.Equal(t, []keyring.State{primary, pending, revoked}, states(r, start))
	require.Equal(t, keyring.ErrRevokedKey, openErr(r, bad, start))
	require.NoError(t, openErr(r, good, start))
	// A host whose clock is behind must still have a primary.
	require.Equal(t, k[1].ID, sealer(t, r, start.Add(-second)))
	require.Equal(t, k[2], keys(r, start)[1])
}

func TestRevokeExpired(t *testing.T) {
	r := ringOf(t, 3)
	k := keys(r, start)
	now := start.Add(overlap)
	require.NoError(t, r.Revoke(now, k[0].ID))
	require.Equal(t, []keyring.State{primary, pending}, states(r, now))
}

func TestRevokeAt1970(t *testing.T) {
	now := time.Unix(0, 0)
	r := newRing(t, now)
	bad := box(t, r, now)
	require.NoError(t, r.Revoke(now, sealer(t, r, now)))
	require.Equal(t, keyring.ErrRevokedKey, openErr(r, bad, now))
}

// If a clock was wrong for a moment during a rotation, the ring still seals and
// opens at the right time.
func TestClockTrouble(t *testing.T) {
	for _, off := range []time.Duration{-10 * period, 100 * period} {
		r := newRing(t, start)
		rotate(t, r, start.Add(off))
		rotate(t, r, start.Add(off+overlap))
		require.NoError(t, openErr(r, box(t, r, start), start))
		rotate(t, r, start)
		require.NoError(t, openErr(r, box(t, r, start), start))
	}
	for _, now := range []time.Time{time.Unix(-1, 0), {}, time.Unix(253402300800, 0), time.Unix(253402300799, 0)} {
		r := newRing(t, start)
		_, err := r.Rotate(now)
		require.Error(t, err)
		require.Error(t, r.RotateNow(now))
		require.Error(t, r.Revoke(now, sealer(t, r, start)))
		require.EqualValues(t, 1, r.Serial())
	}
}

// A rotator whose clock was ahead has delayed the next rotation for years. To
// fix that, replace the next key, whose age is then known, and let it seal once
// all hosts have it.
func TestClockWasAhead(t *testing.T) {
	for _, how := range []struct {
		name    string
		advance func(r *keyring.Ring, now time.Time, primary keyring.ID) error
	}{
		{"rotate", func(r *keyring.Ring, now time.Time, _ keyring.ID) error { return r.RotateNow(now) }},
		{"revoke", func(r *keyring.Ring, now time.Time, primary keyring.ID) error { return r.Revoke(now, primary) }},
	} {
		r := newRing(t, start)
		rotate(t, r, start.Add(100*period))
		k := keys(r, start)
		require.Equal(t, []keyring.State{primary, pending}, states(r, start))
		require.Equal(t, keyring.ErrTooSoon, r.RotateNow(start.Add(lead)))

		require.NoError(t, r.Revoke(start, k[1].ID))
		host := clone(t, r)
		now := start.Add(lead)
		require.NoError(t, how.advance(r, now, k[0].ID), how.name)
		require.NoError(t, openErr(host, box(t, r, now), now), how.name)
		next := keys(r, now)[slices.Index(states(r, now), pending)]
		require.LessOrEqual(t, next.Activates, now.Add(period), how.name)
		require.True(t, rotate(t, r, next.Activates))
	}
}

// A ring that somebody, or a wrong clock, made into a trap can be recovered:
// all its keys can be revoked, in any order, and it rotates.
func TestRecovery(t *testing.T) {
	at := start.Unix()
	key := func(n int, created, activates, retires, expires int64) documentKey {
		return documentKey{Secret: secret(n), Created: created, Activates: activates, Retires: retires, Expires: expires, Revoked: 0}
	}
	gone := make([]documentKey, 4094)
	for i := range gone {
		gone[i] = documentKey{Secret: secret(100 + i), Created: 1, Activates: 0, Retires: 0, Expires: int64(maxUnix), Revoked: 1}
	}
	crowd := chain(4096)
	for i := range crowd[:4095] {
		crowd[i].Expires = int64(maxUnix)
	}
	none := []documentKey{}
	two := []documentKey{key(1, at, 0, at+3600, at+3670), key(2, at, at+3600, 0, 0)}
	tests := []struct {
		name           string
		chain, revoked []documentKey
	}{
		{"full of revoked keys", two, gone},
		{"full of keys", crowd, none},
		{"one key, of the future", []documentKey{key(1, maxUnix, 0, 0, 0)}, none},
		{"keys of the future", []documentKey{key(1, maxUnix, 0, at+3600, at+3670), key(2, maxUnix, at+3600, 0, 0)}, none},
		{"the last one of the future", []documentKey{key(1, maxUnix, 0, at-3600, at-3500), key(2, maxUnix, at-3600, 0, 0)}, none},
		{"a next key that never seals", []documentKey{key(1, at, 0, maxUnix-100, maxUnix-1), key(2, at, maxUnix-100, 0, 0)}, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(4) {
				r := load(t, document{Serial: 1, Policy: defaultPolicy, Chain: tt.chain, Revoked: tt.revoked}, keyring.Config{})
				if seed == 0 {
					rotate(t, r, start)
				}
				theirs := slices.DeleteFunc(keys(r, start), func(k keyring.Key) bool { return k.State == expired || k.State == revoked })
				rand.New(rand.NewPCG(seed, 0)).Shuffle(len(theirs), func(i, j int) { theirs[i], theirs[j] = theirs[j], theirs[i] })
				theirs = theirs[:min(len(theirs), 20)]
				for _, k := range theirs {
					require.NoError(t, r.Revoke(start, k.ID))
				}
				for _, k := range keys(clone(t, r), start) {
					if slices.ContainsFunc(theirs, func(theirs keyring.Key) bool { return theirs.ID == k.ID }) {
						require.Equal(t, revoked, k.State)
					}
				}
				require.NoError(t, openErr(r, box(t, r, start), start))
				for _, now := range []time.Time{start.Add(period), start.Add(2 * period), start.Add(3 * period)} {
					rotate(t, r, now)
					clone(t, r)
					require.Zero(t, r.Overdue(now))
				}
			}
		})
	}
}

const maxUnix = 253402300799

// A full ring first drops what was revoked first.
func TestFull(t *testing.T) {
	gone := make([]documentKey, 4094)
	for i := range gone {
		gone[i] = documentKey{Secret: secret(100 + i), Created: 1, Activates: 0, Retires: 0, Expires: start.Unix() + 70, Revoked: 1}
	}
	r := load(t, document{Serial: 1, Policy: defaultPolicy, Chain: chain(2), Revoked: gone}, keyring.Config{})
	now := start.Add(-second)
	before := keys(r, now)
	require.NoError(t, r.Revoke(now, before[1].ID))
	after := keys(r, now)
	require.Len(t, after, 4096)
	require.Equal(t, before[3:], after[2:4095])
	require.Equal(t, before[1].ID, after[4095].ID)
	clone(t, r)
	require.NoError(t, r.Revoke(start.Add(overlap), after[1].ID))
	require.Len(t, keys(r, now), 3, "revoked keys are dropped in time")
}

// Whatever happens to a ring, in whatever order: one key always seals, what it
// sealed opens on every host as long as a token may live, and the ring can be
// saved and loaded.
func TestRandomHistories(t *testing.T) {
	policies := []keyring.Policy{
		{},
		{MaxTTL: 6 * second, ClockSkew: second, Period: 2 * second, Lead: 2 * second},
		{MaxTTL: 600 * second, ClockSkew: 60 * second, Period: 61 * second, Lead: 61 * second},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	revocations, raised := 0, 0
	for i := range 60 {
		r, err := keyring.New(start, keyring.Config{Policy: policies[i%len(policies)]})
		require.NoError(t, err)
		now := start
		for range 100 {
			step := r.Policy().Period / 2
			now = now.Add(time.Duration(rng.Int64N(int64(step))) - step/10)
			k := keys(r, now)
			require.Equal(t, 1, count(k, primary))
			sealed := box(t, r, now)
			switch rng.IntN(7) {
			case 0:
				revocations++
				require.NoError(t, r.Revoke(now, k[rng.IntN(len(k))].ID))
				continue
			case 1:
				r.RotateNow(now)
			case 2:
				r = clone(t, r)
			case 3:
				longer := min(r.Limits().MaxTTL+time.Duration(rng.IntN(9))*second, 600*second)
				if r.SetPolicy(now, keyring.Policy{MaxTTL: longer}) == nil {
					raised++
				}
			default:
				rotate(t, r, now)
			}
			until := now.Add(r.Limits().MaxTTL + r.Limits().ClockSkew - 1)
			require.NoError(t, openErr(r, sealed, until))
			rotate(t, r, until)
			require.NoError(t, openErr(r, sealed, until))
		}
	}
	require.NotZero(t, revocations)
	require.NotZero(t, raised)
}

func count(keys []keyring.Key, s keyring.State) (n int) {
	for _, k := range keys {
		if k.State == s {
			n++
		}
	}
	return n
}

// A ring is valid only if its keys follow each other.
func TestChainIsChecked(t *testing.T) {
	at := start.Unix()
	tests := []struct {
		name string
		edit func(k []documentKey) []documentKey
		ok   bool
	}{
		{"as it should be", func(k []documentKey) []documentKey { return k }, true},
		{"one key", func(k []documentKey) []documentKey { return k[2:3] }, false},
		{"one key since ever", func(k []documentKey) []documentKey { k[2].Activates = 0; return k[2:] }, true},
		{"no key", func(k []documentKey) []documentKey { return k[:0] }, false},
		{"no last key", func(k []documentKey) []documentKey { return k[:2] }, false},
		{"a gap", func(k []documentKey) []documentKey { k[1].Activates = at + 1; return k }, false},
		{"two primaries", func(k []documentKey) []documentKey { k[1].Activates = at - 1; return k }, false},
		{"wrong order", func(k []documentKey) []documentKey { slices.Reverse(k); return k }, false},
		{"a start", func(k []documentKey) []documentKey { k[0].Activates = 1; return k }, false},
		{"retired before activation", func(k []documentKey) []documentKey {
			k[1].Retires, k[2].Activates, k[1].Expires = at-1, at-1, at+100
			return k
		}, false},
		{"no time at all", func(k []documentKey) []documentKey {
			k[1].Retires, k[2].Activates, k[1].Expires = at, at, at+100
			return k
		}, false},
		{"longer overlap", func(k []documentKey) []documentKey { k[0].Expires = at + 71; return k }, true},
		{"shorter overlap", func(k []documentKey) []documentKey { k[0].Expires = at + 69; return k }, false},
		{"no expiry", func(k []documentKey) []documentKey { k[0].Expires = 0; return k }, false},
		{"last one retires", func(k []documentKey) []documentKey { k[2].Retires = at + 1e8; return k }, false},
		{"last one expires", func(k []documentKey) []documentKey { k[2].Expires = at + 1e8; return k }, false},
		{"revoked in the chain", func(k []documentKey) []documentKey { k[1].Revoked = 1; return k }, false},
		{"negative time", func(k []documentKey) []documentKey { k[1].Created = -1; return k }, false},
		{"last second", func(k []documentKey) []documentKey { k[1].Created = int64(253402300799); return k }, true},
		{"after 9999", func(k []documentKey) []documentKey { k[1].Created = int64(253402300800); return k }, false},
		{"overflow", func(k []documentKey) []documentKey { k[0].Expires = uint64(1 << 63); return k }, false},
	}
	kek := newKEK(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := document{Serial: 1, Policy: defaultPolicy, Chain: tt.edit(chain(3)), Revoked: []documentKey{}}
			_, err := keyring.Load(t.Context(), kek, sealed(t, kek, d), keyring.Config{})
			require.Equal(t, tt.ok, err == nil, "error: %v", err)
		})
	}
}

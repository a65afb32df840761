package keyring_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

func TestSetPolicy(t *testing.T) {
	base := keyring.Policy{MaxTTL: 60 * second, ClockSkew: 5 * second, Period: period, Lead: lead}
	tests := []struct {
		name string
		p    keyring.Policy
		want keyring.Policy // zero where p is refused
	}{
		{"nothing", keyring.Policy{}, base},
		{"the same", base, base},
		{"shorter period", keyring.Policy{Period: 24 * time.Hour}, keyring.Policy{MaxTTL: 60 * second, ClockSkew: 5 * second, Period: 24 * time.Hour, Lead: lead}},
		{"longer lead", keyring.Policy{Lead: 24 * time.Hour}, keyring.Policy{MaxTTL: 60 * second, ClockSkew: 5 * second, Period: period, Lead: 24 * time.Hour}},
		{"longer TTL", keyring.Policy{MaxTTL: 61 * second}, keyring.Policy{MaxTTL: 61 * second, ClockSkew: 5 * second, Period: period, Lead: lead}},
		{"more skew", keyring.Policy{ClockSkew: 6 * second}, keyring.Policy{MaxTTL: 60 * second, ClockSkew: 6 * second, Period: period, Lead: lead}},
		{"shorter TTL", keyring.Policy{MaxTTL: 59 * second}, keyring.Policy{}},
		{"less skew", keyring.Policy{ClockSkew: 4 * second}, keyring.Policy{}},
		{"less skew for a longer TTL", keyring.Policy{MaxTTL: 90 * second, ClockSkew: 4 * second}, keyring.Policy{}},
		{"period within the lead", keyring.Policy{Period: lead - second}, keyring.Policy{}},
		{"lead within the skew", keyring.Policy{Lead: 5 * second}, keyring.Policy{}},
		{"TTL too long", keyring.Policy{MaxTTL: 601 * second}, keyring.Policy{}},
		{"skew that uses the TTL up", keyring.Policy{ClockSkew: 56 * second}, keyring.Policy{}},
		{"both", keyring.Policy{MaxTTL: 65 * second, ClockSkew: 60 * second}, keyring.Policy{MaxTTL: 65 * second, ClockSkew: 60 * second, Period: period, Lead: lead}},
		{"negative", keyring.Policy{Period: -period}, keyring.Policy{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRing(t, start)
			before := keys(r, start)
			err := r.SetPolicy(start, tt.p)
			if tt.want == (keyring.Policy{}) {
				require.Error(t, err)
				require.Equal(t, base, r.Policy())
				require.EqualValues(t, 1, r.Serial())
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, r.Policy())
			require.Equal(t, tt.want != base, r.Serial() == 2)
			require.NoError(t, r.SetPolicy(start, tt.p), "a second time")
			require.Equal(t, tt.want != base, r.Serial() == 2)
			// Only how long keys open may change.
			opens := tt.want.MaxTTL + 2*tt.want.ClockSkew
			before[0].Expires = before[0].Retires.Add(opens)
			require.Equal(t, before, keys(r, start))
			clone(t, r)
		})
	}
}

// If tokens are to live longer, the ring must reach every host before a key
// expires by the old policy.
func TestSetPolicyInTime(t *testing.T) {
	longer := keyring.Policy{MaxTTL: 600 * second}
	retirement := start.Add(period)
	expiry := retirement.Add(overlap)
	tests := []struct {
		name string
		now  time.Time
		want error
	}{
		{"in time", expiry.Add(-lead), nil},
		{"one second late", expiry.Add(-lead + second), keyring.ErrTooSoon},
		{"as it retires", retirement, keyring.ErrTooSoon},
		{"before it expires", expiry.Add(-second), keyring.ErrTooSoon},
		{"once it has expired", expiry, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRing(t, start)
			host := clone(t, r)
			require.Equal(t, tt.want, r.SetPolicy(tt.now, longer))
			require.NoError(t, r.SetPolicy(tt.now, keyring.Policy{Period: 2 * period}), "the same overlap")
			if tt.want != nil {
				return
			}
			// Others may still have the old ring. They open what a
			// host with the new one mints, for as long as that may
			// last.
			token := box(t, r, tt.now)
			require.NoError(t, openErr(host, token, tt.now.Add(lead-1)))
			require.NoError(t, openErr(r, token, tt.now.Add(longer.MaxTTL+5*second-1)))
			require.NotContains(t, states(r, tt.now), expired)
			if tt.now.Equal(expiry) {
				require.NotContains(t, states(r, tt.now), retired, "a key that has expired is not prolonged")
			}
		})
	}
}

// The next key follows the new policy. The existing ones keep their times.
func TestSetPolicyCountsFromNow(t *testing.T) {
	r := newRing(t, start)
	require.NoError(t, r.SetPolicy(start, keyring.Policy{Period: 24 * time.Hour, Lead: 2 * lead}))
	due := start.Add(period)
	require.False(t, rotate(t, r, due.Add(-second)))
	require.True(t, rotate(t, r, due))
	require.Equal(t, due.Add(24*time.Hour), keys(r, due)[2].Activates)
	late := due.Add(48 * time.Hour)
	require.True(t, rotate(t, r, late))
	require.Equal(t, late.Add(2*lead), keys(r, late)[1].Activates)
}

// If a key opens for longer than its overlap, for hosts that hear late, it goes
// on to do so.
func TestSetPolicyShortensNothing(t *testing.T) {
	r := newRing(t, start)
	now := start.Add(lead)
	require.NoError(t, r.RotateNow(now))
	before := keys(r, now)
	require.Equal(t, now.Add(lead+overlap), before[0].Expires)
	require.NoError(t, r.SetPolicy(now, keyring.Policy{MaxTTL: 90 * second}))
	before[1].Expires = before[1].Retires.Add(overlap + 30*second)
	require.Equal(t, before, keys(r, now))
}

func TestRaiseSerial(t *testing.T) {
	r := newRing(t, start)
	before := keys(r, start)
	for _, tt := range []struct {
		serial, want uint64
		ok           bool
	}{
		{0, 1, true}, {1, 1, true}, {2, 2, true}, {100, 100, true}, {99, 100, true},
		{1 << 63, 100, false}, {1<<64 - 1, 100, false}, {1<<63 - 1, 100, false},
		{100 + 1<<32 + 1, 100, false}, {100 + 1<<32, 100 + 1<<32, true},
	} {
		err := r.RaiseSerial(tt.serial)
		require.Equal(t, tt.ok, err == nil, "to %d: %v", tt.serial, err)
		require.Equal(t, tt.want, r.Serial())
	}
	require.Equal(t, before, keys(r, start))
	require.Error(t, new(keyring.Ring).RaiseSerial(1))
	require.Error(t, new(keyring.Ring).SetPolicy(start, keyring.Policy{}))
}

// A ring whose policy would now be refused works as before, and can be fixed.
func TestPolicyOfBefore(t *testing.T) {
	d := good()
	d.Policy = []int64{60, 60, 2592000, 3600}
	for i := range d.Chain.([]documentKey)[:2] {
		k := &d.Chain.([]documentKey)[i]
		k.Expires = k.Retires.(int64) + 180
	}
	r := load(t, d, keyring.Config{})
	require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	require.NoError(t, r.SetPolicy(start, keyring.Policy{Period: 24 * time.Hour}))
	require.ErrorContains(t, r.SetPolicy(start, keyring.Policy{MaxTTL: 64 * second}), "MaxTTL is less than ClockSkew and 5 s")
	require.NoError(t, r.SetPolicy(start.Add(period-2*lead), keyring.Policy{MaxTTL: 65 * second}))
	clone(t, r)
}

// Hosts that have seen a newer ring refuse one from a backup, until its serial
// is above theirs.
func TestRestore(t *testing.T) {
	kek := newKEK(t)
	writer := newRing(t, start)
	backup := clone(t, writer)
	leaked := sealer(t, writer, start)
	require.NoError(t, writer.Revoke(start, leaked))
	host := clone(t, writer)
	update := func() error {
		data, err := backup.Marshal(t.Context(), kek)
		require.NoError(t, err)
		_, err = host.Update(t.Context(), kek, data)
		return err
	}
	require.Equal(t, keyring.ErrRollback, update())
	require.NoError(t, backup.RaiseSerial(host.Serial()))
	require.Equal(t, keyring.ErrConflict, update())
	require.NoError(t, backup.RaiseSerial(host.Serial()+1))
	require.NoError(t, backup.Revoke(start, leaked), "what was revoked since is to be revoked again")
	require.NoError(t, update())
	require.Equal(t, keys(backup, start), keys(host, start))
}

// If the policy is set after the next key was due, before anybody rotated, it
// raises no false alarm and shortens no period.
func TestSetPolicyRotates(t *testing.T) {
	for _, late := range []time.Duration{0, 2 * time.Minute, overlap, lead} {
		r := newRing(t, start)
		now := start.Add(period + late)
		week := 7 * 24 * time.Hour
		require.NoError(t, r.SetPolicy(now, keyring.Policy{Period: week}))
		require.EqualValues(t, 2, r.Serial())
		require.Zero(t, r.Overdue(now))
		all := keys(r, now)
		require.Equal(t, start.Add(period+week), all[len(all)-1].Activates)
		require.False(t, rotate(t, r, now))
		require.NoError(t, r.SetPolicy(now, keyring.Policy{}))
		require.EqualValues(t, 2, r.Serial(), "nothing to do")
	}
}

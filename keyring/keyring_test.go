package keyring_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

var (
	start  = time.Date(2026, 3, 16, 4, 44, 9, 0, time.UTC)
	second = time.Second
)

const (
	overlap = 70 * time.Second // of the default policy: 60 s and twice 5 s
	period  = 30 * 24 * time.Hour
	lead    = time.Hour
)

// document is the plaintext of a sealed ring, independent of the package's own.
type document struct {
	_       struct{} `cbor:",toarray"`
	Serial  any
	Policy  any
	Chain   any
	Revoked any
}

type documentKey struct {
	_                                             struct{} `cbor:",toarray"`
	Secret                                        any
	Created, Activates, Retires, Expires, Revoked any
}

var defaultPolicy = []int64{60, 5, 2592000, 3600}

// secret returns the n-th well-known secret.
func secret(n int) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return sum[:]
}

// chain returns n keys. The second activates at start, each further one a
// period later.
func chain(n int) []documentKey {
	keys := make([]documentKey, n)
	at := start.Unix()
	for i := range keys {
		keys[i] = documentKey{Secret: secret(i), Created: 1, Activates: at - 2592000, Retires: at, Expires: at + 70, Revoked: 0}
		at += 2592000
	}
	keys[0].Activates = 0
	keys[n-1].Retires, keys[n-1].Expires = 0, 0
	return keys
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	b, err := mode.Marshal(v)
	require.NoError(t, err)
	return b
}

// sealed returns the sealed form of a document.
func sealed(t testing.TB, kek keyring.KEK, d document) []byte {
	t.Helper()
	return sealedFor(t, kek, "", d)
}

func sealedFor(t testing.TB, kek keyring.KEK, ringContext string, d document) []byte {
	t.Helper()
	b, err := keyring.Seal(context.Background(), kek, ringContext, encode(t, d))
	require.NoError(t, err)
	return b
}

func load(t testing.TB, d document, c keyring.Config) *keyring.Ring {
	t.Helper()
	kek := newKEK(t)
	r, err := keyring.Load(t.Context(), kek, sealedFor(t, kek, c.Context, d), c)
	require.NoError(t, err)
	return r
}

// ringOf loads a ring of n keys. The second is primary at start.
func ringOf(t testing.TB, n int) *keyring.Ring {
	t.Helper()
	return load(t, document{Serial: 7, Policy: defaultPolicy, Chain: chain(n), Revoked: []documentKey{}}, keyring.Config{})
}

func newRing(t testing.TB, now time.Time) *keyring.Ring {
	t.Helper()
	r, err := keyring.New(now, keyring.Config{})
	require.NoError(t, err)
	return r
}

func newKEK(t testing.TB) *keyring.LocalKEK {
	t.Helper()
	k, err := keyring.GenerateKEK()
	require.NoError(t, err)
	return k
}

// clone returns a second ring of the same content, as on another host.
func clone(t testing.TB, r *keyring.Ring) *keyring.Ring {
	t.Helper()
	kek := newKEK(t)
	b, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	c, err := keyring.Load(t.Context(), kek, b, keyring.Config{})
	require.NoError(t, err)
	return c
}

func keys(r *keyring.Ring, now time.Time) []keyring.Key { return slices.Collect(r.Keys(now)) }

func states(r *keyring.Ring, now time.Time) (states []keyring.State) {
	for k := range r.Keys(now) {
		states = append(states, k.State)
	}
	return states
}

// box seals a small plaintext.
func box(t testing.TB, r *keyring.Ring, now time.Time) []byte {
	t.Helper()
	b, err := r.Box(nil, []byte("plaintext"), now)
	require.NoError(t, err)
	return b
}

// sealer returns the ID of the key that seals.
func sealer(t testing.TB, r *keyring.Ring, now time.Time) keyring.ID {
	t.Helper()
	return keyring.ID(box(t, r, now)[len(keyring.Magic):])
}

func openErr(r *keyring.Ring, box []byte, now time.Time) error {
	_, err := r.Unbox(nil, box, now)
	return err
}

func TestNew(t *testing.T) {
	r, err := keyring.New(start.Add(999*time.Millisecond), keyring.Config{})
	require.NoError(t, err)
	got := keys(r, start)
	require.Len(t, got, 2)
	primary, next := got[0], got[1]
	require.NotEqual(t, primary.ID, next.ID)
	require.Equal(t, keyring.Key{
		ID: primary.ID, State: keyring.Primary, Created: start,
		Retires: start.Add(period), Expires: start.Add(period + overlap),
	}, primary)
	require.Equal(t, keyring.Key{
		ID: next.ID, State: keyring.Pending, Created: start, Activates: start.Add(period),
	}, next)
	require.EqualValues(t, 1, r.Serial())
	require.Equal(t, keyring.Policy{MaxTTL: time.Minute, ClockSkew: 5 * second, Period: period, Lead: lead}, r.Policy())
	require.Equal(t, time.Minute, r.Limits().MaxTTL)
	require.Equal(t, 5*second, r.Limits().ClockSkew)
}

func TestKeysStopsEarly(t *testing.T) {
	for range newRing(t, start).Keys(start) {
		break
	}
}

func TestNewRefuses(t *testing.T) {
	policy := func(p keyring.Policy) keyring.Config { return keyring.Config{Policy: p} }
	tests := []struct {
		name string
		now  time.Time
		c    keyring.Config
		ok   bool
	}{
		{"1970", time.Unix(0, 0), keyring.Config{}, true},
		{"before 1970", time.Unix(-1, 0), keyring.Config{}, false},
		{"zero time", time.Time{}, keyring.Config{}, false},
		{"the next key after 9999", time.Unix(253402300799, 0), keyring.Config{}, false},
		{"after 9999", time.Unix(253402300800, 0), keyring.Config{}, false},
		{"longest context", start, keyring.Config{Context: string(make([]byte, 255))}, true},
		{"context too long", start, keyring.Config{Context: string(make([]byte, 256))}, false},
		{"highest serial", start, keyring.Config{MinSerial: 1 << 62}, true},
		{"serial without headroom", start, keyring.Config{MinSerial: 1<<62 + 1}, false},
		{"serial too high", start, keyring.Config{MinSerial: 1 << 63}, false},
		{"shortest TTL", start, policy(keyring.Policy{MaxTTL: 6 * second, ClockSkew: second}), true},
		{"TTL that the skew uses up", start, policy(keyring.Policy{MaxTTL: 5 * second, ClockSkew: second}), false},
		{"shortest TTL by default", start, policy(keyring.Policy{MaxTTL: 10 * second}), true},
		{"TTL that the default skew uses up", start, policy(keyring.Policy{MaxTTL: 9 * second}), false},
		{"dead on arrival", start, policy(keyring.Policy{MaxTTL: 5 * second, ClockSkew: 60 * second}), false},
		{"TTL too short", start, policy(keyring.Policy{MaxTTL: 4 * second}), false},
		{"longest TTL", start, policy(keyring.Policy{MaxTTL: 600 * second}), true},
		{"TTL too long", start, policy(keyring.Policy{MaxTTL: 601 * second}), false},
		{"TTL not whole", start, policy(keyring.Policy{MaxTTL: 5*second + 1}), false},
		{"negative TTL", start, policy(keyring.Policy{MaxTTL: -60 * second}), false},
		{"smallest skew", start, policy(keyring.Policy{ClockSkew: second}), true},
		{"skew not whole", start, policy(keyring.Policy{ClockSkew: second / 2}), false},
		{"negative skew", start, policy(keyring.Policy{ClockSkew: -second}), false},
		{"largest skew", start, policy(keyring.Policy{MaxTTL: 65 * second, ClockSkew: 60 * second}), true},
		{"skew that uses the TTL up", start, policy(keyring.Policy{MaxTTL: 64 * second, ClockSkew: 60 * second}), false},
		{"skew too large", start, policy(keyring.Policy{ClockSkew: 61 * second}), false},
		{"longest period", start, policy(keyring.Policy{Period: 366 * 24 * time.Hour}), true},
		{"period too long", start, policy(keyring.Policy{Period: 366*24*time.Hour + second}), false},
		{"negative period", start, policy(keyring.Policy{Period: -time.Hour}), false},
		{"lead as long as the period", start, policy(keyring.Policy{Period: lead}), true},
		{"lead beyond the period", start, policy(keyring.Policy{Period: lead - second}), false},
		{"lead beyond the skew", start, policy(keyring.Policy{Lead: 6 * second}), true},
		{"lead within the skew", start, policy(keyring.Policy{Lead: 5 * second}), false},
		{"lead not whole", start, policy(keyring.Policy{Lead: 6*second + 1}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := keyring.New(tt.now, tt.c)
			require.Equal(t, tt.ok, err == nil, "error: %v", err)
			require.Equal(t, tt.ok, r != nil)
			if tt.ok {
				require.NoError(t, openErr(r, box(t, r, tt.now), tt.now))
				require.Equal(t, max(tt.c.MinSerial, 1), r.Serial())
			}
		})
	}
}

// Whoever expects the highest serial can load it, but not change the ring: a
// serial that wrapped around would be refused everywhere.
func TestSerialEnds(t *testing.T) {
	d := good()
	d.Serial = uint64(1<<63 - 1)
	r := load(t, d, keyring.Config{MinSerial: 1<<63 - 1})
	require.Error(t, r.Revoke(start, sealer(t, r, start)))
	require.Equal(t, uint64(1<<63-1), r.Serial())
	require.NoError(t, openErr(r, box(t, r, start), start))
}

func TestZeroRing(t *testing.T) {
	var r keyring.Ring
	_, err := r.Box(nil, nil, start)
	require.Error(t, err)
	require.Equal(t, keyring.ErrUnknownKey, openErr(&r, box(t, newRing(t, start), start), start))
	_, err = r.Rotate(start)
	require.Error(t, err)
	require.Error(t, r.RotateNow(start))
	require.Error(t, r.Revoke(start, keyring.ID{}))
	kek := newKEK(t)
	_, err = r.Marshal(t.Context(), kek)
	require.Error(t, err)
	require.Error(t, saveFile(t, &r, kek, t.TempDir()+"/ring"))
	good, err := newRing(t, start).Marshal(t.Context(), kek)
	require.NoError(t, err)
	_, err = r.Update(t.Context(), kek, good)
	require.Error(t, err)
	require.Zero(t, r.Serial())
	require.Zero(t, r.Policy())
	require.Zero(t, r.Overdue(start))
	require.Empty(t, keys(&r, start))
	require.Equal(t, "keyring(serial 0, keys )", r.String())
}

func TestState(t *testing.T) {
	names := map[keyring.State]string{
		0: "State(0)", keyring.Pending: "pending", keyring.Primary: "primary", keyring.Retired: "retired",
		keyring.Expired: "expired", keyring.Revoked: "revoked", 6: "State(6)", 255: "State(255)",
	}
	for s, want := range names {
		require.Equal(t, want, s.String())
	}
}

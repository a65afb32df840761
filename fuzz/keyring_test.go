package fuzz_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// FuzzSealedRing loads any bytes as a sealed ring. It loads only what is sealed
// under the KEK, as the reference says. A refused ring leaves a ring in force
// unchanged.
func FuzzSealedRing(f *testing.F) {
	kek, err := keyring.ParseKEK(testKEK.text())
	require.NoError(f, err)
	ring := loadTestRing(f)
	before := slices.Collect(ring.Keys(after(0)))
	c := keyring.Config{Context: testContext}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		original := bytes.Clone(sealed)
		document, ok := testKEK.unsealRing(sealed, testContext)
		var d *ringDocument
		if ok {
			d, ok = parseRing(document, testContext)
			ok = ok && d.Serial <= highestSerial(0)
		}
		loaded, err := keyring.Load(t.Context(), kek, sealed, c)
		require.Equal(t, ok, err == nil, "%v", err)
		require.Equal(t, ok, loaded != nil)
		changed, err := ring.Update(t.Context(), kek, sealed)
		require.False(t, changed, "no seed is newer")
		require.Equal(t, before, slices.Collect(ring.Keys(after(0))))
		require.Equal(t, original, sealed, "the input was written to")
		if ok {
			requireRing(t, d, testContext, loaded, after(0))
		}
		if !ok || d.Serial < 7 {
			require.Error(t, err)
		}
	})
}

// FuzzRingDocument seals any bytes as the document of a ring, in both forms and
// under a KEK with any ID, and loads that. The ring loads exactly if the
// reference finds it valid. It then is what the document says, and is written
// again to the same bytes. As an update it replaces only an older ring.
func FuzzRingDocument(f *testing.F) {
	dataKey := pseudo(32, "data key")
	f.Fuzz(func(t *testing.T, document []byte, keyContext string, kekID, wrapped []byte, minSerial uint64, ns int64) {
		if len(kekID) > 255 || len(wrapped) > 65535 {
			t.Skip("no envelope can say that")
		}
		kek := &openKEK{string(kekID), wrapped, dataKey}
		c := keyring.Config{Context: keyContext, MinSerial: minSerial}
		d, valid := parseRing(document, keyContext)
		for _, form := range []byte{1, 2} {
			sealed := sealRing(form, keyContext, kekID, wrapped, dataKey, pseudo(24, "nonce of the ring"), document)
			ok := valid && len(kekID) > 0 && len(wrapped) > 0 && len(keyContext) <= 255 &&
				len(sealed) <= 1<<20 && d.Serial >= minSerial && d.Serial <= highestSerial(minSerial)
			ring, err := keyring.Load(t.Context(), kek, sealed, c)
			if !ok {
				require.Error(t, err)
				require.Nil(t, ring)
				continue
			}
			require.NoError(t, err)
			requireRing(t, d, keyContext, ring, after(ns))
			requireMarshal(t, document, keyContext, ring)
			requireUpdate(t, d, keyContext, kek, form, sealed)
			strict := c
			strict.RefuseForm1 = true
			_, err = keyring.Load(t.Context(), kek, sealed, strict)
			require.Equal(t, form == 1, errors.Is(err, keyring.ErrContext))
			c := c
			c.Context = keyContext[:len(keyContext)/2] + "x"
			_, err = keyring.Load(t.Context(), kek, sealed, c)
			require.Equal(t, form == 2 && c.Context != keyContext, err == keyring.ErrContext)
		}
	})
}

// highestSerial returns the highest serial that may follow a known one.
func highestSerial(known uint64) uint64 {
	if known == 0 {
		return 1 << 62
	}
	return known + min(1<<32, math.MaxUint64-known)
}

// openKEK is a KEK that knows only the data key that it wrapped last. It checks
// that it is asked for that one.
type openKEK struct {
	id      string
	wrapped []byte
	dataKey []byte
}

func (k *openKEK) Wrap(_ context.Context, dataKey []byte) (string, []byte, error) {
	k.dataKey = bytes.Clone(dataKey)
	return k.id, k.wrapped, nil
}

func (k *openKEK) Unwrap(_ context.Context, kekID string, wrapped []byte) ([]byte, error) {
	if kekID != k.id || !bytes.Equal(wrapped, k.wrapped) {
		return nil, context.Canceled // any error will do
	}
	return bytes.Clone(k.dataKey), nil
}

// requireRing checks that a ring is what its document says.
func requireRing(t testing.TB, d *ringDocument, keyContext string, ring *keyring.Ring, now time.Time) {
	t.Helper()
	require.Equal(t, d.Serial, ring.Serial())
	require.Equal(t, time.Duration(d.Policy.MaxTTL)*time.Second, ring.Limits().MaxTTL)
	require.Equal(t, time.Duration(d.Policy.ClockSkew)*time.Second, ring.Limits().ClockSkew)
	keys := slices.Collect(ring.Keys(now))
	require.Len(t, keys, len(d.keys()))
	var primary []keyring.ID
	for i, k := range d.keys() {
		require.Equal(t, hex.EncodeToString(k.id(keyContext)), keys[i].ID.String())
		require.Equal(t, k.state(now), keys[i].State.String())
		if keys[i].State == keyring.Primary {
			primary = append(primary, keys[i].ID)
		}
	}
	require.Len(t, primary, 1, "keys that seal at one moment")
	sealed, err := ring.SealBox(box.Inside(), nil, []byte("plaintext"), now)
	require.NoError(t, err)
	require.Equal(t, string(primary[0][:]), string(sealed[4:8]))
	plaintext, err := d.openBox(keyContext, sealed, now)
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(plaintext))
}

// requireMarshal checks that the ring is written as document, in form 2.
func requireMarshal(t testing.TB, document []byte, keyContext string, ring *keyring.Ring) {
	t.Helper()
	kek := &openKEK{id: "k", wrapped: []byte{1}}
	sealed, err := ring.Marshal(t.Context(), kek)
	require.NoError(t, err)
	e, ok := parseEnvelope(sealed)
	require.True(t, ok)
	require.EqualValues(t, 2, e.form)
	plaintext, err := openXC20P(kek.dataKey, e.nonce, e.ciphertext, e.header())
	require.NoError(t, err)
	require.Equal(t, slices.Concat(contextDigest(keyContext), document), plaintext)
}

// requireUpdate offers the document to rings of form 2 with the serials around
// its own.
func requireUpdate(t testing.TB, d *ringDocument, keyContext string, kek keyring.KEK, form byte, sealed []byte) {
	t.Helper()
	for _, serial := range []uint64{d.Serial - 1, d.Serial, d.Serial + 1} {
		old, err := keyring.New(after(0), keyring.Config{Context: keyContext, MinSerial: serial})
		if serial == 0 || err != nil {
			continue
		}
		// A MinSerial would refuse a rollback before the ring is read.
		old = copyRing(t, old, keyContext)
		before := slices.Collect(old.Keys(after(0)))
		changed, err := old.Update(t.Context(), kek, sealed)
		if form == 1 {
			require.ErrorIs(t, err, keyring.ErrContext)
			continue
		}
		if serial < d.Serial {
			require.NoError(t, err)
			require.True(t, changed)
			require.Equal(t, d.Serial, old.Serial())
			continue
		}
		want := keyring.ErrConflict
		if serial > d.Serial {
			want = keyring.ErrRollback
		}
		require.Equal(t, want, err)
		require.False(t, changed)
		require.Equal(t, before, slices.Collect(old.Keys(after(0))))
	}
}

// copyRing loads a ring again, as another process would.
func copyRing(t testing.TB, ring *keyring.Ring, keyContext string) *keyring.Ring {
	t.Helper()
	kek := &openKEK{id: "k", wrapped: []byte{1}}
	sealed, err := ring.Marshal(t.Context(), kek)
	require.NoError(t, err)
	loaded, err := keyring.Load(t.Context(), kek, sealed, keyring.Config{Context: keyContext})
	require.NoError(t, err)
	return loaded
}

func sealedRingSeeds(t testing.TB) []seed {
	good := sealTestRing(encode(t, testDocument()))
	older := testDocument()
	older.Serial = 6
	conflict := testDocument()
	conflict.Chain[3].Created++
	foreign := bytes.Clone(good)
	copy(foreign[19:], "local-0123456789abcdef")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-20] ^= 1
	return []seed{
		{"empty", args([]byte{})},
		{"good", args(good)},
		{"older", args(sealTestRing(encode(t, older)))},
		{"same-serial", args(sealTestRing(encode(t, conflict)))},
		{"invalid", args(sealTestRing([]byte{0x84}))},
		{"cut", args(good[:len(good)-1])},
		{"cut-in-the-header", args(good[:60])},
		{"longer", args(append(bytes.Clone(good), 0))},
		{"flipped", args(flipped)},
		{"form-1", args(sealTestRingAs(1, "", encode(t, testDocument())))},
		{"other-context", args(sealTestRingAs(2, "production", encode(t, testDocument())))},
		{"form-1-of-two", args(bytes.Replace(good, []byte("keyring\x02"), []byte("keyring\x01"), 1))},
		{"other-form", args(bytes.Replace(good, []byte("keyring\x02"), []byte("keyring\x03"), 1))},
		{"other-kek", args(foreign)},
		{"no-kek-id", args([]byte("chattoken-keyring\x02\x00\x00\x01w" + strings.Repeat("x", 60)))},
		{"long-lengths", args([]byte("chattoken-keyring\x02\xff" + strings.Repeat("k", 255) + "\xff\xff"))},
	}
}

func ringDocumentSeeds(t testing.TB) []seed {
	good := encode(t, testDocument())
	ahead := testDocument()
	ahead.Serial = 2 + 1<<32
	far := encode(t, ahead)
	with := func(document []byte) []any {
		return args(document, testContext, []byte("kek"), []byte("wrapped"), uint64(0), int64(0))
	}
	changed := func(f func(*ringDocument)) []any {
		d := testDocument()
		f(d)
		return with(encode(t, d))
	}
	seeds := []seed{
		{"good", with(good)},
		{"other-context", args(good, "production", []byte("k"), []byte("w"), uint64(7), int64(time.Hour))},
		{"long-context", args(good, strings.Repeat("c", 256), []byte("k"), []byte("w"), uint64(0), int64(0))},
		{"too-far-ahead", args(far, testContext, []byte("k"), []byte("w"), uint64(1), int64(0))},
		{"as-far-as-may-be", args(far, testContext, []byte("k"), []byte("w"), uint64(2), int64(0))},
		{"rollback", args(good, testContext, []byte("k"), []byte("w"), uint64(8), int64(0))},
		{"no-kek-id", args(good, testContext, []byte{}, []byte("w"), uint64(0), int64(0))},
		{"nothing-wrapped", args(good, testContext, []byte("k"), []byte{}, uint64(0), int64(0))},
		{"longest-envelope", args(good, testContext, bytes.Repeat([]byte("k"), 255), bytes.Repeat([]byte("w"), 300), uint64(0), int64(0))},
		{"empty", with(nil)},
		{"trailing-byte", with(append(bytes.Clone(good), 0))},
		{"long-head", with(slices.Concat([]byte{0x98, 4}, good[1:]))},
		{"indefinite", with(slices.Concat([]byte{0x9f}, good[1:], []byte{0xff}))},
		{"null", with(bytes.Replace(good, []byte{0}, []byte{0xf6}, 1))},
		{"tagged", with(append([]byte{0xd9, 0xd9, 0xf7}, good...))},
		{"huge-array", with([]byte{0x84, 7, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
		{"nested", with(bytes.Repeat([]byte{0x81}, 1000))},
	}
	// Key 2 retires and key 3 activates; key 1 expires.
	for name, second := range map[string]int64{"tick-of-activation": 300, "tick-of-expiration": 310} {
		tick := second * int64(time.Second)
		for i, ns := range []int64{tick - 1, tick, tick + 1} {
			seeds = append(seeds, seed{fmt.Sprint(name, "-", i), args(good, testContext, []byte("k"), []byte("w"), uint64(0), ns)})
		}
	}
	for name, f := range map[string]func(*ringDocument){
		"serial-0":      func(d *ringDocument) { d.Serial = 0 },
		"serial-first":  func(d *ringDocument) { d.Serial = 1 << 62 },
		"serial-last":   func(d *ringDocument) { d.Serial = 1<<63 - 1 },
		"serial-beyond": func(d *ringDocument) { d.Serial = 1 << 63 },
		"one-key": func(d *ringDocument) {
			d.Chain, d.Revoked = d.Chain[:1], nil
			d.Chain[0].Retires, d.Chain[0].Expires = 0, 0
		},
		"no-keys":            func(d *ringDocument) { d.Chain, d.Revoked = nil, nil },
		"only-revoked":       func(d *ringDocument) { d.Chain = nil },
		"same-secret":        func(d *ringDocument) { d.Chain[2].Secret = d.Chain[0].Secret },
		"zero-secret":        func(d *ringDocument) { d.Chain[2].Secret = make([]byte, 32) },
		"short-secret":       func(d *ringDocument) { d.Chain[2].Secret = d.Chain[2].Secret[:31] },
		"long-secret":        func(d *ringDocument) { d.Chain[2].Secret = pseudo(33, "long") },
		"gap":                func(d *ringDocument) { d.Chain[1].Retires-- },
		"overlap-too-short":  func(d *ringDocument) { d.Chain[1].Expires-- },
		"backwards":          func(d *ringDocument) { d.Chain[1].Retires, d.Chain[2].Activates = 5, 5 },
		"last-one-ends":      func(d *ringDocument) { d.Chain[3].Retires = maxUnix },
		"first-one-starts":   func(d *ringDocument) { d.Chain[0].Activates = 1 },
		"revoked-in-chain":   func(d *ringDocument) { d.Chain[1].Revoked = 1 },
		"revoked-never":      func(d *ringDocument) { d.Revoked[0].Revoked = 0 },
		"time-beyond":        func(d *ringDocument) { d.Chain[3].Created = maxUnix + 1 },
		"policy-lead":        func(d *ringDocument) { d.Policy.Lead = d.Policy.ClockSkew },
		"policy-wraps":       func(d *ringDocument) { d.Policy.Period += 1 << 55 },
		"policy-ttl-too-big": func(d *ringDocument) { d.Policy.MaxTTL = 601 },
	} {
		seeds = append(seeds, seed{name, changed(f)})
	}
	return seeds
}

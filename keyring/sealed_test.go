package keyring_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
)

func good() document {
	gone := documentKey{Secret: secret(9), Created: 1, Activates: 0, Retires: 0, Expires: int64(1 << 37), Revoked: 1}
	return document{Serial: 7, Policy: defaultPolicy, Chain: chain(3), Revoked: []documentKey{gone}}
}

func TestSealedRoundTrip(t *testing.T) {
	kek := newKEK(t)
	c := keyring.Config{Context: "production"}
	r, err := keyring.New(start, c)
	require.NoError(t, err)
	old := sealer(t, r, start)
	require.NoError(t, r.Revoke(start, old))
	a, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	b, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	require.Len(t, b, len(a))
	require.NotEqual(t, a[150:200], b[150:200], "the data key is fresh")
	require.True(t, bytes.HasPrefix(a, []byte("chattoken-keyring\x02\x16"+kek.ID())))
	require.NotContains(t, string(a), "production")
	require.NotContains(t, string(a), string(old[:]))

	got, err := keyring.Load(t.Context(), kek, a, c)
	require.NoError(t, err)
	require.Equal(t, keys(r, start), keys(got, start))
	require.Equal(t, r.Serial(), got.Serial())
	require.Equal(t, r.Policy(), got.Policy())
	require.NoError(t, openErr(got, box(t, r, start), start))
	require.NoError(t, openErr(r, box(t, got, start), start))
}

// seenKEK keeps the data keys that it is given.
type seenKEK struct {
	knownKEK
	keys map[string]bool
}

func (k *seenKEK) Wrap(ctx context.Context, dataKey []byte) (string, []byte, error) {
	k.keys[string(dataKey)] = true
	return k.knownKEK.Wrap(ctx, dataKey)
}

// Each sealed form has its own data key and nonce.
func TestSealedIsFresh(t *testing.T) {
	const times = 100
	kek := &seenKEK{knownKEK{stub{id: "k", wrapped: []byte("w")}}, map[string]bool{}}
	r := newRing(t, start)
	nonces := map[string]bool{}
	for range times {
		b, err := r.Marshal(t.Context(), kek)
		require.NoError(t, err)
		nonces[string(b[len("chattoken-keyring\x01\x01k\x00\x01w"):][:24])] = true
	}
	require.Len(t, kek.keys, times)
	require.Len(t, nonces, times)
}

// sealBy seals a plaintext behind any header, under a data key that is known.
func sealBy(t testing.TB, dataKey []byte, header string, plaintext []byte) []byte {
	t.Helper()
	aead, err := chacha20poly1305.NewX(dataKey)
	require.NoError(t, err)
	nonce := secret(2)[:24]
	return aead.Seal(append([]byte(header), nonce...), nonce, plaintext, []byte(header))
}

// openBy is the inverse of sealBy.
func openBy(t testing.TB, dataKey []byte, header string, sealed []byte) []byte {
	t.Helper()
	aead, err := chacha20poly1305.NewX(dataKey)
	require.NoError(t, err)
	nonce := sealed[len(header):][:24]
	plaintext, err := aead.Open(nil, nonce, sealed[len(header)+24:], []byte(header))
	require.NoError(t, err)
	return plaintext
}

// sealedForm1 returns form 1 of a document. The package does not write that.
func sealedForm1(t testing.TB, kek keyring.KEK, d document) []byte {
	t.Helper()
	id, wrapped, err := kek.Wrap(t.Context(), secret(1))
	require.NoError(t, err)
	header := fmt.Sprintf("chattoken-keyring\x01%c%s\x00%c%s", len(id), id, len(wrapped), wrapped)
	return sealBy(t, secret(1), header, encode(t, d))
}

// These headers are sealed correctly, but this package does not write them.
func TestSealedHeaders(t *testing.T) {
	kek := stub{dataKey: secret(1)}
	digest := sha256.Sum256([]byte("chattoken/v1 context\x00"))
	forms := map[string][]byte{"\x01": encode(t, good()), "\x02": slices.Concat(digest[:], encode(t, good()))}
	for form, plaintext := range forms {
		header := "chattoken-keyring" + form + "\x01k\x00\x01w"
		_, err := keyring.Load(t.Context(), kek, sealBy(t, kek.dataKey, header, plaintext), keyring.Config{})
		require.NoError(t, err)
		for n := range digest {
			refused(t, kek, sealBy(t, kek.dataKey, header, plaintext[:n]), "cut short before it was sealed")
		}
	}
	for name, header := range map[string]string{
		"form 0":          "chattoken-keyring\x00\x01k\x00\x01w",
		"form 3":          "chattoken-keyring\x03\x01k\x00\x01w",
		"no KEK ID":       "chattoken-keyring\x01\x00\x00\x01w",
		"nothing wrapped": "chattoken-keyring\x01\x01k\x00\x00",
		"other magic":     "chattoken_keyring\x01\x01k\x00\x01w",
		"no header":       "",
	} {
		for _, plaintext := range forms {
			refused(t, kek, sealBy(t, kek.dataKey, header, plaintext), name)
		}
	}
}

// knownKEK keeps the last data key that it wrapped, and unwraps to it.
type knownKEK struct{ stub }

func (k *knownKEK) Wrap(ctx context.Context, dataKey []byte) (string, []byte, error) {
	k.dataKey = bytes.Clone(dataKey)
	return k.stub.Wrap(ctx, dataKey)
}

// The plaintext is as the package comment says, whichever form the ring was
// read from.
func TestPlaintext(t *testing.T) {
	const ringContext = "chat.example.com production"
	local := newKEK(t)
	digest := sha256.Sum256([]byte("chattoken/v1 context\x00" + ringContext))
	want := slices.Concat(digest[:], encode(t, good()))
	for name, sealed := range map[string][]byte{
		"form 1": sealedForm1(t, local, good()),
		"form 2": sealedFor(t, local, ringContext, good()),
	} {
		r, err := keyring.Load(t.Context(), local, sealed, keyring.Config{Context: ringContext})
		require.NoError(t, err, name)
		kek := &knownKEK{stub{id: "k", wrapped: []byte("w")}}
		b, err := r.Marshal(t.Context(), kek)
		require.NoError(t, err, name)
		require.Equal(t, want, openBy(t, kek.dataKey, "chattoken-keyring\x02\x01k\x00\x01w", b), name)
	}
}

// Load, Follow and Save refuse another deployment's ring for what it is,
// whatever its serial and form.
func TestForeignContext(t *testing.T) {
	kek := newKEK(t)
	name := filepath.Join(t.TempDir(), "ring")
	production := keyring.File{Name: name, KEK: kek, Config: keyring.Config{Context: "production"}}
	r, err := production.Create(t.Context(), start)
	require.NoError(t, err)
	require.NoError(t, r.RaiseSerial(7))
	require.NoError(t, production.Save(t.Context(), r))
	follower, err := production.Follow(t.Context(), start)
	require.NoError(t, err)
	own, err := os.ReadFile(name)
	require.NoError(t, err)
	before := keys(r, start)
	for _, foreign := range []string{"", "staging", "production ", "\x00", "production\x00"} {
		for _, serial := range []int{1, 6, 7, 8, 1000} {
			d := good()
			d.Serial = serial
			require.NoError(t, os.WriteFile(name, sealedFor(t, kek, foreign, d), 0o600))
			_, err := production.Load(t.Context())
			require.Equal(t, keyring.ErrContext, err)
			changed, err := follower.Refresh(t.Context(), start)
			require.Equal(t, keyring.ErrContext, err)
			require.False(t, changed)
			require.Equal(t, keyring.ErrContext, production.Save(t.Context(), r))
		}
	}
	// Form 1 may be anybody's, so it does not replace form 2.
	d := good()
	d.Serial = 1000
	require.NoError(t, os.WriteFile(name, sealedForm1(t, kek, d), 0o600))
	_, err = follower.Refresh(t.Context(), start)
	require.ErrorIs(t, err, keyring.ErrContext)
	require.Equal(t, before, keys(follower.Ring(), start))

	stranger, err := keyring.New(start, keyring.Config{Context: "staging", MinSerial: 8})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, own, 0o600))
	require.Equal(t, keyring.ErrContext, production.Save(t.Context(), stranger), "nobody could load it")
	_, err = follower.Refresh(t.Context(), start)
	require.NoError(t, err, "the right one is back")
}

// A fleet moves on from form 1. Followers adopt form 2 of what they have, and
// of what comes after it. Nobody goes back.
func TestFromForm1(t *testing.T) {
	kek := newKEK(t)
	c := keyring.Config{Context: "production"}
	f := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: kek, Config: c}
	first := sealedForm1(t, kek, good())
	require.NoError(t, os.WriteFile(f.Name, first, 0o600))
	strict := f
	strict.Config.RefuseForm1 = true
	_, err := strict.Load(t.Context())
	require.ErrorIs(t, err, keyring.ErrContext, "it may be anybody's")
	require.ErrorContains(t, err, "form 1")

	follower, err := f.Follow(t.Context(), start)
	require.NoError(t, err)
	writer, err := f.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, writer.Form())
	require.NoError(t, f.Save(t.Context(), writer))
	require.Equal(t, 2, writer.Form())
	b, err := os.ReadFile(f.Name)
	require.NoError(t, err)
	require.Equal(t, byte(2), b[len("chattoken-keyring")])
	_, err = keyring.File{Name: f.Name, KEK: kek}.Load(t.Context())
	require.Equal(t, keyring.ErrContext, err)
	_, err = strict.Load(t.Context())
	require.NoError(t, err)

	require.Equal(t, 1, follower.Ring().Form())
	changed, err := follower.Refresh(t.Context(), start)
	require.NoError(t, err, "the same version in form 2")
	require.False(t, changed)
	require.Equal(t, 2, follower.Ring().Form())
	later := good()
	later.Serial = 1000
	for _, r := range []*keyring.Ring{follower.Ring(), writer} {
		for _, d := range []document{good(), later} {
			changed, err = r.Update(t.Context(), kek, sealedForm1(t, kek, d))
			require.ErrorIs(t, err, keyring.ErrContext, "and back")
			require.False(t, changed)
		}
	}
	require.NoError(t, writer.Revoke(start, sealer(t, writer, start)))
	require.NoError(t, f.Save(t.Context(), writer))
	changed, err = follower.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, keys(writer, start), keys(follower.Ring(), start))
}

// Another deployment has a ring in form 1. A rotator that refuses form 1, or
// has form 2 in force, does not make that this deployment's.
func TestForm1IsNotLaundered(t *testing.T) {
	kek := newKEK(t)
	production := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: kek, Config: keyring.Config{Context: "production", RefuseForm1: true}}
	r, err := production.Create(t.Context(), start)
	require.NoError(t, err)
	staging := sealedForm1(t, kek, good())
	require.NoError(t, os.WriteFile(production.Name, staging, 0o600))
	_, err = production.Load(t.Context())
	require.ErrorIs(t, err, keyring.ErrContext)
	require.Error(t, production.Save(t.Context(), r))
	b, err := os.ReadFile(production.Name)
	require.NoError(t, err)
	require.Equal(t, staging, b)
}

// No step uses up the serials, even with the KEK.
func TestSerialSteps(t *testing.T) {
	const step = 1 << 32
	kek := newKEK(t)
	with := func(serial uint64) []byte {
		d := good()
		d.Serial = serial
		return sealed(t, kek, d)
	}
	for _, tt := range []struct {
		known, serial uint64
		ok            bool
	}{
		{0, 1, true}, {0, 1 << 62, true}, {0, 1<<62 + 1, false}, {0, 1<<63 - 1, false},
		{1, 1 + step, true}, {1, 2 + step, false}, {1, 1<<63 - 1, false},
		{1 << 62, 1<<62 + step, true}, {1 << 62, 1<<62 + step + 1, false},
		{1<<63 - 2, 1<<63 - 1, true},
	} {
		_, err := keyring.Load(t.Context(), kek, with(tt.serial), keyring.Config{MinSerial: tt.known})
		require.Equal(t, tt.ok, err == nil, "%d after %d: %v", tt.serial, tt.known, err)
	}
	r, err := keyring.Load(t.Context(), kek, with(7), keyring.Config{})
	require.NoError(t, err)
	for _, serial := range []uint64{8 + step, 1 << 62, 1<<63 - 1} {
		changed, err := r.Update(t.Context(), kek, with(serial))
		require.ErrorContains(t, err, "too far ahead")
		require.False(t, changed)
		require.ErrorContains(t, r.RaiseSerial(serial), "at a time")
		require.EqualValues(t, 7, r.Serial())
	}
	require.NoError(t, r.RaiseSerial(6+step))
	changed, err := r.Update(t.Context(), kek, with(7+step))
	require.NoError(t, err)
	require.True(t, changed)
	require.NoError(t, r.Revoke(start, sealer(t, r, start)), "it can always be changed")
}

// A writer goes no further than its followers can, in however many steps.
func TestSerialStepsOfAWriter(t *testing.T) {
	s := newSource(t, newKEK(t))
	require.NoError(t, s.writer.SetPolicy(start, keyring.Policy{Period: 100 * time.Hour}))
	require.ErrorContains(t, s.writer.RaiseSerial(2+1<<32), "save the ring first")
	require.NoError(t, s.writer.RaiseSerial(1+1<<32))
	require.ErrorContains(t, s.writer.Revoke(start, sealer(t, s.writer, start)), "save the ring first")
	for range 2 {
		s.save(t)
		changed, err := s.follower.Refresh(t.Context(), start)
		require.NoError(t, err)
		require.True(t, changed)
		s.change(t)
		require.NoError(t, s.writer.RaiseSerial(s.writer.Serial()-1+1<<32))
	}
}

// check checks that Load and Update refuse data, and that the old ring stays in
// force.
func refused(t *testing.T, kek keyring.KEK, data []byte, msg ...any) {
	t.Helper()
	r, err := keyring.Load(t.Context(), kek, data, keyring.Config{})
	require.Error(t, err, msg...)
	require.Nil(t, r, msg...)
	require.True(t, strings.HasPrefix(err.Error(), "keyring: "), err)
	r = newRing(t, start)
	before := keys(r, start)
	changed, err := r.Update(t.Context(), kek, data)
	require.Error(t, err, msg...)
	require.False(t, changed)
	require.Equal(t, before, keys(r, start))
}

func TestSealedDamaged(t *testing.T) {
	kek := newKEK(t)
	data := sealed(t, kek, good())
	for n := range data {
		refused(t, kek, data[:n], "cut to %d bytes", n)
	}
	for i := range len(data) * 8 {
		bad := bytes.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		refused(t, kek, bad, "bit %d", i)
	}
	refused(t, kek, append(bytes.Clone(data), 0), "one byte more")
	refused(t, kek, bytes.Repeat([]byte{0x5a}, 1<<20), "junk")
	refused(t, kek, append(data, make([]byte, 1<<20)...), "too large")
	refused(t, newKEK(t), data, "another KEK")
	refused(t, nil, data, "no KEK")
}

func TestDocumentRefused(t *testing.T) {
	set := func(f func(*document)) []byte {
		d := good()
		f(&d)
		return encode(t, d)
	}
	key := func(f func(k *documentKey)) []byte {
		return set(func(d *document) { f(&d.Chain.([]documentKey)[1]) })
	}
	whole := encode(t, good())
	tests := []struct {
		name      string
		plaintext []byte
	}{
		{"empty", nil},
		{"null", []byte{0xf6}},
		{"a map", encode(t, map[string]int{"serial": 1})},
		{"empty array", []byte{0x80}},
		{"trailing byte", append(bytes.Clone(whole), 0)},
		{"one field less", encode(t, []any{7, defaultPolicy, chain(3)})},
		{"one field more", encode(t, []any{7, defaultPolicy, chain(3), []int{}, 1})},
		{"long head of the serial", slices.Concat(whole[:1], []byte{0x18}, whole[1:])},
		{"long head of an array", slices.Concat([]byte{0x98, 0x04}, whole[1:])},
		{"indefinite array", slices.Concat([]byte{0x9f}, whole[1:], []byte{0xff})},
		{"tagged", slices.Concat([]byte{0xd9, 0xd9, 0xf7}, whole)},
		{"huge array", []byte{0x84, 0x07, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"nested", bytes.Repeat([]byte{0x81}, 10000)},
		{"serial 0", set(func(d *document) { d.Serial = 0 })},
		{"serial too high", set(func(d *document) { d.Serial = uint64(1 << 63) })},
		{"negative serial", set(func(d *document) { d.Serial = -1 })},
		{"serial null", set(func(d *document) { d.Serial = nil })},
		{"serial as text", set(func(d *document) { d.Serial = "7" })},
		{"serial as float", set(func(d *document) { d.Serial = 7.0 })},
		{"serial true", set(func(d *document) { d.Serial = true })},
		{"policy null", set(func(d *document) { d.Policy = nil })},
		{"policy too short", set(func(d *document) { d.Policy = defaultPolicy[:3] })},
		{"policy too long", set(func(d *document) { d.Policy = append(slices.Clone(defaultPolicy), 1) })},
		{"no TTL", set(func(d *document) { d.Policy = []int64{0, 5, 2592000, 3600} })},
		{"no skew", set(func(d *document) { d.Policy = []int64{60, 0, 2592000, 3600} })},
		{"no period", set(func(d *document) { d.Policy = []int64{60, 5, 0, 3600} })},
		{"no lead", set(func(d *document) { d.Policy = []int64{60, 5, 2592000, 0} })},
		{"a TTL that wraps around", set(func(d *document) { d.Policy = []int64{60 + 1<<55, 5, 2592000, 3600} })},
		{"chain null", set(func(d *document) { d.Chain = nil })},
		{"revoked null", set(func(d *document) { d.Revoked = nil })},
		{"chain empty", set(func(d *document) { d.Chain = []documentKey{} })},
		{"key null", set(func(d *document) { d.Chain = []any{chain(3)[0], nil, chain(3)[2]} })},
		{"key too short", set(func(d *document) { d.Chain = []any{[]any{secret(1), 1, 0, 0, 0}} })},
		{"too many keys", set(func(d *document) { d.Chain = chain(4096) })},
		{"secret null", key(func(k *documentKey) { k.Secret = nil })},
		{"secret empty", key(func(k *documentKey) { k.Secret = []byte{} })},
		{"secret too short", key(func(k *documentKey) { k.Secret = secret(1)[:31] })},
		{"secret too long", key(func(k *documentKey) { k.Secret = append(secret(1), 0) })},
		{"secret all zero", key(func(k *documentKey) { k.Secret = make([]byte, 32) })},
		{"secret as text", key(func(k *documentKey) { k.Secret = strings.Repeat("a", 32) })},
		{"secret as numbers", key(func(k *documentKey) { k.Secret = slices.Repeat([]int{1}, 32) })},
		{"repeated secret", key(func(k *documentKey) { k.Secret = secret(0) })},
		{"revoked secret", key(func(k *documentKey) { k.Secret = secret(9) })},
		{"time null", key(func(k *documentKey) { k.Created = nil })},
		{"time as float", key(func(k *documentKey) { k.Created = 1.5 })},
		{"time as text", key(func(k *documentKey) { k.Created = "1" })},
		{"revoked, but not when", set(func(d *document) { d.Revoked.([]documentKey)[0].Revoked = 0 })},
		{"revoked for ever", set(func(d *document) { d.Revoked.([]documentKey)[0].Expires = 0 })},
	}
	kek := newKEK(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := keyring.Seal(t.Context(), kek, "", tt.plaintext)
			require.NoError(t, err)
			refused(t, kek, data)
		})
	}
	data, err := keyring.Seal(t.Context(), kek, "", whole)
	require.NoError(t, err)
	_, err = keyring.Load(t.Context(), kek, data, keyring.Config{})
	require.NoError(t, err)
}

func TestMinSerial(t *testing.T) {
	kek := newKEK(t)
	data := sealed(t, kek, good())
	for serial, want := range map[uint64]error{0: nil, 6: nil, 7: nil, 8: keyring.ErrRollback} {
		_, err := keyring.Load(t.Context(), kek, data, keyring.Config{MinSerial: serial})
		require.Equal(t, want, err, serial)
	}
	_, err := keyring.Load(t.Context(), kek, data, keyring.Config{Context: strings.Repeat("c", 256)})
	require.Error(t, err)
}

func TestUpdate(t *testing.T) {
	kek := newKEK(t)
	writer := newRing(t, start)
	reader := clone(t, writer)
	version := func() []byte {
		b, err := writer.Marshal(t.Context(), kek)
		require.NoError(t, err)
		return b
	}
	update := func(data []byte) (bool, error) { return reader.Update(t.Context(), kek, data) }
	first := version()
	changed, err := update(first)
	require.NoError(t, err)
	require.False(t, changed)

	bad := sealer(t, reader, start)
	require.NoError(t, writer.Revoke(start, bad))
	second := version()
	changed, err = update(second)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, keys(writer, start), keys(reader, start))
	require.NotEqual(t, bad, sealer(t, reader, start))

	changed, err = update(version())
	require.NoError(t, err, "another sealed form of the same")
	require.False(t, changed)
	changed, err = update(first)
	require.Equal(t, keyring.ErrRollback, err)
	require.False(t, changed)

	require.NoError(t, writer.Revoke(start, sealer(t, writer, start)))
	require.NoError(t, reader.Revoke(start, sealer(t, reader, start)))
	before := keys(reader, start)
	changed, err = update(version())
	require.Equal(t, keyring.ErrConflict, err)
	require.False(t, changed)
	require.Equal(t, before, keys(reader, start))
}

// stub is a KEK with fixed answers.
type stub struct {
	id      string
	wrapped []byte
	dataKey []byte
	err     error
}

func (s stub) Wrap(context.Context, []byte) (string, []byte, error) { return s.id, s.wrapped, s.err }

// Unwrap returns a copy, because the caller clears it.
func (s stub) Unwrap(context.Context, string, []byte) ([]byte, error) {
	return bytes.Clone(s.dataKey), s.err
}

func TestKEKService(t *testing.T) {
	down := errors.New("service is down")
	tests := []struct {
		name string
		kek  keyring.KEK
		ok   bool
	}{
		{"nil", nil, false},
		{"down", stub{id: "k", wrapped: []byte{1}, err: down}, false},
		{"shortest", &knownKEK{stub{id: "k", wrapped: []byte{1}}}, true},
		{"longest", &knownKEK{stub{id: strings.Repeat("k", 255), wrapped: make([]byte, 65535)}}, true},
		{"unwraps to nothing", stub{id: "k", wrapped: []byte{1}}, false},
		{"unwraps to another", stub{id: "k", wrapped: []byte{1}, dataKey: secret(1)}, false},
		{"no ID", stub{wrapped: []byte{1}}, false},
		{"ID too long", stub{id: strings.Repeat("k", 256), wrapped: []byte{1}}, false},
		{"nothing wrapped", stub{id: "k"}, false},
		{"too much wrapped", stub{id: "k", wrapped: make([]byte, 65536)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := newRing(t, start).Marshal(t.Context(), tt.kek)
			require.Equal(t, tt.ok, err == nil, "error: %v", err)
			require.Equal(t, tt.ok, b != nil)
		})
	}
	_, err := newRing(t, start).Marshal(t.Context(), stub{err: down})
	require.ErrorIs(t, err, down)
	data := sealed(t, newKEK(t), good())
	_, err = keyring.Load(t.Context(), stub{err: down}, data, keyring.Config{})
	require.ErrorIs(t, err, down)
	for _, dataKey := range [][]byte{nil, make([]byte, 31), make([]byte, 32), bytes.Repeat([]byte{1}, 31), bytes.Repeat([]byte{1}, 33)} {
		refused(t, stub{dataKey: dataKey}, data, "%d bytes", len(dataKey))
		_, err = keyring.Load(t.Context(), stub{dataKey: dataKey}, data, keyring.Config{})
		require.ErrorContains(t, err, "zero or not 32 bytes")
	}
	refused(t, stub{dataKey: bytes.Repeat([]byte{1}, 32)}, data)
}

// passKey and value show that the caller's context arrives.
type passKey struct{}

type contextKEK struct {
	keyring.KEK
	seen int
}

func (k *contextKEK) Wrap(ctx context.Context, dataKey []byte) (string, []byte, error) {
	k.seen += ctx.Value(passKey{}).(int)
	return k.KEK.Wrap(ctx, dataKey)
}

func (k *contextKEK) Unwrap(ctx context.Context, kekID string, wrapped []byte) ([]byte, error) {
	k.seen += ctx.Value(passKey{}).(int)
	return k.KEK.Unwrap(ctx, kekID, wrapped)
}

func TestKEKContext(t *testing.T) {
	kek := &contextKEK{KEK: newKEK(t)}
	ctx := context.WithValue(t.Context(), passKey{}, 1)
	r := newRing(t, start)
	data, err := r.Marshal(ctx, kek)
	require.NoError(t, err)
	_, err = keyring.Load(ctx, kek, data, keyring.Config{})
	require.NoError(t, err)
	_, err = r.Update(ctx, kek, data)
	require.NoError(t, err)
	require.Equal(t, 4, kek.seen)
}

package keyring_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/vectors"
)

func readVectors(t *testing.T) vectors.Vectors {
	t.Helper()
	v, err := vectors.Read()
	require.NoError(t, err)
	return v
}

func TestVectorsDerivation(t *testing.T) {
	all := readVectors(t).Derivations
	require.Len(t, all, 14)
	for _, v := range all {
		key, id, err := keyring.Derive(v.Secret, string(v.Context))
		require.NoError(t, err)
		require.Equal(t, []byte(v.Key), key)
		require.Equal(t, []byte(v.KeyID), id[:])
	}
}

// The package comment and the vectors are enough to make a box.
func TestBoxFromVectors(t *testing.T) {
	for i, v := range readVectors(t).Derivations {
		c := keyring.Config{Context: string(v.Context)}
		key := documentKey{Secret: v.Secret, Created: 1, Activates: 0, Retires: 0, Expires: 0, Revoked: 0}
		r := load(t, document{Serial: 1, Policy: defaultPolicy, Chain: []documentKey{key}, Revoked: []documentKey{}}, c)
		aead, err := chacha20poly1305.NewX(v.Key)
		require.NoError(t, err)
		nonce := bytes.Repeat([]byte{byte(i)}, 24)
		header := append([]byte("ct1_"), v.KeyID...)
		want := []byte("a plaintext")
		got, err := r.Unbox(nil, aead.Seal(append(header, nonce...), nonce, want, header), start)
		require.NoError(t, err)
		require.Equal(t, want, got)

		sealed := box(t, r, start)
		require.Equal(t, header, sealed[:8])
		got, err = aead.Open(nil, sealed[8:32], sealed[32:], sealed[:8])
		require.NoError(t, err)
		require.Equal(t, "plaintext", string(got))
	}
}

// Without a separator at the end of the labels, the ID under one context would
// be the beginning of the key under "-id" + that context. It must not be.
func TestLabelsAreSeparate(t *testing.T) {
	for _, context := range []string{"", "production", "\x00"} {
		_, id, err := keyring.Derive(secret(1), context)
		require.NoError(t, err)
		for _, prefix := range []string{"-id", "-id\x00"} {
			key, _, err := keyring.Derive(secret(1), prefix+context)
			require.NoError(t, err)
			require.NotEqual(t, id[:], key[:4])
		}
	}
}

func TestID(t *testing.T) {
	id := keyring.ID{0x00, 0x1f, 0xab, 0xff}
	require.Equal(t, "001fabff", id.String())
	got, err := keyring.ParseID("001fabff")
	require.NoError(t, err)
	require.Equal(t, id, got)
	b, err := json.Marshal(map[keyring.ID]keyring.ID{id: id})
	require.NoError(t, err)
	require.Equal(t, `{"001fabff":"001fabff"}`, string(b))
	var m map[keyring.ID]keyring.ID
	require.NoError(t, json.Unmarshal(b, &m))
	require.Equal(t, id, m[id])
	for _, s := range []string{"", "001fabf", "001fabfff", "001FABFF", "001fabfg", " 01fabff", "0x1fabff"} {
		got, err := keyring.ParseID(s)
		require.Error(t, err, s)
		require.Zero(t, got)
	}
}

// reader replaces the random source in a test.
func reader(t *testing.T, r io.Reader) {
	t.Helper()
	old := rand.Reader
	t.Cleanup(func() { rand.Reader = old })
	rand.Reader = r
}

func TestGeneratorDrawsAgain(t *testing.T) {
	drawn := bytes.Join([][]byte{make([]byte, 32), secret(1), secret(1), make([]byte, 32), secret(2)}, nil)
	rest := bytes.NewReader(drawn)
	reader(t, rest)
	r, err := keyring.New(start, keyring.Config{})
	require.NoError(t, err)
	require.Zero(t, rest.Len())
	for i, k := range keys(r, start) {
		_, want, err := keyring.Derive(secret(i+1), "")
		require.NoError(t, err)
		require.Equal(t, want, k.ID)
	}
}

// A ring of form 1, which names no context, opens nothing under another one.
func TestContextSeparates(t *testing.T) {
	kek := newKEK(t)
	b := sealedForm1(t, kek, good())
	staging, err := keyring.Load(t.Context(), kek, b, keyring.Config{Context: "staging"})
	require.NoError(t, err)
	production, err := keyring.Load(t.Context(), kek, b, keyring.Config{Context: "production"})
	require.NoError(t, err)
	require.Equal(t, keyring.ErrUnknownKey, openErr(production, box(t, staging, start), start))
	again, err := keyring.Load(t.Context(), kek, b, keyring.Config{Context: "staging"})
	require.NoError(t, err)
	require.NoError(t, openErr(again, box(t, staging, start), start))
}

package keyring_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
)

func TestVectorsKEK(t *testing.T) {
	good, bad := 0, 0
	for _, v := range readVectors(t).KEKs {
		kek, err := keyring.ParseKEK(v.Text)
		if v.FromFile {
			name := filepath.Join(t.TempDir(), "kek")
			require.NoError(t, os.WriteFile(name, []byte(v.Text), 0o600))
			kek, err = keyring.KEKFile{Name: name}.Read()
		}
		if v.Reason != "" {
			require.Error(t, err, v.Name)
			bad++
			continue
		}
		good++
		require.NoError(t, err)
		require.Equal(t, strings.TrimSuffix(v.Text, "\n"), kek.InsecureText())
		require.Equal(t, v.KEKID, kek.ID())
		id, wrapped, err := kek.Wrap(t.Context(), secret(1))
		require.NoError(t, err)
		require.Equal(t, v.KEKID, id)
		require.Len(t, wrapped, 72)
		aead, err := chacha20poly1305.NewX(v.Key)
		require.NoError(t, err)
		got, err := aead.Open(nil, wrapped[:24], wrapped[24:], []byte(id))
		require.NoError(t, err)
		require.Equal(t, secret(1), got)
	}
	require.Equal(t, [2]int{6, 30}, [2]int{good, bad})
}

func TestParseKEK(t *testing.T) {
	good := newKEK(t).InsecureText()
	require.Len(t, good, 58)
	require.True(t, strings.HasPrefix(good, "chattoken-kek1_"))
	kek, err := keyring.ParseKEK(good)
	require.NoError(t, err)
	require.Equal(t, good, kek.InsecureText())
	bad := []string{
		"", "chattoken-kek1_", good[:57], good[1:], good + "\n", good + "A", good + "=", " " + good,
		"chattoken-kek2_" + good[15:], "CHATTOKEN-KEK1_" + good[15:], good[15:],
		good[:57] + "B", // bits beyond the last byte
		good[:20] + "+" + good[21:], good[:20] + "\n" + good[21:], good[:20] + "\xff" + good[21:],
		"chattoken-kek1_" + strings.Repeat("A", 43),
		"chattoken-kek1_" + hex.EncodeToString(secret(1)),
	}
	for _, text := range bad {
		kek, err := keyring.ParseKEK(text)
		require.Error(t, err, text)
		require.Nil(t, kek)
		require.NotContains(t, err.Error(), good[15:25])
	}
}

func TestGenerateKEK(t *testing.T) {
	a, b := newKEK(t), newKEK(t)
	require.NotEqual(t, a.ID(), b.ID())
	require.NotEqual(t, a.InsecureText(), b.InsecureText())
	// A random source of zeros gives no KEK.
	reader(t, bytes.NewReader(make([]byte, 32)))
	_, err := keyring.GenerateKEK()
	require.Error(t, err)
}

func TestUnwrap(t *testing.T) {
	kek := newKEK(t)
	id, wrapped, err := kek.Wrap(t.Context(), secret(1))
	require.NoError(t, err)
	got, err := kek.Unwrap(t.Context(), id, wrapped)
	require.NoError(t, err)
	require.Equal(t, secret(1), got)
	for n := range wrapped {
		_, err := kek.Unwrap(t.Context(), id, wrapped[:n])
		require.Error(t, err)
	}
	for i := range len(wrapped) * 8 {
		bad := bytes.Clone(wrapped)
		bad[i/8] ^= 1 << (i % 8)
		_, err := kek.Unwrap(t.Context(), id, bad)
		require.Error(t, err)
	}
	other := newKEK(t)
	_, err = other.Unwrap(t.Context(), id, wrapped)
	require.ErrorContains(t, err, id)
	_, err = other.Unwrap(t.Context(), other.ID(), wrapped)
	require.Error(t, err)
}

// Another KEK replaces one, and the keys stay.
func TestKEKs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ring")
	before, after := newKEK(t), newKEK(t)
	r := newRing(t, start)
	require.NoError(t, saveFile(t, r, before, name))
	require.Error(t, saveFile(t, r, after, name), "under the new one alone")

	both := keyring.KEKs{after, before}
	require.Equal(t, keys(r, start), keys(loadFile(t, both, name), start))
	for range 2 {
		require.NoError(t, saveFile(t, r, both, name))
		for _, kek := range []keyring.KEK{after, both, keyring.KEKs{before, after}} {
			require.Equal(t, keys(r, start), keys(loadFile(t, kek, name), start))
		}
	}
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	_, err = keyring.Load(t.Context(), before, data, keyring.Config{})
	require.Error(t, err, "the old one opens nothing any more")

	_, err = keyring.Load(t.Context(), keyring.KEKs{before, newKEK(t)}, data, keyring.Config{})
	require.ErrorContains(t, err, "not "+before.ID())
	for _, none := range []keyring.KEKs{nil, {}, {nil}, {after, nil}, {nil, after}} {
		_, err = keyring.Load(t.Context(), none, data, keyring.Config{})
		require.ErrorContains(t, err, "no KEK given")
		_, err = r.Marshal(t.Context(), none)
		require.ErrorContains(t, err, "no KEK given")
	}
}

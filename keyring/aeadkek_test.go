package keyring_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// service is a correct key management service with one key. It names that key
// itself.
type service struct {
	Secret []byte // exported, so that a careless printer would show it
	asked  int
}

func newService() *service {
	s := &service{Secret: make([]byte, chacha20poly1305.KeySize)}
	rand.Read(s.Secret)
	return s
}

func (s *service) EncryptWithContext(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	s.asked++
	aead, err := chacha20poly1305.NewX(s.Secret)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plaintext, associatedData), nil
}

func (s *service) DecryptWithContext(_ context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	s.asked++
	aead, err := chacha20poly1305.NewX(s.Secret)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < aead.NonceSize() {
		return nil, errors.New("cut off")
	}
	return aead.Open(nil, ciphertext[:aead.NonceSize()], ciphertext[aead.NonceSize():], associatedData)
}

// answers is a service that gives fixed answers.
type answers struct {
	data []byte
	err  error
}

func (a answers) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return a.data, a.err
}

func (a answers) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return a.data, a.err
}

func TestAEADKEK(t *testing.T) {
	s := newService()
	kek := keyring.AEADKEK{ID: "service://key", AEAD: s}
	r := newRing(t, start)
	sealed, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	got, err := keyring.Load(t.Context(), kek, sealed, keyring.Config{})
	require.NoError(t, err)
	require.Equal(t, keys(r, start), keys(got, start))

	dataKey := secret(1)
	id, wrapped, err := kek.Wrap(t.Context(), dataKey)
	require.NoError(t, err)
	require.Equal(t, kek.ID, id)
	require.Equal(t, secret(1), dataKey)
	for i := range len(wrapped) * 8 {
		bad := bytes.Clone(wrapped)
		bad[i/8] ^= 1 << (i % 8)
		got, err := kek.Unwrap(t.Context(), id, bad)
		require.Error(t, err)
		require.Nil(t, got)
	}
}

// What another key of the service made, or this key for another purpose, is no
// wrapped data key.
func TestAEADKEKForeign(t *testing.T) {
	s, other := newService(), newService()
	kek := keyring.AEADKEK{ID: "service://key", AEAD: s}
	encrypted := func(by *service, associatedData string) []byte {
		c, err := by.EncryptWithContext(t.Context(), secret(1), []byte(associatedData))
		require.NoError(t, err)
		return c
	}
	_, err := kek.Unwrap(t.Context(), kek.ID, encrypted(s, kek.ID))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		id      string
		wrapped []byte
	}{
		"another key":             {kek.ID, encrypted(other, kek.ID)},
		"another purpose":         {kek.ID, encrypted(s, "another purpose")},
		"no associated data":      {kek.ID, encrypted(s, "")},
		"another ID, same key":    {"service://other", encrypted(s, "service://other")},
		"another ID, its own":     {"service://other", encrypted(s, kek.ID)},
		"another ID, another key": {"service://other", encrypted(other, "service://other")},
		"no ID":                   {"", encrypted(s, "")},
		"longer ID":               {kek.ID + "/", encrypted(s, kek.ID)},
		"shorter ID":              {kek.ID[1:], encrypted(s, kek.ID)},
	} {
		before := s.asked
		got, err := kek.Unwrap(t.Context(), c.id, c.wrapped)
		assert.Error(t, err, name)
		assert.Nil(t, got, name)
		if c.id != kek.ID {
			assert.Equal(t, before, s.asked, "%s: the service was asked", name)
			assert.ErrorContains(t, err, fmt.Sprintf("sealed under the KEK %q, not %q", c.id, kek.ID))
		}
	}
}

func TestAEADKEKRefuses(t *testing.T) {
	down := errors.New("down")
	sized := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	tests := []struct {
		name string
		kek  keyring.AEADKEK
		key  []byte // to be wrapped
		wrap string // what the error contains; "" is none
		open string // the same for a data key that is unwrapped
	}{
		{"good", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(32)}}, secret(1), "", ""},
		{"longest ID", keyring.AEADKEK{ID: strings.Repeat("k", 255), AEAD: answers{data: sized(32)}}, secret(1), "", ""},
		{"zero", keyring.AEADKEK{}, secret(1), "no KEK given", "no KEK given"},
		{"no AEAD", keyring.AEADKEK{ID: "k"}, secret(1), "no KEK given", "no KEK given"},
		{"no ID", keyring.AEADKEK{AEAD: answers{data: sized(32)}}, secret(1), "the KEK's ID", "the KEK's ID"},
		{"long ID", keyring.AEADKEK{ID: strings.Repeat("k", 256), AEAD: answers{data: sized(32)}}, secret(1), "the KEK's ID", "the KEK's ID"},
		{"error", keyring.AEADKEK{ID: "k", AEAD: answers{sized(32), down}}, secret(1), "down", "down"},
		{"nothing", keyring.AEADKEK{ID: "k", AEAD: answers{}}, secret(1), "wrapped data key is empty", "zero or not 32 bytes"},
		{"31 bytes", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(31)}}, secret(1), "", "zero or not 32 bytes"},
		{"33 bytes", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(33)}}, secret(1), "", "zero or not 32 bytes"},
		{"zero bytes", keyring.AEADKEK{ID: "k", AEAD: answers{data: make([]byte, 32)}}, secret(1), "", "zero or not 32 bytes"},
		{"longest", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(65535)}}, secret(1), "", "zero or not 32 bytes"},
		{"too long", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(65536)}}, secret(1), "longer than 65,535", "zero or not 32 bytes"},
		{"not encrypted", keyring.AEADKEK{ID: "k", AEAD: answers{data: secret(1)}}, secret(1), "did not encrypt", ""},
		{"encoded, not encrypted", keyring.AEADKEK{ID: "k", AEAD: answers{data: append([]byte("x"), secret(1)...)}}, secret(1), "did not encrypt", "zero or not 32 bytes"},
		{"key of zeros", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(32)}}, make([]byte, 32), "to be wrapped is zero", ""},
		{"short key", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(32)}}, sized(31), "to be wrapped is zero or not 32", ""},
		{"long key", keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(32)}}, sized(33), "to be wrapped is zero or not 32", ""},
	}
	check := func(t *testing.T, err error, want string, got []byte) {
		t.Helper()
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, want)
		require.Nil(t, got)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id, wrapped, err := test.kek.Wrap(t.Context(), test.key)
			check(t, err, test.wrap, wrapped)
			require.Equal(t, err == nil, id != "")
			dataKey, err := test.kek.Unwrap(t.Context(), test.kek.ID, []byte("wrapped"))
			check(t, err, test.open, dataKey)
		})
	}
	kek := keyring.AEADKEK{ID: "k", AEAD: answers{data: sized(32)}}
	for _, n := range []int{0, 65536} {
		_, err := kek.Unwrap(t.Context(), "k", sized(n))
		require.ErrorContains(t, err, "wrapped data key is empty")
	}
	_, err := newRing(t, start).Marshal(t.Context(), stub{id: "k", wrapped: nil})
	require.ErrorContains(t, err, "wrapped data key is empty", "of any KEK")
}

// No KEK leaves the data key in the file in clear.
func TestKEKThatDoesNotEncrypt(t *testing.T) {
	_, err := newRing(t, start).Marshal(t.Context(), echo{})
	require.ErrorContains(t, err, "did not encrypt")
}

type echo struct{ stub }

func (echo) Wrap(_ context.Context, dataKey []byte) (string, []byte, error) {
	return "echo", append([]byte("clear:"), dataKey...), nil
}

func TestAEADKEKIsNotFollowed(t *testing.T) {
	s := newService()
	kek := keyring.AEADKEK{ID: "service://key", AEAD: s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.Equal(t, kek.ID, fmt.Sprintf(verb, kek), verb)
	}
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "kek", kek)
	require.Contains(t, b.String(), `"kek":"service://key"`)

	// A printer would follow exported fields.
	text, err := json.Marshal(keyring.KEKs{keyring.AEADKEK{ID: "k", AEAD: client{Token: "needle"}}})
	require.NoError(t, err)
	require.Equal(t, `["k"]`, string(text))
}

// client is an AEAD whose credentials are exported.
type client struct {
	answers
	Token string
}

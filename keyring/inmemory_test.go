package keyring_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

func TestInMemory(t *testing.T) {
	r := newRing(t, start)
	keys, err := keyring.NewInMemory(r)
	require.NoError(t, err)
	require.Same(t, r, keys.Ring())
	require.NoError(t, keys.Health(start))
	changed, err := keys.Refresh(t.Context(), start)
	require.NoError(t, err)
	require.False(t, changed)

	late := start.Add(40 * 24 * time.Hour)
	require.ErrorContains(t, keys.Health(late), "overdue")
	changed, err = keys.Refresh(t.Context(), late)
	require.NoError(t, err)
	require.True(t, changed)
	require.NoError(t, keys.Health(late))
}

// Whoever shares keys must not rotate them alone.
func TestInMemoryIsNotShared(t *testing.T) {
	kek := newKEK(t)
	_, err := keyring.NewInMemory(new(keyring.Ring))
	require.Error(t, err)
	for name, share := range map[string]func(r *keyring.Ring) error{
		"saved": func(r *keyring.Ring) error {
			return keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: kek}.Save(t.Context(), r)
		},
		"marshalled": func(r *keyring.Ring) error {
			_, err := r.Marshal(t.Context(), kek)
			return err
		},
	} {
		r := newRing(t, start)
		keys, err := keyring.NewInMemory(r)
		require.NoError(t, err)
		require.NoError(t, share(r))
		_, err = keys.Refresh(t.Context(), start.Add(40*24*time.Hour))
		require.ErrorContains(t, err, "not in memory only", name)
		_, err = keyring.NewInMemory(r)
		require.ErrorContains(t, err, "not in memory only", name)
		_, err = keyring.NewInMemory(clone(t, r))
		require.ErrorContains(t, err, "not in memory only", "loaded")
	}
}

func TestInMemoryShowsNoKey(t *testing.T) {
	r := newRing(t, start)
	keys, err := keyring.NewInMemory(r)
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.Equal(t, r.String(), fmt.Sprintf(verb, keys))
	}
	require.Equal(t, r.LogValue(), keys.LogValue())
}

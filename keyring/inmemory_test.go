package keyring_test

import (
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
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	r := newRing(t, start)
	keys, err := keyring.NewInMemory(r)
	require.NoError(t, err)
	sealed, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	loaded, err := keyring.Load(t.Context(), kek, sealed, keyring.Config{})
	require.NoError(t, err)
	_, err = keyring.NewInMemory(loaded)
	require.ErrorContains(t, err, "loaded or saved")
	_, err = keyring.NewInMemory(new(keyring.Ring))
	require.Error(t, err)

	file := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: kek}
	require.NoError(t, file.Save(t.Context(), r))
	_, err = keys.Refresh(t.Context(), start.Add(40*24*time.Hour))
	require.ErrorContains(t, err, "loaded or saved", "it was saved since")
}

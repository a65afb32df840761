package keyring_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/vectors"
)

func TestVectorsRings(t *testing.T) {
	all := readVectors(t).Rings
	require.Equal(t, 13, len(all))
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			kek, err := keyring.ParseKEK(v.KEK)
			require.NoError(t, err)
			form := v.Sealed[len("chattoken-keyring")]
			c := keyring.Config{Context: string(v.Context)}
			ring, err := keyring.Load(t.Context(), kek, v.Sealed, c)
			require.NoError(t, err)
			require.EqualValues(t, form, ring.Form())
			c.RefuseForm1 = true
			_, err = keyring.Load(t.Context(), kek, v.Sealed, c)
			assert.Equal(t, form == 1, errors.Is(err, keyring.ErrContext), "form %d, if form 1 is refused: %v", form, err)
			c.RefuseForm1, c.Context = false, "another"
			_, err = keyring.Load(t.Context(), kek, v.Sealed, c)
			assert.Equal(t, form == 2, err == keyring.ErrContext, "form %d under another context: %v", form, err)
			assert.Equal(t, v.Serial, ring.Serial())
			assert.Equal(t, v.Keys, describe(ring, time.Unix(v.Now, 0)))
		})
	}
}

func describe(r *keyring.Ring, now time.Time) (keys []vectors.Key) {
	unix := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	for k := range r.Keys(now) {
		keys = append(keys, vectors.Key{
			KeyID:     k.ID[:],
			State:     k.State.String(),
			Created:   unix(k.Created),
			Activates: unix(k.Activates),
			Retires:   unix(k.Retires),
			Expires:   unix(k.Expires),
			Revoked:   unix(k.Revoked),
		})
	}
	return keys
}

func TestVectorsLoads(t *testing.T) {
	counts := map[string]int{}
	for _, v := range readVectors(t).Loads {
		counts[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			ring, err := loadVector(t, v)
			assert.Equal(t, v.Reason, keyring.Class(err), err)
			if v.Reason == "" && assert.NoError(t, err) {
				assert.Equal(t, v.Serial, ring.Serial())
			}
		})
	}
	assert.Equal(t, map[string]int{
		"": 43, "format": 17, "kek": 23, "forged": 14, "context": 18, "document": 147, "rollback": 7, "conflict": 3, "too-far-ahead": 5,
	}, counts)
}

func loadVector(t *testing.T, v vectors.Ring) (*keyring.Ring, error) {
	t.Helper()
	kek, err := keyring.ParseKEK(v.KEK)
	require.NoError(t, err)
	c := keyring.Config{Context: string(v.Context), MinSerial: v.MinSerial, RefuseForm1: v.RefuseForm1}
	if v.Current == nil {
		return keyring.Load(t.Context(), kek, v.Sealed, c)
	}
	ring, err := keyring.Load(t.Context(), kek, v.Current, keyring.Config{Context: c.Context, MinSerial: v.CurrentSerial})
	require.NoError(t, err)
	require.Equal(t, v.CurrentSerial, ring.Serial())
	ring.Restrict(c)
	_, err = ring.Update(t.Context(), kek, v.Sealed)
	return ring, err
}

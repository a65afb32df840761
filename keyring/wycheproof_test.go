package keyring_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/vectors"
)

// TestWycheproof runs Project Wycheproof's vectors against the cipher for
// tokens, rings and data keys.
func TestWycheproof(t *testing.T) {
	var file struct {
		TestGroups []struct {
			IVSize int
			Tests  []struct {
				TCID                       int
				Comment, Result            string
				Key, IV, AAD, Msg, CT, Tag vectors.Bytes
			}
		}
	}
	data, err := os.ReadFile("testdata/wycheproof/xchacha20_poly1305_test.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &file))
	counts := map[string]int{}
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			aead, err := keyring.NewAEAD(v.Key)
			require.NoError(t, err)
			sealed := append(v.CT, v.Tag...)
			if g.IVSize != 192 {
				assert.Panics(t, func() { aead.Open(nil, v.IV, sealed, v.AAD) }, "%d: %s", v.TCID, v.Comment)
				counts["nonce size"]++
				continue
			}
			counts[v.Result]++
			got, err := aead.Open(nil, v.IV, sealed, v.AAD)
			if v.Result == "invalid" {
				assert.Error(t, err, "%d: %s", v.TCID, v.Comment)
				continue
			}
			require.NoError(t, err, "%d: %s", v.TCID, v.Comment)
			assert.Equal(t, string(v.Msg), string(got), "%d: %s", v.TCID, v.Comment)
			assert.Equal(t, []byte(sealed), aead.Seal(nil, v.IV, v.Msg, v.AAD), "%d: %s", v.TCID, v.Comment)
		}
	}
	assert.Equal(t, map[string]int{"valid": 246, "invalid": 60, "nonce size": 9}, counts)
}

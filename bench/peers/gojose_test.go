package peers_test

import (
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// goJose is go-jose: a JWE of alg dir and enc A256GCM.
type goJose struct {
	key       []byte
	encrypter jose.Encrypter
}

func newGoJose(t testing.TB) peer {
	key := randomKey(32)
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: key}, nil)
	require.NoError(t, err)
	return goJose{key, encrypter}
}

func (p goJose) mint(g grant) (string, error) {
	payload, err := toJSON(g)
	if err != nil {
		return "", err
	}
	jwe, err := p.encrypter.Encrypt(payload)
	if err != nil {
		return "", err
	}
	return jwe.CompactSerialize()
}

var (
	goJoseKeys = []jose.KeyAlgorithm{jose.DIRECT}
	goJoseEncs = []jose.ContentEncryption{jose.A256GCM}
)

func (p goJose) verify(text string, g *grant) error {
	jwe, err := jose.ParseEncryptedCompact(text, goJoseKeys, goJoseEncs)
	if err != nil {
		return err
	}
	payload, err := jwe.Decrypt(p.key)
	if err != nil {
		return err
	}
	return fromJSON(payload, g)
}

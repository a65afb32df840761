package peers_test

import (
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
)

// jwx is lestrrat-go/jwx: a JWE of alg dir and enc A256GCM.
type jwx struct {
	encrypt []jwe.EncryptOption
	decrypt jwe.DecryptOption
}

func newJWX(testing.TB) peer {
	withKey := jwe.WithKey(jwa.DIRECT(), randomKey(32))
	return jwx{
		encrypt: []jwe.EncryptOption{withKey, jwe.WithContentEncryption(jwa.A256GCM())},
		decrypt: withKey,
	}
}

func (p jwx) mint(g grant) (string, error) {
	payload, err := toJSON(g)
	if err != nil {
		return "", err
	}
	text, err := jwe.Encrypt(payload, p.encrypt...)
	return string(text), err
}

func (p jwx) verify(text string, g *grant) error {
	payload, err := jwe.Decrypt([]byte(text), p.decrypt)
	if err != nil {
		return err
	}
	return fromJSON(payload, g)
}

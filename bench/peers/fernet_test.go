package peers_test

import (
	"errors"
	"testing"

	"github.com/fernet/fernet-go"
	"github.com/stretchr/testify/require"
)

// fernetCBOR is Fernet (AES-128-CBC and HMAC-SHA256) with a CBOR payload.
type fernetCBOR struct {
	key  *fernet.Key
	keys []*fernet.Key
}

func newFernet(t testing.TB) peer {
	key := new(fernet.Key)
	require.NoError(t, key.Generate())
	return fernetCBOR{key, []*fernet.Key{key}}
}

func (p fernetCBOR) mint(g grant) (string, error) {
	payload, err := toCBOR(g)
	if err != nil {
		return "", err
	}
	text, err := fernet.EncryptAndSign(payload, p.key)
	return string(text), err
}

var errFernet = errors.New("fernet: invalid")

func (p fernetCBOR) verify(text string, g *grant) error {
	payload := fernet.VerifyAndDecrypt([]byte(text), lifetime, p.keys)
	if payload == nil {
		return errFernet
	}
	return fromCBOR(payload, g)
}

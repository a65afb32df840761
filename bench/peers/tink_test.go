package peers_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// tinkAEAD is a Tink keyset, CBOR and base64.
type tinkAEAD struct{ aead tink.AEAD }

func newTinkAESGCM(t testing.TB) peer    { return newTink(t, aead.AES256GCMKeyTemplate()) }
func newTinkXChaCha20(t testing.TB) peer { return newTink(t, aead.XChaCha20Poly1305KeyTemplate()) }

func newTink(t testing.TB, template *tinkpb.KeyTemplate) peer {
	handle, err := keyset.NewHandle(template)
	require.NoError(t, err)
	primitive, err := aead.New(handle)
	require.NoError(t, err)
	return tinkAEAD{primitive}
}

func (p tinkAEAD) mint(g grant) (string, error) {
	payload, err := toCBOR(g)
	if err != nil {
		return "", err
	}
	box, err := p.aead.Encrypt(payload, nil)
	return toText(box), err
}

func (p tinkAEAD) verify(text string, g *grant) error {
	box, err := fromText(text)
	if err != nil {
		return err
	}
	payload, err := p.aead.Decrypt(box, nil)
	if err != nil {
		return err
	}
	return fromCBOR(payload, g)
}

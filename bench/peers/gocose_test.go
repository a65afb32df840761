package peers_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/veraison/go-cose"
)

// goCOSE is veraison/go-cose: an untagged COSE_Sign1 with EdDSA around CBOR,
// signed and not encrypted.
type goCOSE struct {
	signer   cose.Signer
	verifier cose.Verifier
}

func newGoCOSE(t testing.TB) peer {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := cose.NewSigner(cose.AlgorithmEdDSA, private)
	require.NoError(t, err)
	verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, public)
	require.NoError(t, err)
	return goCOSE{signer, verifier}
}

func (p goCOSE) mint(g grant) (string, error) {
	payload, err := toCBOR(g)
	if err != nil {
		return "", err
	}
	m := cose.UntaggedSign1Message{Payload: payload}
	m.Headers.Protected = cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmEdDSA}
	if err := m.Sign(rand.Reader, nil, p.signer); err != nil {
		return "", err
	}
	b, err := m.MarshalCBOR()
	return toText(b), err
}

func (p goCOSE) verify(text string, g *grant) error {
	b, err := fromText(text)
	if err != nil {
		return err
	}
	var m cose.UntaggedSign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return err
	}
	if err := m.Verify(nil, p.verifier); err != nil {
		return err
	}
	return fromCBOR(m.Payload, g)
}

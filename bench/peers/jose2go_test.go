package peers_test

import (
	"testing"

	jose "github.com/dvsekhvalnov/jose2go"
)

// jose2go is dvsekhvalnov/jose2go: a JWE of alg dir and enc A256GCM.
type jose2go struct{ key []byte }

func newJose2go(testing.TB) peer { return jose2go{randomKey(32)} }

func (p jose2go) mint(g grant) (string, error) {
	payload, err := toJSON(g)
	if err != nil {
		return "", err
	}
	return jose.EncryptBytes(payload, jose.DIR, jose.A256GCM, p.key)
}

func (p jose2go) verify(text string, g *grant) error {
	payload, _, err := jose.DecodeBytes(text, jose.Enc(p.key, jose.DIR, jose.A256GCM))
	if err != nil {
		return err
	}
	return fromJSON(payload, g)
}

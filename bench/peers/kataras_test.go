package peers_test

import (
	"testing"
	"time"

	"github.com/kataras/jwt"
	"github.com/stretchr/testify/require"
)

// kataras is kataras/jwt with HS256 around a payload in AES-256-GCM.
type kataras struct {
	key              []byte
	encrypt, decrypt jwt.InjectFunc
}

func newKataras(t testing.TB) peer {
	encrypt, decrypt, err := jwt.GCM(randomKey(32), nil)
	require.NoError(t, err)
	return kataras{randomKey(32), encrypt, decrypt}
}

func (p kataras) mint(g grant) (string, error) {
	text, err := jwt.SignEncrypted(jwt.HS256, p.key, p.encrypt, g.stamped(time.Now()))
	return string(text), err
}

func (p kataras) verify(text string, g *grant) error {
	verified, err := jwt.VerifyEncrypted(jwt.HS256, p.key, p.decrypt, []byte(text))
	if err != nil {
		return err
	}
	if err := verified.Claims(g); err != nil {
		return err
	}
	return g.check(time.Now())
}

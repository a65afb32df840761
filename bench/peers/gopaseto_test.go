package peers_test

import (
	"testing"
	"testing/synctest"
	"time"

	"aidanwoods.dev/go-paseto"
	"github.com/stretchr/testify/require"
)

// goPaseto is aidanwoods.dev/go-paseto: PASETO v4.local. It encodes each claim
// by itself, so all claims that aren't the library's own are one claim.
type goPaseto struct {
	key    paseto.V4SymmetricKey
	parser paseto.Parser
}

func newGoPaseto(testing.TB) peer {
	return goPaseto{paseto.NewV4SymmetricKey(), paseto.NewParser()}
}

func (p goPaseto) mint(g grant) (string, error) {
	now := time.Now()
	token := paseto.NewToken()
	token.SetExpiration(now.Add(lifetime))
	if err := token.Set("chat", g.stamped(now)); err != nil {
		return "", err
	}
	return token.V4Encrypt(p.key, nil), nil
}

func (p goPaseto) verify(text string, g *grant) error {
	token, err := p.parser.ParseV4Local(p.key, text, nil)
	if err != nil {
		return err
	}
	if err := token.Get("chat", g); err != nil {
		return err
	}
	return g.check(time.Now())
}

// One of the library's parsers reads the clock only when it's made. If kept, as
// parsers usually are, it accepts expired tokens forever. So the peer uses the
// other.
func TestGoPasetoParserForValidNowIsFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := paseto.NewV4SymmetricKey()
		now := time.Now()
		token := paseto.NewToken()
		token.SetIssuedAt(now)
		token.SetNotBefore(now)
		token.SetExpiration(now.Add(time.Minute))
		text := token.V4Encrypt(key, nil)

		frozen, live := paseto.NewParserForValidNow(), paseto.NewParser()
		time.Sleep(365 * 24 * time.Hour)
		_, err := frozen.ParseV4Local(key, text, nil)
		require.NoError(t, err)
		_, err = live.ParseV4Local(key, text, nil)
		require.Error(t, err)
	})
}

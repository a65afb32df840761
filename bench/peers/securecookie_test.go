package peers_test

import (
	"testing"
	"time"

	"github.com/gorilla/securecookie"
)

// gorilla is securecookie (AES-256-CTR and HMAC-SHA256) with a CBOR payload.
type gorilla struct{ cookie *securecookie.SecureCookie }

func newSecurecookie(testing.TB) peer {
	cookie := securecookie.New(randomKey(32), randomKey(32))
	cookie.SetSerializer(cborSerializer{})
	cookie.MaxAge(int(lifetime / time.Second))
	return gorilla{cookie}
}

type cborSerializer struct{}

func (cborSerializer) Serialize(src any) ([]byte, error)     { return cborEncoder.Marshal(src) }
func (cborSerializer) Deserialize(src []byte, dst any) error { return cborDecoder.Unmarshal(src, dst) }

const cookieName = "chat"

func (p gorilla) mint(g grant) (string, error) {
	return p.cookie.Encode(cookieName, g.stamped(time.Now()))
}

func (p gorilla) verify(text string, g *grant) error {
	if err := p.cookie.Decode(cookieName, text, g); err != nil {
		return err
	}
	return g.check(time.Now())
}

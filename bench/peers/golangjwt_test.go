package peers_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// golangJWT is golang-jwt. Its tokens are signed and not encrypted.
type golangJWT struct {
	method       jwt.SigningMethod
	signing, key any
	parser       *jwt.Parser
}

func newGolangJWTHS256(testing.TB) peer {
	key := randomKey(32)
	return newGolangJWT(jwt.SigningMethodHS256, key, key)
}

func newGolangJWTEdDSA(t testing.TB) peer {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return newGolangJWT(jwt.SigningMethodEdDSA, private, public)
}

func newGolangJWT(method jwt.SigningMethod, signing, verifying any) peer {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithExpirationRequired())
	return golangJWT{method, signing, verifying, parser}
}

// jwtClaims are the claims as the library's examples have them.
type jwtClaims struct {
	Room           string            `json:"room"`
	Capabilities   uint8             `json:"cap"`
	Attributes     map[string]string `json:"attr"`
	SessionMinutes int               `json:"ses"`
	jwt.RegisteredClaims
}

func (p golangJWT) mint(g grant) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(p.method, jwtClaims{
		Room:           g.Room,
		Capabilities:   g.Capabilities,
		Attributes:     g.Attributes,
		SessionMinutes: g.SessionMinutes,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   g.User,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		},
	}).SignedString(p.signing)
}

func (p golangJWT) verify(text string, g *grant) error {
	var c jwtClaims
	_, err := p.parser.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return p.key, nil })
	if err != nil {
		return err
	}
	*g = grant{
		Room:           c.Room,
		User:           c.Subject,
		Capabilities:   c.Capabilities,
		Attributes:     c.Attributes,
		IssuedAt:       c.IssuedAt.Unix(),
		Expires:        c.ExpiresAt.Unix(),
		SessionMinutes: c.SessionMinutes,
	}
	return g.check(time.Now())
}

package peers_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// chattoken is this library. It doesn't spend the tokens, because no peer can.
type chattoken struct {
	sealer token.Sealer
	opener token.Opener
}

func newChattoken(t testing.TB) peer {
	ring, err := keyring.New(time.Now(), keyring.Config{Policy: keyring.Policy{MaxTTL: lifetime}})
	require.NoError(t, err)
	return &chattoken{
		sealer: token.Sealer{Ring: ring, TTL: lifetime},
		opener: token.Opener{Ring: ring},
	}
}

func (p *chattoken) mint(g grant) (string, error) {
	minted, err := p.sealer.Create(claims.Claims{
		RoomIdentifier: g.Room,
		UserID:         g.User,
		Capabilities:   claims.Capabilities(g.Capabilities),
		Attributes:     g.Attributes,
		SessionMinutes: g.SessionMinutes,
	})
	return minted.Token, err
}

func (p *chattoken) verify(text string, g *grant) error {
	var s token.Session
	if err := p.verifyInto(&s, text); err != nil {
		return err
	}
	c := s.Claims()
	*g = grant{
		Room:           c.RoomIdentifier,
		User:           c.UserID,
		Capabilities:   uint8(c.Capabilities),
		Attributes:     c.Attributes,
		IssuedAt:       s.IssuedAt().Unix(),
		Expires:        s.Summary().Expiration.Unix(),
		SessionMinutes: c.SessionMinutes,
	}
	return nil
}

// verifyInto is the intended use of chattoken: the caller reads the claims in a
// Session.
func (p *chattoken) verifyInto(s *token.Session, text string) error {
	return p.opener.OpenWithoutSpending(context.Background(), s, text)
}

// copied hides verifyInto, to measure chattoken with all claims copied to
// strings and a map, as the other peers return them.
type copied struct{ peer }

func newChattokenCopied(t testing.TB) peer { return copied{newChattoken(t)} }

// newVerifier returns a function that verifies with p, for one goroutine.
func newVerifier(p peer) func(text string) error {
	if c, ok := p.(*chattoken); ok {
		var s token.Session
		return func(text string) error { return c.verifyInto(&s, text) }
	}
	var g grant
	return func(text string) error {
		g = grant{}
		return p.verify(text, &g)
	}
}

package fleet_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

var user = claims.Claims{
	RoomIdentifier: tokentest.Room,
	UserID:         "11231234",
}

// chatToken is a token and what became of it.
type chatToken struct {
	text       string
	key        *key
	issuedAt   time.Time // by the issuer's clock, in whole seconds
	expiration time.Time
	forged     bool // made by the thief
	acceptedBy [gateways]bool
}

// client gets a token and presents it.
func (f *fleet) client() {
	if tok := f.mint(pick(f, f.issuers), f.ttl()); tok != nil {
		g := pick(f, f.gateways)
		f.at(f.moment(tok, g), func() { f.visit(tok, g) })
	}
}

// moment is when a token is presented: at once, at any time of its life, in its
// last nanosecond, or just after it.
func (f *fleet) moment(tok *chatToken, g *gateway) time.Time {
	switch f.rng.IntN(8) {
	case 0, 1, 2:
		return time.Now().Add(f.upTo(time.Second))
	case 3, 4:
		return time.Now().Add(f.upTo(tok.expiration.Sub(tok.issuedAt)))
	case 5, 6:
		return g.when(tok.expiration.Add(-1))
	}
	return g.when(tok.expiration)
}

// visit presents a token and, once it was accepted, tries again: there, then
// and later, and elsewhere.
func (f *fleet) visit(tok *chatToken, g *gateway) {
	f.present(tok, g)
	if !tok.acceptedBy[g.index] {
		return
	}
	f.present(tok, g)
	f.after(1, func() { f.present(tok, g) })
	f.at(f.moment(tok, g), func() { f.present(tok, g) })
	if f.oneIn(4) {
		f.present(tok, pick(f, f.gateways))
	}
}

// burst presents n fresh tokens to a gateway at once.
func (f *fleet) burst(g *gateway, n int) {
	for range n {
		if tok := f.mint(pick(f, f.issuers), f.ttl()); tok != nil {
			f.present(tok, g)
		}
	}
}

// mintAround gets tokens of the longest life when a key starts to seal, and the
// one before it stops, by the issuer's clock. Clients present them where the
// ring is oldest and, in their last nanosecond, elsewhere.
func (f *fleet) mintAround(activation time.Time) {
	if activation.IsZero() {
		return // it has always sealed
	}
	for _, off := range []time.Duration{-1, -1, 0, 0} {
		h := pick(f, f.issuers)
		f.at(h.when(activation).Add(off), func() {
			tok := f.mint(h, f.policy.MaxTTL)
			if tok == nil {
				return
			}
			f.visit(tok, f.laggard())
			for range 4 {
				g := pick(f, f.gateways)
				f.at(g.when(tok.expiration.Add(-1)), func() { f.present(tok, g) })
			}
		})
	}
}

// laggard returns the gateway with the oldest ring.
func (f *fleet) laggard() *gateway {
	return slices.MinFunc(f.gateways, func(a, b *gateway) int {
		return int(a.ring.Serial()) - int(b.ring.Serial())
	})
}

// mint makes an issuer mint a token. It returns nil while the issuer is down.
func (f *fleet) mint(h *host, ttl time.Duration) *chatToken {
	if !h.up {
		return nil
	}
	f.tally["tokens minted"]++
	now := h.now()
	sealer := token.Sealer{Ring: h.ring, TTL: ttl, Now: func() time.Time { return now }}
	c, err := sealer.Create(user)
	require.NoError(f.t, err)
	tok := &chatToken{
		text:       c.Token,
		key:        f.keyOf(c.Token),
		issuedAt:   now.Truncate(time.Second),
		expiration: c.TokenExpiration,
	}
	f.judgeSealed(tok.key)
	return tok
}

// ttl returns any validity that the ring allows.
func (f *fleet) ttl() time.Duration {
	return token.MinTTL + f.upTo(f.policy.MaxTTL-token.MinTTL).Truncate(time.Second)
}

// judgeSealed checks that a host may seal under a key now.
func (f *fleet) judgeSealed(k *key) {
	for _, h := range f.hosts {
		if h.up && f.settled(k) && h.ring.Serial() < k.serial {
			f.violated(sealedUnknown, "key %v is of serial %d; a host has serial %d", k.id, k.serial, h.ring.Serial())
			return
		}
	}
}

// keyOf returns the key that a token names.
func (f *fleet) keyOf(text string) *key {
	var id keyring.ID
	b, err := base64.RawURLEncoding.DecodeString(text[len(box.Magic):][:8])
	require.NoError(f.t, err)
	copy(id[:], b)
	k := f.keys[id]
	require.NotNil(f.t, k, "a key that was never in the store")
	return k
}

// present presents a token to a gateway, and checks the outcome.
func (f *fleet) present(tok *chatToken, g *gateway) {
	if !g.up {
		f.tally["refused: gateway is down"]++
		return
	}
	err := g.opener.Open(ctx, &g.session, tok.text)
	f.trace.Write([]byte(tok.text + token.Reason(err)))
	again := tok.acceptedBy[g.index]
	if again {
		f.tally["replays attempted"]++
	}
	if err == nil {
		f.judgeAccepted(tok, g)
		tok.acceptedBy[g.index] = true
		g.accepted = append(g.accepted, tok)
	} else {
		f.judgeRefused(tok, g, err)
		if again {
			f.tally["replays refused"]++
		}
	}
	if g.now().After(g.latest) {
		g.latest = g.now()
	}
}

func (f *fleet) judgeAccepted(tok *chatToken, g *gateway) {
	f.tally["tokens opened"]++
	switch {
	case tok.acceptedBy[g.index]:
		f.violated(acceptedTwice, "issued at %v, the guard started at %v", tok.issuedAt, g.started)
	case !g.now().Before(tok.expiration):
		f.violated(acceptedLate, "expiration %v, clock %v", tok.expiration, g.now())
	case g.mustRevoke(tok.key):
		f.violated(openedRevoked, "key %v was revoked in serial %d; the host has had serial %d", tok.key.id, tok.key.revoked, g.serial)
	}
}

// mustRevoke reports whether the host has, or had before a restart, a ring in
// which the key is revoked.
func (h *host) mustRevoke(k *key) bool { return k.revoked != 0 && h.serial >= k.revoked }

func (f *fleet) judgeRefused(tok *chatToken, g *gateway, err error) {
	reason := token.Reason(err)
	f.tally["refused: "+reason]++
	switch reason {
	case "unknown-key", "revoked-key":
		if g.now().Before(tok.expiration) && !tok.forged && !g.mustRevoke(tok.key) && f.settled(tok.key) {
			f.violated(refusedForKey, "%v: key %v is of serial %d; the host has serial %d", err, tok.key.id, tok.key.serial, g.ring.Serial())
		}
	default:
		if !g.hasReason(tok, err) {
			f.violated(refusedOtherwise, "%s: %v: issued at %v, expiration %v, clock %v, the guard started at %v",
				reason, err, tok.issuedAt, tok.expiration, g.now(), g.started)
		}
	}
}

// hasReason reports whether a gateway had to refuse a token that its key opens.
func (g *gateway) hasReason(tok *chatToken, err error) bool {
	switch {
	case errors.Is(err, token.ErrTokenExpired):
		return !g.now().Before(tok.expiration)
	case errors.Is(err, token.ErrSpent):
		return tok.acceptedBy[g.index]
	case errors.Is(err, replay.ErrBeforeStart):
		return tok.issuedAt.Unix() <= g.started.Add(g.ring.Limits().ClockSkew).Unix()
	case errors.Is(err, replay.ErrForgotten):
		return !tok.expiration.After(g.latest)
	}
	return false
}

package fuzz_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// FuzzTwoOpeners runs an issuer and two gateways. Each has its own clock; all
// share a guard and a ring, of which the second gateway follows the sealed
// form. A program decides what happens next, also while a token is being
// opened. No token may be accepted twice. If the clocks are within the skew and
// the follower keeps up, a token that is presented in time must be accepted the
// first time, whatever happened to the keys.
func FuzzTwoOpeners(f *testing.F) {
	kek, err := keyring.GenerateKEK()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, program []byte) {
		c := newChat(t, kek)
		c.tape = program
		for range 300 {
			if len(c.tape) == 0 {
				break
			}
			c.step()
		}
	})
}

// The policy is as tight as possible, so that a short program sees keys come
// and go.
const (
	chatSkew = 2 * time.Second
	chatTTL  = 10 * time.Second
	chatLead = 5 * time.Second
)

// chat is the two gateways, the issuer, and what has happened.
type chat struct {
	t testing.TB
	tape
	kek     keyring.KEK
	now     time.Time
	offsets [3]time.Duration // of the clocks: two gateways, issuer
	ring    *keyring.Ring    // of the first gateway and the issuer
	follows *keyring.Ring    // of the second gateway
	guard   *replay.Guard
	openers [2]token.Opener
	sealer  token.Sealer
	tokens  []*chatToken

	ready     time.Time // tokens issued before that may be refused
	furthest  time.Time // the latest time that the guard was told
	honest    bool      // no clock was set, nobody held up for long
	behind    bool      // the follower lacks a version
	deadline  time.Time // when it must have that version
	depth     int       // openings under way
	meanwhile int       // steps to take during the next one
}

type chatToken struct {
	token.ChatToken
	issued   time.Time
	accepted bool
	exempt   bool // its key may have been revoked
}

func newChat(t testing.TB, kek keyring.KEK) *chat {
	c := &chat{t: t, kek: kek, now: after(0), honest: true}
	policy := keyring.Policy{MaxTTL: chatTTL, ClockSkew: chatSkew, Period: 4 * chatLead, Lead: chatLead}
	var err error
	c.ring, err = keyring.New(c.now, keyring.Config{Policy: policy})
	require.NoError(t, err)
	c.follows, err = keyring.Load(t.Context(), kek, c.marshal(), keyring.Config{})
	require.NoError(t, err)
	c.guard, err = replay.New(replay.Config{Limits: c.ring.Limits(), Rate: 100, Now: c.clock(0)})
	require.NoError(t, err)
	c.ready = c.guard.ReadyAt()
	for i, ring := range []*keyring.Ring{c.ring, c.follows} {
		c.openers[i] = token.Opener{Ring: ring, Guard: c, Admit: c.admit, Now: c.clock(i)}
	}
	c.sealer = token.Sealer{Ring: c.ring, Now: c.clock(2)}
	return c
}

func (c *chat) clock(i int) func() time.Time {
	return func() time.Time { return c.now.Add(c.offsets[i]) }
}

func (c *chat) marshal() []byte {
	sealed, err := c.ring.Marshal(c.t.Context(), c.kek)
	require.NoError(c.t, err)
	return sealed
}

// The steps of a program.
const (
	mint      = iota // a token
	open             // a token, at one of the gateways
	openHeld         // the same, with steps before the guard is asked
	pass             // time, up to four seconds
	offset           // a clock by up to the skew
	rotate           // by the policy
	rotateNow        // ahead of time
	revoke           // a key
	follow           // the ring
	setClocks        // all of them by an hour
	chatSteps        // how many there are
)

func (c *chat) step() {
	switch kind := c.next() % chatSteps; kind {
	case mint:
		minted, err := c.sealer.Create(claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"})
		require.NoError(c.t, err)
		c.tokens = append(c.tokens, &chatToken{ChatToken: minted, issued: minted.TokenExpiration.Add(-chatTTL)})
	case open:
		c.open(0)
	case openHeld:
		c.open(1 + int(c.next()%4))
	case pass:
		c.now = c.now.Add(time.Duration(c.next()) * time.Second / 64)
	case offset:
		c.offsets[c.next()%3] = time.Duration(c.next()) * chatSkew / 255
	case setClocks:
		c.now = c.now.Add(time.Hour * time.Duration(1-2*int(c.next()%2)))
		c.honest = false
	default:
		c.stepRing(kind)
	}
}

// stepRing changes the ring by the issuer's clock, or lets the follower follow.
func (c *chat) stepRing(kind byte) {
	now, serial := c.sealer.Now(), c.ring.Serial()
	switch kind {
	case rotate:
		_, err := c.ring.Rotate(now)
		require.NoError(c.t, err)
	case rotateNow:
		if err := c.ring.RotateNow(now); err != nil {
			require.Equal(c.t, keyring.ErrTooSoon, err)
		}
	case revoke:
		keys := slices.Collect(c.ring.Keys(now))
		require.NoError(c.t, c.ring.Revoke(now, keys[int(c.next())%len(keys)].ID))
	case follow:
		_, err := c.follows.Update(c.t.Context(), c.kek, c.marshal())
		require.NoError(c.t, err)
		require.Equal(c.t, serial, c.follows.Serial())
		c.behind = false
	}
	if c.ring.Serial() == serial {
		return
	}
	// A new key seals after Lead, by a clock that may be ahead and counts
	// whole seconds. If it replaces a revoked key, it seals at once.
	within := chatLead - chatSkew - time.Second
	if kind == revoke {
		within = 0
		for _, old := range c.tokens {
			old.exempt = true
		}
	}
	if deadline := c.now.Add(within); !c.behind || deadline.Before(c.deadline) {
		c.behind, c.deadline = true, deadline
	}
}

// open presents a token, and takes that many steps while it is being opened.
func (c *chat) open(steps int) {
	gateway := int(c.next() % 2)
	if len(c.tokens) == 0 || c.depth == 3 {
		return
	}
	presented := c.tokens[len(c.tokens)-1-int(c.next())%len(c.tokens)]
	must := steps == 0 && c.mustAccept(gateway, presented)
	c.depth++
	c.meanwhile = steps
	var s token.Session
	err := c.openers[gateway].Open(c.t.Context(), &s, presented.Token)
	c.meanwhile = 0 // a token refused early leaves no time for them
	c.depth--
	if err != nil {
		require.False(c.t, must, "refused: %v", err)
		requireZero(c.t, &s)
		return
	}
	require.False(c.t, presented.accepted, "accepted twice")
	require.Equal(c.t, presented.SessionExpiration, s.SessionExpiration())
	presented.accepted = true
}

// mustAccept reports whether nothing excuses refusing a token now.
func (c *chat) mustAccept(gateway int, presented *chatToken) bool {
	end := presented.TokenExpiration
	return c.honest && !presented.accepted && !presented.exempt && !presented.issued.Before(c.ready) &&
		c.openers[gateway].Now().Before(end) && c.furthest.Before(end) &&
		(gateway == 0 || !c.behind || c.now.Before(c.deadline))
}

// admit is the gateways' rule; time passes in it.
func (c *chat) admit(context.Context, time.Time, token.Summary) error {
	steps := c.meanwhile
	c.meanwhile = 0
	for range steps {
		c.step()
	}
	return nil
}

// Spend is the guard, and notes the latest time that it was told. A caller that
// was held up for longer than the skew may make the guard forget.
func (c *chat) Spend(ctx context.Context, now time.Time, t token.Summary) (bool, error) {
	if now.After(c.furthest) {
		c.furthest = now
	}
	c.honest = c.honest && c.furthest.Sub(now) <= chatSkew
	return c.guard.Spend(ctx, now, t)
}

func (c *chat) Revoked(t token.Summary) error { return c.guard.Revoked(t) }

func twoOpenersSeeds(testing.TB) []seed {
	// A guard is ready after three seconds.
	program := func(b ...byte) []any { return args(append([]byte{pass, 192}, b...)) }
	return []seed{
		{"too-early", args([]byte{mint, open, 0, 0})},
		{"twice-here", program(mint, open, 0, 0, open, 0, 0)},
		{"here-and-there", program(mint, open, 0, 0, open, 1, 0)},
		{"there-and-here", program(mint, offset, 1, 255, open, 1, 0, open, 0, 0)},
		{"meanwhile-there", program(mint, openHeld, 0, 0, 0, open, 1, 0)},
		{"both-held-up", program(mint, openHeld, 1, 0, 0, openHeld, 0, 1, 0, pass, 64)},
		{"expires-meanwhile", program(mint, openHeld, 3, 0, 0, pass, 255, pass, 255, pass, 255, open, 1, 0)},
		{"fast-and-slow", program(offset, 1, 255, mint, mint, pass, 255, pass, 255, pass, 64, open, 1, 1, open, 0, 0)},
		{"fast-issuer", program(offset, 2, 255, mint, open, 0, 0, open, 1, 0)},
		{"fast-issuer-early", args([]byte{pass, 64, offset, 2, 255, mint, open, 0, 0})},
		{"rotated", program(pass, 255, rotateNow, mint, open, 1, 0, open, 0, 0)},
		{"rotated-and-followed", program(pass, 255, rotateNow, follow, mint, open, 1, 0, open, 0, 0)},
		{"rotated-twice", program(pass, 255, rotateNow, rotateNow, mint, open, 1, 0)},
		{"next-key", program(pass, 255, pass, 255, pass, 255, pass, 255, rotate, mint, pass, 255, follow, open, 1, 0, mint, open, 0, 0)},
		{"key-expires", program(pass, 255, rotateNow, mint, pass, 255, pass, 255, rotate, follow, open, 1, 0)},
		{"revoked", program(mint, revoke, 0, mint, open, 0, 1, open, 1, 1, open, 0, 0, follow, open, 1, 0)},
		{"clocks-set", program(mint, open, 0, 0, setClocks, 0, mint, open, 1, 0, setClocks, 1, open, 1, 1, open, 0, 1)},
	}
}

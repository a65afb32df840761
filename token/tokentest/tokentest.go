// Package tokentest helps to test programs that mint chat tokens or let users
// in with them.
//
//	env := tokentest.New(t)
//	gateway := newGateway(&env.Opener)         // the program under test
//	gateway.connect(env.Mint().Token)          // is let in
//	gateway.connect(env.Spent())               // is refused
//	env.Advance(2 * time.Minute)               // its clock moves on
//
// The program under test has to read the clock of [Env.Now], or time.Now under
// testing/synctest, where the bubble's clock is used: there time.Sleep moves
// the clock and fires timers, and Advance fires none.
//
// For a guard that is down, put one of your own into Opener.Guard. To revoke
// everyone, call Guard.Revoke; what is minted within six seconds of that is
// revoked, too, so Advance the clock.
package tokentest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// The room and the user of [Claims].
const (
	Room   = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"
	UserID = "11231234"
)

// Claims returns the example of the service's documentation, anew each time.
func Claims() claims.Claims {
	return claims.Claims{
		RoomIdentifier: Room,
		UserID:         UserID,
		Capabilities:   claims.SendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
		SessionMinutes: 30,
	}
}

// Env is all that a program with tokens needs, on one clock: fresh keys with
// the default policy, and a guard that accepts every token of theirs at once.
// It is made by [New]. Its methods are safe for concurrent use; its fields may
// be changed before anybody else uses them. Mint returns a token.ChatToken, and
// the methods for tokens that are refused return the text.
type Env struct {
	Ring   *keyring.Ring // shared by Sealer and Opener
	Guard  *replay.Guard // of Opener
	Sealer token.Sealer  // what Mint mints with
	Opener token.Opener  // what opens it

	tb    testing.TB
	ahead atomic.Int64 // nanoseconds by which the clock is ahead of time.Now
}

// New makes an Env that fails tb if anything goes wrong in it.
func New(tb testing.TB) *Env {
	tb.Helper()
	e := &Env{tb: tb}
	e.Ring = e.newRing()
	guard, err := replay.New(replay.Config{Limits: e.Ring.Limits(), AcceptIssuedBeforeStart: true, Now: e.Now})
	if err != nil {
		tb.Fatal(err)
	}
	e.Guard = guard
	e.Sealer = token.Sealer{Ring: e.Ring, Now: e.Now}
	e.Opener = token.Opener{Ring: e.Ring, Guard: guard, Now: e.Now}
	return e
}

func (e *Env) newRing() *keyring.Ring {
	e.tb.Helper()
	ring, err := keyring.New(e.Now(), keyring.Config{})
	if err != nil {
		e.tb.Fatal(err)
	}
	return ring
}

// Now is the clock of all parts: time.Now, and what [Env.Advance] added.
func (e *Env) Now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

// Advance moves the clock on, or back if d is negative.
func (e *Env) Advance(d time.Duration) { e.ahead.Add(int64(d)) }

// Mint mints a token that is accepted once. It says what [Claims] does, with
// the changes applied.
func (e *Env) Mint(changes ...func(*claims.Claims)) token.ChatToken {
	e.tb.Helper()
	return e.mint(e.Sealer, changes...)
}

func (e *Env) mint(s token.Sealer, changes ...func(*claims.Claims)) token.ChatToken {
	e.tb.Helper()
	c := Claims()
	for _, change := range changes {
		change(&c)
	}
	minted, err := s.Create(c)
	if err != nil {
		e.tb.Fatal(err)
	}
	return minted
}

// mintAt mints a token that was issued at another time than now.
func (e *Env) mintAt(ahead time.Duration) string {
	e.tb.Helper()
	s := e.Sealer
	s.Now = func() time.Time { return e.Now().Add(ahead) }
	return e.mint(s).Token
}

// Expired returns a token that is refused with token.ErrTokenExpired.
func (e *Env) Expired() string { e.tb.Helper(); return e.mintAt(-token.MaxTTL) }

// FromTheFuture returns a token that is refused with token.ErrNotYetValid: its
// minter's clock is ahead by a minute more than ClockSkew.
func (e *Env) FromTheFuture() string {
	e.tb.Helper()
	return e.mintAt(time.Minute + e.Ring.Limits().ClockSkew)
}

// Spent returns a token that is refused with token.ErrSpent by Env.Guard.
func (e *Env) Spent() string {
	e.tb.Helper()
	minted := e.Mint()
	opener := token.Opener{Ring: e.Ring, Guard: e.Guard, Now: e.Now}
	if err := opener.Open(e.tb.Context(), new(token.Session), minted.Token); err != nil {
		e.tb.Fatal(err)
	}
	return minted.Token
}

// Revoked returns a token that is refused with token.ErrRevoked by Env.Guard.
// It is revoked by its ID, and no other token is.
func (e *Env) Revoked() string {
	e.tb.Helper()
	minted := e.Mint()
	if err := e.Guard.Revoke(e.tb.Context(), token.Target{Token: minted.ID}, time.Time{}); err != nil {
		e.tb.Fatal(err)
	}
	return minted.Token
}

// UnknownKey returns a token that is refused with token.ErrUnknownKey: somebody
// else's.
func (e *Env) UnknownKey() string {
	e.tb.Helper()
	return e.mint(token.Sealer{Ring: e.newRing(), Now: e.Now}).Token
}

// Forged returns a token that is refused with token.ErrForged: a good one with
// one character changed.
func (e *Env) Forged() string {
	e.tb.Helper()
	text := []byte(e.Mint().Token)
	if i := len(text) / 2; text[i] == 'A' {
		text[i] = 'B'
	} else {
		text[i] = 'A'
	}
	return string(text)
}

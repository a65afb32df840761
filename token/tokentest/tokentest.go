// Package tokentest helps to test programs that mint or accept chat tokens.
// Make an [Env] with [New]:
//
//	env := tokentest.New(t)
//	gateway := newGateway(&env.Opener)         // the program under test
//	gateway.connect(env.Mint().Token)          // is accepted
//	gateway.connect(env.Spent())               // is refused
//	env.Advance(2 * time.Minute)               // moves the clock
//
// The program under test must read the clock with [Env.Now]. Under
// [testing/synctest] it may use time.Now: there time.Sleep moves the clock and
// fires timers. Advance fires none.
//
// For a guard that is down, set Opener.Guard to one of your own. To revoke
// everyone, call Guard.Revoke. That covers what is minted within the next six
// seconds, too, so Advance the clock.
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

// The room and the user in [Claims].
const (
	Room   = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"
	UserID = "11231234"
)

// Claims returns a new copy of the example in the service's documentation.
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
// the default policy, and a guard that accepts their tokens from the start.
// [New] makes it. Its methods are safe for concurrent use. Change its fields
// before anybody else uses them.
type Env struct {
	Ring   *keyring.Ring // shared by Sealer and Opener
	Guard  *replay.Guard // of Opener
	Sealer token.Sealer  // what Mint mints with
	Opener token.Opener  // what opens it

	tb    testing.TB
	ahead atomic.Int64 // nanoseconds that the clock is ahead of time.Now
}

// New makes an Env. It fails tb if anything goes wrong, and so do the methods.
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

// Now is the clock of all parts: time.Now, plus what [Env.Advance] added.
func (e *Env) Now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

// Advance moves the clock on, or back if d is negative.
func (e *Env) Advance(d time.Duration) { e.ahead.Add(int64(d)) }

// Mint mints a token with the claims of [Claims], after the changes.
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

// mintAt mints a token that was issued at another time.
func (e *Env) mintAt(ahead time.Duration) string {
	e.tb.Helper()
	s := e.Sealer
	s.Now = func() time.Time { return e.Now().Add(ahead) }
	return e.mint(s).Token
}

// Expired returns a token that the Opener refuses with [token.ErrTokenExpired].
func (e *Env) Expired() string { e.tb.Helper(); return e.mintAt(-token.MaxTTL) }

// FromTheFuture returns a token that the Opener refuses with
// [token.ErrNotYetValid]: its issuer's clock is ahead by ClockSkew and a
// minute.
func (e *Env) FromTheFuture() string {
	e.tb.Helper()
	return e.mintAt(time.Minute + e.Ring.Limits().ClockSkew)
}

// Spent returns a token that the Env's Guard refuses with [token.ErrSpent].
func (e *Env) Spent() string {
	e.tb.Helper()
	minted := e.Mint()
	opener := token.Opener{Ring: e.Ring, Guard: e.Guard, Now: e.Now}
	if err := opener.Open(e.tb.Context(), new(token.Session), minted.Token); err != nil {
		e.tb.Fatal(err)
	}
	return minted.Token
}

// Revoked returns a token that the Env's Guard refuses with [token.ErrRevoked].
// No other token is revoked.
func (e *Env) Revoked() string {
	e.tb.Helper()
	minted := e.Mint()
	if err := e.Guard.Revoke(e.tb.Context(), token.Target{Token: minted.ID}, time.Time{}); err != nil {
		e.tb.Fatal(err)
	}
	return minted.Token
}

// UnknownKey returns a token of another ring. The Opener refuses it with
// [token.ErrUnknownKey].
func (e *Env) UnknownKey() string {
	e.tb.Helper()
	return e.mint(token.Sealer{Ring: e.newRing(), Now: e.Now}).Token
}

// Forged returns a token with one character changed. The Opener refuses it with
// [token.ErrForged].
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

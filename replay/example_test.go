package replay_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// A process that mints and opens its own tokens: the keys are born with it, so
// no token can be older than the guard, and nobody has to wait for it.
func Example() {
	now := time.Now()
	ring, err := keyring.New(now, keyring.Config{})
	if err != nil {
		panic(err)
	}
	guard, err := replay.New(now, replay.Config{AcceptIssuedBeforeStart: true})
	if err != nil {
		panic(err)
	}
	sealer := token.Sealer{Ring: ring}
	opener := token.Opener{Ring: ring, Guard: guard}

	minted, err := sealer.Create(claims.Claims{
		RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEfGhIjKl",
		UserID:         "alice",
	})
	if err != nil {
		panic(err)
	}
	var session token.Session
	fmt.Println(opener.Open(context.Background(), &session, minted.Token))
	fmt.Println(opener.Open(context.Background(), &session, minted.Token))
	// Output:
	// <nil>
	// token: already used
}

// A guard for keys that outlive the process refuses what an earlier process may
// have let in. Its limits are those of the ring's policy.
func ExampleNew() {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	guard, err := replay.New(start, replay.Config{
		Rate:      500, // connections a second
		MaxTTL:    time.Minute,
		ClockSkew: 5 * time.Second,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("ready:   ", guard.ReadyAt().Format(time.TimeOnly))
	fmt.Println("capacity:", guard.Stats(start).Capacity)

	issued := start.Add(-time.Second)
	_, err = guard.Spend(context.Background(), start, claims.Summary{
		IssuedAt:   issued,
		Expiration: issued.Add(time.Minute),
	})
	fmt.Println(err)
	// Output:
	// ready:    12:00:06
	// capacity: 33000
	// replay: issued before the guard started
}

// A gateway that drops the connections of a banned user. Whichever comes first,
// the connection or the ban, one of them notices the other.
func ExampleRevocations() {
	var (
		revoked replay.Revocations
		mu      sync.Mutex
		online  = make(map[string]func()) // closes the connection of a user
	)
	connect := func(s claims.Summary, hangUp func()) {
		// The token was opened, with revoked.Check for token.Opener.Revoked.
		mu.Lock()
		online[string(s.UserID)] = hangUp
		mu.Unlock()
		if revoked.Revoked(s) { // since then
			hangUp()
		}
	}
	ban := func(now time.Time, userID string) {
		revoked.RevokeUser(now, userID, now)
		mu.Lock()
		defer mu.Unlock()
		if hangUp := online[userID]; hangUp != nil {
			hangUp()
		}
	}

	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	mallory := claims.Summary{UserID: []byte("mallory"), IssuedAt: now, Expiration: now.Add(time.Minute)}
	connect(mallory, func() { fmt.Println("mallory is disconnected") })
	ban(now.Add(10*time.Second), "mallory")
	fmt.Println("another of the same tokens:", revoked.Check(mallory))
	// Output:
	// mallory is disconnected
	// another of the same tokens: chattoken: revoked
}

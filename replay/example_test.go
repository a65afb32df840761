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

// A process that mints and opens its own tokens. Its keys are made with it, so
// no token is older than the guard, and nobody has to wait for it.
func Example() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		panic(err)
	}
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
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
// have accepted. Its limits are those of the ring's policy.
func ExampleNew() {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ring, err := keyring.New(start, keyring.Config{})
	if err != nil {
		panic(err)
	}
	guard, err := replay.New(replay.Config{
		Limits: ring.Limits(),
		Rate:   500, // connections a second
		Now:    func() time.Time { return start },
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("ready:   ", guard.ReadyAt().Format(time.TimeOnly))
	fmt.Println("capacity:", guard.Stats(start).Capacity)

	issued := start.Add(-time.Second)
	_, err = guard.Spend(context.Background(), start, token.Summary{
		IssuedAt:   issued,
		Expiration: issued.Add(time.Minute),
	})
	fmt.Println(err)
	// Output:
	// ready:    12:00:06
	// capacity: 33000
	// replay: issued before the guard started
}

// A gateway that drops the connections of a banned user. Connecting registers
// first and then asks the guard. Banning tells the guard first and then looks
// at the connections. So whichever comes first, one notices the other.
func ExampleGuard_Revoke() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	guard, err := replay.New(replay.Config{
		// As ring.Limits() returns them.
		Limits: keyring.Limits{MaxTTL: time.Minute, ClockSkew: 5 * time.Second},
		Now:    func() time.Time { return now },
	})
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	online := make(map[string]func()) // closes the connection of a user
	connect := func(s token.Summary, hangUp func()) {
		mu.Lock()
		online[string(s.UserID)] = hangUp
		mu.Unlock()
		if guard.Revoked(s) != nil { // since the token was opened
			hangUp()
		}
	}
	ban := func(userID string) error {
		err := guard.Revoke(context.Background(), token.Target{User: userID}, now)
		mu.Lock()
		defer mu.Unlock()
		if hangUp := online[userID]; hangUp != nil {
			hangUp()
		}
		return err
	}

	mallory := token.Summary{UserID: []byte("mallory"), IssuedAt: now, Expiration: now.Add(time.Minute)}
	connect(mallory, func() { fmt.Println("mallory is disconnected") })
	now = now.Add(10 * time.Second)
	fmt.Println("banned:", ban("mallory"))
	fmt.Println("another token from before the ban:", guard.Revoked(mallory))
	// Output:
	// mallory is disconnected
	// banned: <nil>
	// another token from before the ban: token: revoked
}

// A guard of your own keeps revocations in a Revocations.
func ExampleRevocations() {
	var revocations replay.Revocations
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alice := token.Summary{UserID: []byte("alice"), IssuedAt: now.Add(-time.Minute)}

	if err := revocations.Revoke(now, token.Target{User: "alice"}, now); err != nil {
		panic(err)
	}
	fmt.Println(revocations.Revoked(alice))
	revocations.News(func(t token.Target, issuedBefore time.Time) {
		fmt.Println("end the sessions of", t.User)
	})

	// Output:
	// token: revoked
	// end the sessions of alice
}

package keyring_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// A ring in memory needs no configuration. Its keys end with the process.
func Example() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(claims.Claims{
		RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
		UserID:         "11231234",
	})
	fmt.Println(len(minted.Token), err)
	for k := range ring.Keys(time.Now()) {
		fmt.Println(k.State)
	}
	// Output:
	// 168 <nil>
	// primary
	// pending
}

// One process makes a ring, rotates it and saves it. Others load and follow it.
func Example_file() {
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name, kekName := filepath.Join(dir, "ring"), filepath.Join(dir, "kek")
	ctx, config := context.Background(), keyring.Config{Context: "chat.example.com production"}

	// Once.
	kek, err := keyring.GenerateKEK()
	if err != nil {
		log.Fatal(err)
	}
	if err := kek.WriteFile(kekName); err != nil {
		log.Fatal(err)
	}
	now := time.Now()
	file := keyring.File{Name: name, KEK: keyring.KEKFile{Name: kekName}, Config: config}
	rotator, err := file.Create(ctx, now)
	if err != nil {
		log.Fatal(err)
	}

	// In every other process, when it starts.
	follower, err := file.Follow(ctx, now)
	if err != nil {
		log.Fatal(err)
	}
	ring := follower.Ring()

	// In the rotator, every minute. Here a month has passed.
	now = now.Add(30 * 24 * time.Hour)
	changed, err := rotator.Rotate(now)
	if err != nil {
		log.Fatal(err)
	}
	if changed {
		if err := file.Save(ctx, rotator); err != nil {
			log.Fatal(err)
		}
	}

	// In every other process, on each tick of a ticker: several times
	// within Policy.Lead.
	if _, err := follower.Refresh(ctx, now); err != nil {
		log.Print(err)
	}
	if err := follower.Health(now); err != nil {
		log.Print(err) // new keys do not get here: somebody has to look
	}
	fmt.Println(ring.Serial())
	// Output: 2
}

// A key leaked. Once revoked it opens nothing, and the next key, which all
// hosts already have, seals.
func ExampleRing_Revoke() {
	now := time.Now()
	ring, err := keyring.New(now, keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for k := range ring.Keys(now) {
		if k.State == keyring.Primary {
			err = ring.Revoke(now, k.ID)
		}
	}
	fmt.Println(err)
	for k := range ring.Keys(now) {
		fmt.Println(k.State)
	}
	// Output:
	// <nil>
	// primary
	// pending
	// revoked
}

// A process that shares its keys with nobody rotates them itself.
func ExampleNewInMemory() {
	now := time.Now()
	ring, err := keyring.New(now, keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := keyring.NewInMemory(ring)
	if err != nil {
		log.Fatal(err)
	}

	// Every minute. Here a month has passed.
	changed, err := keys.Refresh(context.Background(), now.Add(30*24*time.Hour))
	fmt.Println(changed, err)
	// Output: true <nil>
}

// Another KEK replaces the old one, and the keys stay.
func ExampleKEKs() {
	ctx := context.Background()
	before, err := keyring.GenerateKEK()
	if err != nil {
		log.Fatal(err)
	}
	after, err := keyring.GenerateKEK()
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}

	// Every host has both. The first one wraps.
	sealed, err := ring.Marshal(ctx, keyring.KEKs{after, before})
	if err != nil {
		log.Fatal(err)
	}
	_, err = keyring.Load(ctx, after, sealed, keyring.Config{})
	fmt.Println(err)
	// Output: <nil>
}

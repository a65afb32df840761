package valkey_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// address is the server that the examples use.
var address = "127.0.0.1:6379"

// Two gateways with the same keys and the same server: a token opens a
// connection to one of them, once.
func Example() {
	ctx := context.Background()
	// With several hosts: keyring.Load.
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		panic(err)
	}
	var ready time.Time
	gateway := func() *token.Opener {
		guard, err := valkey.New(ctx, valkey.Config{
			Addresses: []string{address},
			Limits:    ring.Limits(),
		})
		if err != nil {
			panic(err)
		}
		ready = guard.ReadyAt()
		return &token.Opener{Ring: ring, Guard: guard}
	}
	first, second := gateway(), gateway()
	time.Sleep(time.Until(ready)) // a health check does this

	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(claims.Claims{
		RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEfGhIjKl",
		UserID:         "alice",
	})
	if err != nil {
		panic(err)
	}
	var session token.Session
	fmt.Println(first.Open(ctx, &session, minted.Token))
	fmt.Println(first.Open(ctx, &session, minted.Token))
	fmt.Println(second.Open(ctx, &session, minted.Token))
	// Prints:
	// <nil>
	// token: already used
	// token: already used
}

// Alice is banned on one gateway. From then on the others refuse her tokens,
// and end her connections.
func ExampleGuard_Revoke() {
	ctx := context.Background()
	config := valkey.Config{Addresses: []string{address}, Limits: keyring.Limits{ClockSkew: time.Second}}
	here, err := valkey.New(ctx, config)
	if err != nil {
		panic(err)
	}
	elsewhere, err := valkey.New(ctx, config)
	if err != nil {
		panic(err)
	}
	time.Sleep(time.Until(elsewhere.ReadyAt()))
	alice := token.Summary{ClockSkew: time.Second, UserID: []byte("alice"), IssuedAt: time.Now(), Expiration: time.Now().Add(time.Minute)}

	if err := here.Revoke(ctx, token.Target{User: "alice"}, time.Now()); err != nil {
		panic(err) // others may not know: repeat it
	}
	_, err = elsewhere.Spend(ctx, time.Now(), alice)
	fmt.Println("another token:", err)

	end := func(t token.Target, _ time.Time) { fmt.Println("end the sessions of", t.User) }
	if err := elsewhere.Sync(ctx, end); err != nil { // every few seconds
		panic(err)
	}
	// Prints:
	// another token: token: revoked
	// end the sessions of alice
}

// TestExamples runs the examples, which need a server.
func TestExamples(t *testing.T) {
	s := startServer(t)
	old := address
	address = s.Address
	defer func() { address = old }()
	assert.Equal(t, "<nil>\ntoken: already used\ntoken: already used\n", printed(t, Example))
	assert.Equal(t, "another token: token: revoked\nend the sessions of alice\n", printed(t, ExampleGuard_Revoke))
}

// printed returns what f prints. Timeout has its usual value in an example. So
// if the machine stands still for longer than that, the example runs again.
func printed(t *testing.T, f func()) (out string) {
	for range 3 {
		out = printedOnce(t, f)
		if !strings.Contains(out, timedOut) {
			break
		}
	}
	return out
}

func printedOnce(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	f()
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

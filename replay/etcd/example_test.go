//go:build unix

package etcd_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// endpoints are those of the cluster that the example uses.
var endpoints = []string{"127.0.0.1:2379"}

// Two gateways with the same keys and the same cluster: a token opens a
// connection to one of them, once. A user who is banned at one is gone at the
// other.
func Example() {
	ctx := context.Background()
	// With several hosts: keyring.Load.
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		panic(err)
	}
	gateway := func() (*etcd.Guard, *token.Opener) {
		guard, err := etcd.New(ctx, etcd.Config{Endpoints: endpoints, Limits: ring.Limits()})
		if err != nil {
			panic(err)
		}
		// A health check does this.
		time.Sleep(time.Until(guard.ReadyAt()))
		return guard, &token.Opener{Ring: ring, Guard: guard}
	}
	guard, first := gateway()
	defer guard.Close()
	other, second := gateway()
	defer other.Close()

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
	fmt.Println(second.Open(ctx, new(token.Session), minted.Token))

	if err := other.Revoke(ctx, token.Target{User: "alice"}, time.Now()); err != nil {
		panic(err) // others may not know: repeat it
	}
	// Every few seconds.
	err = guard.Sync(ctx, func(t token.Target, before time.Time) {
		fmt.Println("end the sessions of", t.User)
	})
	fmt.Println(err, guard.Revoked(session.Summary()))
	// Prints:
	// <nil>
	// token: already used
	// end the sessions of alice
	// <nil> token: revoked
}

// TestExample runs the example, which needs a cluster.
func TestExample(t *testing.T) {
	endpoints = etcdtest.Start(t, 1).Endpoints()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	Example()
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "<nil>\ntoken: already used\nend the sessions of alice\n<nil> token: revoked\n", string(out))
}

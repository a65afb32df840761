package valkey_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

var ctx = context.Background()

// hang is how long a test waits before it gives up. It does not measure speed:
// the machine may be busy.
const hang = 60 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // they mostly wait for a program or a clock
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}

// server is a server with a client that bypasses any guard.
type server struct {
	*valkeytest.Server
	t       testing.TB
	adminMu sync.Mutex
	client  client.Client
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{Server: valkeytest.Start(t, args...), t: t}
}

func startEngine(t testing.TB, engine string) *server {
	t.Helper()
	return &server{Server: valkeytest.StartEngine(t, engine), t: t}
}

// kill kills the server and its client, whose next command would meet the
// broken connection.
func (s *server) kill() {
	s.adminMu.Lock()
	if s.client != nil {
		go s.client.Close()
		s.client = nil
	}
	s.adminMu.Unlock()
	s.Kill()
}

// do runs a command, past any guard.
func (s *server) do(args ...string) client.ValkeyResult {
	s.t.Helper()
	return s.admin().Do(ctx, s.admin().B().Arbitrary(args...).Build())
}

func (s *server) must(args ...string) {
	s.t.Helper()
	err := s.do(args...).Error()
	if !client.IsValkeyNil(err) {
		require.NoError(s.t, err, "%q", args)
	}
}

func (s *server) admin() client.Client {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if s.client == nil {
		s.client = connect(s.t, s.Address)
	}
	return s.client
}

// connect returns a bare client of one server.
func connect(t testing.TB, address string) client.Client {
	t.Helper()
	c, err := client.NewClient(client.ClientOption{
		InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true,
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// skew is the ClockSkew of guards and tokens here: the least, so that guards
// are ready soon.
const skew = time.Second

// config is that of a guard on addresses, with the longest Timeout, because the
// machine may be busy.
func config(addresses ...string) valkey.Config {
	return valkey.Config{Addresses: addresses, Timeout: 6 * time.Second, Limits: keyring.Limits{ClockSkew: skew}}
}

// newGuard makes a guard, and waits until tokens of unique and numbered are
// accepted.
func newGuard(t testing.TB, c valkey.Config) *valkey.Guard {
	t.Helper()
	g, err := valkey.New(ctx, c)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	waitAhead(g)
	return g
}

// waitAhead waits until the guard accepts tokens issued now by a clock that is
// ahead by the skew.
func waitAhead(g *valkey.Guard) {
	// The clock may be slewed meanwhile.
	for at := g.ReadyAt().Add(-skew); time.Now().Before(at); {
		time.Sleep(time.Until(at))
	}
}

// newGuardAtLast is newGuard for a Timeout that a busy machine may exceed.
func newGuardAtLast(t testing.TB, c valkey.Config) (g *valkey.Guard) {
	t.Helper()
	eventually(t, func() bool {
		var err error
		g, err = valkey.New(ctx, c)
		return err == nil
	})
	t.Cleanup(g.Close)
	waitAhead(g)
	return g
}

// run is in the IDs of all tokens.
var run = rand.Uint64()

// numbered returns the token number n, issued just now by a clock that is ahead
// by the skew.
func numbered(n uint64) token.Summary { return tokenAt(n, time.Now().Add(skew), time.Minute) }

// unique returns one that no number has.
func unique() token.Summary { return numbered(1<<63 + uniques.Add(1)) }

// honest returns a unique token of a right clock.
func honest() token.Summary {
	return tokenAt(1<<63+uniques.Add(1), time.Now(), time.Minute)
}

var uniques atomic.Uint64

func tokenAt(n uint64, issued time.Time, ttl time.Duration) token.Summary {
	issued = issued.Truncate(time.Second)
	t := token.Summary{
		IssuedAt:       issued,
		Expiration:     issued.Add(ttl),
		ClockSkew:      skew,
		RoomIdentifier: []byte("room"),
		UserID:         []byte("user"),
	}
	binary.BigEndian.PutUint64(t.TokenID[:], run)
	binary.BigEndian.PutUint64(t.TokenID[8:], n)
	return t
}

// spend spends a token, and returns the outcome in a word.
func spend(g *valkey.Guard, t token.Summary) string { return spendAt(g, time.Now(), t) }

func spendAt(g *valkey.Guard, now time.Time, t token.Summary) string {
	fresh, err := g.Spend(ctx, now, t)
	switch {
	case fresh && err == nil:
		return "fresh"
	case fresh:
		return fmt.Sprintf("fresh and %v", err)
	case err == nil:
		return "spent"
	}
	return err.Error()
}

// What errors say.
const (
	timedOut     = "valkey: no reply in time"
	noConnection = "valkey: no connection to the server"
	loading      = "valkey: the server is loading or busy"
	readOnly     = "valkey: the server is a read-only replica"
	outOfMemory  = "valkey: the server is out of memory"
	fewReplicas  = "valkey: the server has not enough replicas"
	cannotSave   = "valkey: the server cannot write to disk"
	noSlot       = "valkey: the cluster does not serve this slot"
	tooOld       = "valkey: the server is older than version 7.0"
	evicts       = "valkey: the server's maxmemory-policy is not noeviction; see Config.AcceptEviction"
	noFile       = "valkey: the server has no append-only file; see Config.AcceptNoAppendOnlyFile"
	oddReply     = "valkey: unexpected reply"
	serverBehind = "valkey: the server's clock is behind by more than the skew"
	serverAhead  = "valkey: the server's clock is ahead by more than the skew"
	tokenAhead   = "valkey: issued later than this clock shows, by more than the skew"
	tokenOver    = "valkey: by the server's clock, the token is over or not kept for long enough"
)

func isRevoked(g *valkey.Guard, t token.Summary) bool { return g.Revoked(t) != nil }

func noNews(token.Target, time.Time) {}

// waitReady waits until newly issued tokens are accepted.
func waitReady(t testing.TB, g *valkey.Guard) {
	t.Helper()
	require.Less(t, time.Until(g.ReadyAt()), 10*time.Second)
	for time.Now().Before(g.ReadyAt()) { // it may be slewed meanwhile
		time.Sleep(time.Until(g.ReadyAt()))
	}
}

// settle waits until guards know what has become of their servers, and accept
// newly issued tokens. Each that knew another process replaces the nonce, so it
// takes two rounds.
func settle(t testing.TB, guards ...*valkey.Guard) {
	t.Helper()
	for range 2 {
		for _, g := range guards {
			eventually(t, func() bool { return g.Sync(ctx, noNews) == nil })
		}
	}
	for _, g := range guards {
		waitReady(t, g)
	}
}

// eventually waits until what returns true.
func eventually(t testing.TB, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "it never happened")
		}
	}
}

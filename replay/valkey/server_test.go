package valkey_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/internal/testenv/redistest"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

var ctx = context.Background()

// hang is when a test that waits for something has waited too long. It is no
// measure of speed: the machine may be busy.
const hang = 60 * time.Second

func TestMain(m *testing.M) {
	testenv.ManyParallel()
	os.Exit(m.Run())
}

// server is a server with a client that goes past any guard.
type server struct {
	*redistest.Server
	t       testing.TB
	adminMu sync.Mutex
	client  client.Client
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{Server: redistest.Start(t, args...), t: t}
}

func startEngine(t testing.TB, engine string) *server {
	t.Helper()
	return &server{Server: redistest.StartEngine(t, engine), t: t}
}

// kill kills the server. The client goes with it: its next command would meet the
// connection that is broken now.
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

// config is that of a guard on addresses, which waits as long as it can: the
// machine may be busy.
func config(addresses ...string) valkey.Config {
	return valkey.Config{Client: valkey.ClientOption{InitAddress: addresses}, Timeout: 6 * time.Second}
}

// quick is config with a ClockSkew of a second, for tests that have to wait until
// the guard is ready.
func quick(addresses ...string) valkey.Config {
	c := config(addresses...)
	c.ClockSkew = time.Second
	return c
}

func newGuard(t testing.TB, c valkey.Config) *valkey.Guard {
	t.Helper()
	g, err := valkey.New(ctx, c)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g
}

// newGuardAtLast is newGuard with a Timeout that a busy machine may need longer for.
func newGuardAtLast(t testing.TB, c valkey.Config) (g *valkey.Guard) {
	t.Helper()
	eventually(t, func() bool {
		var err error
		g, err = valkey.New(ctx, c)
		return err == nil
	})
	t.Cleanup(g.Close)
	return g
}

// run is in the IDs of all tokens.
var run = rand.Uint64()

// ahead is by how much most tokens are issued in the future, and spent by a clock
// that is as much ahead: more than ClockSkew, and less than the margin allows. So
// they do not count as issued before the server was found to be new, and the
// tests need not wait until they would be. Those that are about that take
// honest tokens.
const ahead = 8 * time.Second

func clock() time.Time { return time.Now().Add(ahead) }

// numbered returns the token number n, which was issued just now.
func numbered(n uint64) claims.Summary { return tokenAt(n, clock(), time.Minute) }

// honest returns one that nobody's clock is ahead for, and no number has.
func honest() claims.Summary {
	return tokenAt(1<<63+uniques.Add(1), time.Now(), time.Minute)
}

var uniques atomic.Uint64

// unique returns a token that no number has.
func unique() claims.Summary { return numbered(1<<63 + uniques.Add(1)) }

func tokenAt(n uint64, issued time.Time, ttl time.Duration) claims.Summary {
	issued = issued.Truncate(time.Second)
	t := claims.Summary{
		IssuedAt:       issued,
		Expiration:     issued.Add(ttl),
		RoomIdentifier: []byte("room"),
		UserID:         []byte("user"),
	}
	binary.BigEndian.PutUint64(t.TokenID[:], run)
	binary.BigEndian.PutUint64(t.TokenID[8:], n)
	return t
}

// spend spends one of numbered or unique, and returns the outcome in a word.
func spend(g *valkey.Guard, t claims.Summary) string { return spendAt(g, clock(), t) }

// spendHonest spends one of honest.
func spendHonest(g *valkey.Guard, t claims.Summary) string { return spendAt(g, time.Now(), t) }

func spendAt(g *valkey.Guard, now time.Time, t claims.Summary) string {
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

// waitReady waits until tokens that are issued now are accepted.
func waitReady(t testing.TB, g *valkey.Guard) {
	t.Helper()
	require.Less(t, time.Until(g.ReadyAt()), 10*time.Second)
	for time.Now().Before(g.ReadyAt()) { // the clock may be slewed while it sleeps
		time.Sleep(time.Until(g.ReadyAt()))
	}
}

// eventually waits until what holds.
func eventually(t testing.TB, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "it never happened")
		}
	}
}

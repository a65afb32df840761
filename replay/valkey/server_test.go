package valkey_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

var ctx = context.Background()

// hang is when a test that waits for something has waited too long. It is no
// measure of speed: the machine may be busy.
const hang = 60 * time.Second

// eachEngine runs a test on Redis, and on Valkey where it is installed.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	found := false
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			found = true
			t.Run(name, func(t *testing.T) { test(t, path) })
		}
	}
	if !found {
		testenv.Skip(t, "neither redis-server nor valkey-server is installed")
	}
}

// anyEngine returns the path of one that is installed.
func anyEngine(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	testenv.Skip(t, "neither redis-server nor valkey-server is installed")
	return ""
}

// server is a process that the test has started, on loopback, in a directory of
// its own.
type server struct {
	t       testing.TB
	engine  string
	address string
	dir     string
	args    []string
	cmd     *exec.Cmd
	output  *bytes.Buffer
	exited  chan struct{}
	adminMu sync.Mutex
	client  client.Client
}

// startServer starts a server with an append-only file and further settings. The
// file is not flushed to disk, so that no other disk activity stops the server; what
// a process wrote before it was killed is there all the same.
func startServer(t testing.TB, engine string, args ...string) *server {
	t.Helper()
	s := &server{t: t, engine: engine, dir: t.TempDir(), args: args}
	for range 20 {
		s.address = freeAddress(t)
		if s.start() {
			t.Cleanup(s.kill)
			return s
		}
	}
	t.Fatalf("%s does not start:\n%s", engine, s.output)
	return nil
}

// freeAddress returns one that nothing listens at, below the ports that the
// system gives to clients; a Cluster's second port is 10,000 above.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(11_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// start reports whether the server listens.
func (s *server) start() bool {
	_, port, _ := net.SplitHostPort(s.address)
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction",
		"--repl-diskless-sync-delay", "0", "--loglevel", "warning",
	}, s.args...)
	s.output = new(bytes.Buffer)
	s.cmd = exec.Command(s.engine, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	require.NoError(s.t, s.cmd.Start())
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd)
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-exited:
			return false
		default:
		}
		if c, err := net.Dial("tcp", s.address); err == nil {
			_ = c.Close()
			return true
		}
	}
	s.kill()
	return false
}

func (s *server) signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *server) stop() { s.signal(syscall.SIGSTOP) }

func (s *server) resume() { s.signal(syscall.SIGCONT) }

// kill kills the server and waits for its end.
func (s *server) kill() {
	s.adminMu.Lock()
	if s.client != nil {
		c := s.client
		s.client = nil
		go c.Close()
	}
	s.adminMu.Unlock()
	s.signal(syscall.SIGKILL)
	<-s.exited
}

// restart starts the server again after kill, at the same address.
func (s *server) restart() {
	s.t.Helper()
	require.True(s.t, s.start(), "the server does not start again: %s", s.output)
}

// forget removes what the server has written.
func (s *server) forget() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	require.NoError(s.t, err)
	for _, f := range files {
		require.NoError(s.t, os.RemoveAll(f))
	}
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
		s.client = connect(s.t, s.address)
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
	time.Sleep(time.Until(g.ReadyAt()))
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

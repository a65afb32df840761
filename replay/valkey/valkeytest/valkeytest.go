// Package valkeytest starts Valkey and Redis servers for tests. [Start] starts
// one; with [Each] and [StartEngine] a test runs on every installed engine.
package valkeytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// patience is how long a server may take to start. It does not measure speed:
// the machine may be busy.
const patience = 60 * time.Second

// Engines returns the paths of the installed servers: redis-server and
// valkey-server, the latter from the environment variable
// CHATTOKEN_VALKEY_SERVER if that is set. If there are none, it skips the test,
// or fails it if CHATTOKEN_REQUIRE=1.
func Engines(t testing.TB) (paths []string) {
	t.Helper()
	names := []string{"redis-server", "valkey-server"}
	if named := os.Getenv("CHATTOKEN_VALKEY_SERVER"); named != "" {
		names[1] = named
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			paths = append(paths, path)
		}
	}
	switch {
	case paths != nil:
	case os.Getenv("CHATTOKEN_REQUIRE") == "1":
		t.Fatal("required, but neither redis-server nor valkey-server is installed")
	default:
		t.Skip("SKIPPED: neither redis-server nor valkey-server is installed")
	}
	return paths
}

// Each runs a test for every installed engine, with the path of its program.
func Each(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, path := range Engines(t) {
		t.Run(filepath.Base(path), func(t *testing.T) { test(t, path) })
	}
}

// Server is a process on loopback that the test has started, in a directory of
// its own. It is killed at the end of the test.
type Server struct {
	Address string   // host and port
	Dir     string   // what the server stores
	Args    []string // further settings; Restart applies changes

	t      testing.TB
	engine string
	cmd    *exec.Cmd
	output *bytes.Buffer // to be read when the process has ended
	exited chan struct{} // closed then
}

// Start starts a server of some engine on a free port and waits until it
// listens. It keeps an append-only file and evicts nothing, unless args, its
// command-line settings, say otherwise.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartEngine(t, Engines(t)[0], args...)
}

// StartEngine is [Start] for an engine from [Each].
func StartEngine(t testing.TB, engine string, args ...string) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), Args: args, t: t, engine: engine}
	for range 20 { // another may have taken the port
		s.Address = FreeAddress(t)
		if s.start() {
			t.Cleanup(s.Kill)
			return s
		}
	}
	t.Fatalf("%s does not start:\n%s", engine, s.output)
	return nil
}

// FreeAddress returns an address on loopback at which nothing listens. It
// returns none twice, because a killed server may come back to its own. The
// port is below those that the system gives to clients. So is the second one
// that a server of a Cluster takes, 10,000 above.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := "127.0.0.1:" + strconv.Itoa(11_000+rand.IntN(10_000))
		if _, again := taken.LoadOrStore(address, true); again {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

var taken sync.Map // those that FreeAddress returned, or found taken

// start starts the process, and reports whether it listens.
func (s *Server) start() bool {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.Address)
	s.output = new(bytes.Buffer)
	// The file is not flushed to disk, so that no other disk activity stops
	// the server. What a process wrote before it was killed is still there.
	s.cmd = exec.Command(s.engine, append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction",
		"--repl-diskless-sync-delay", "0", "--loglevel", "warning",
	}, s.Args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	return s.listens()
}

// listens waits until the process listens, and reports false if it ends before.
func (s *Server) listens() bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-s.exited:
			return false
		default:
		}
		if s.answers() {
			return true
		}
	}
	s.Kill()
	return false
}

// answers reports whether this process answers at its address, and not another
// one that was faster to take the port.
func (s *Server) answers() bool {
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "INFO server\r\nQUIT\r\n"); err != nil {
		return false
	}
	info, err := io.ReadAll(c)
	return err == nil && bytes.Contains(info, fmt.Appendf(nil, "\r\nprocess_id:%d\r\n", s.cmd.Process.Pid))
}

// Stop makes the server stand still until [Server.Resume]: its connections
// stay, and it answers nothing. Windows cannot do that, so there the test
// fails.
func (s *Server) Stop() { s.signal(sigstop) }

// Resume ends [Server.Stop].
func (s *Server) Resume() { s.signal(sigcont) }

// Kill kills the server, if it runs, and waits until it has ended.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
}

// Restart starts the server again after [Server.Kill], at the same address and
// with what it has stored.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.start() {
		s.t.Fatalf("the server does not start again: %s", s.output)
	}
}

// Forget removes what a server that does not run has stored.
func (s *Server) Forget() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "*"))
	for _, f := range files {
		if err == nil {
			err = os.RemoveAll(f)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

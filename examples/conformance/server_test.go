// Package conformance_test runs real, unmodified clients against the chat
// server: the AWS command line, boto3, the AWS SDKs for JavaScript and Go, the
// chat SDK in Node, and the page in a browser.
//
// The server is the real binary. Tests skip clients that aren't installed. On
// Debian 12, install them with
//
//	apt-get install awscli python3-boto3 chromium fonts-dejavu-core nodejs npm redis-server
//	npm ci --ignore-scripts --prefix examples/conformance
package conformance_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The server's demo registry.
const (
	room       = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"
	otherRoom  = "arn:aws:ivschat:us-west-2:123456789012:room/B2b2B2b2B2b2"
	secret     = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	keyAllowed = "AKIDEXAMPLE"
	keyDenied  = "AKIDDENIED"
	keyPending = "AKIDPENDING"
)

// patience is for a very busy machine. Only a failure waits so long.
const patience = 2 * time.Minute

// tick is how often a test that waits looks again.
const tick = 50 * time.Millisecond

var work string // a directory for all tests

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if work, err = os.MkdirTemp("", "conformance"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	// Most tests wait for a program or a clock. m.Run parses -parallel
	// later.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	if started {
		status = max(status, endShared())
	}
	return status
}

// endShared stops the shared server. It returns 1 if the log has secrets.
func endShared() int {
	s, err := shared()
	if err != nil {
		return 0 // the tests have reported it
	}
	s.kill()
	if leaks := s.leaks(); leaks != nil {
		fmt.Fprintf(os.Stderr, "the log of the server shows %q\n", leaks)
		return 1
	}
	return 0
}

// leaks returns the secrets in the server's log: a token, an attribute, a
// message, the secret of a credential.
func (s *server) leaks() (found []string) {
	log := s.log.String()
	for _, text := range []string{"ct1_", "displayName", "DemoUser", "Alice", "world", secret} {
		if strings.Contains(log, text) {
			found = append(found, text)
		}
	}
	return found
}

// binaries builds the server and the project's command, as the tests are built,
// and returns their directory.
var binaries = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(work, "bin")
	args := []string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" || s.Key == "-tags" {
				args = append(args, s.Key+"="+s.Value)
			}
		}
	}
	args = append(args, "github.com/seed17cb2b26/chattoken/ivschat/cmd/ivschat", "github.com/seed17cb2b26/chattoken/cmd/chattoken")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// started is set when shared has been called.
var started bool

// shared is the server of all tests that don't need their own.
var shared = sync.OnceValues(func() (*server, error) {
	started = true
	return launch()
})

func sharedServer(t testing.TB) *server {
	t.Helper()
	s, err := shared()
	require.NoError(t, err)
	return s
}

// server is the running binary.
type server struct {
	url  string // http://127.0.0.1:port
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  *output
	log  *output
}

// startServer starts a server. The test's end stops it, if nothing else did.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s, err := launch(args...)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.kill()
		assert.Empty(t, s.leaks(), "the log shows it")
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.url, s.log)
		}
	})
	return s
}

// launch starts a server on a free port, unless args name one.
func launch(args ...string) (*server, error) {
	dir, err := binaries()
	if err != nil {
		return nil, err
	}
	args = append([]string{"-listen", "127.0.0.1:0", "-v", "-drain-notice", "0", "-drain-over", "0"}, args...)
	s := &server{cmd: exec.Command(filepath.Join(dir, "ivschat"), args...), done: make(chan struct{}), out: new(output), log: new(output)}
	s.cmd.Stderr = s.log
	dieWithParent(s.cmd)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	err = s.readURL(stdout)
	if err != nil {
		s.cmd.Process.Kill()
		return nil, fmt.Errorf("%w\n%s", err, s.log)
	}
	return s, nil
}

// readURL reads the address from the first line of the server's output. A
// goroutine reads the rest, and notices the server's end.
func (s *server) readURL(stdout io.Reader) error {
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadString('\n')
	go func() {
		io.Copy(s.out, lines)
		s.cmd.Wait()
		close(s.done)
	}()
	if err != nil {
		return err
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(first), "ivschat: listening on ")
	if !ok {
		return fmt.Errorf("the first line of the server is %q", first)
	}
	s.url = url
	return nil
}

// terminate asks the server to end and waits until it has, with status 0.
func (s *server) terminate(t testing.TB) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
	case <-time.After(patience):
		require.Fail(t, "the server did not end", s.log.String())
	}
	assert.Equal(t, 0, s.cmd.ProcessState.ExitCode(), s.log.String())
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// address returns host and port.
func (s *server) address() string { return strings.TrimPrefix(s.url, "http://") }

// waitReady waits until the server accepts fresh tokens.
func (s *server) waitReady(t testing.TB) {
	t.Helper()
	require.Eventually(t, s.isReady, patience, tick, "the server does not become ready")
}

// output collects what a process writes while others read it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

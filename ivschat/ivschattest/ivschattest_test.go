package ivschattest_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat/ivschattest"
)

// hang is how long a test waits before it fails. It is no measure of speed.
const hang = time.Minute

// Where the packages of Node are, if they are installed.
const modules = "../../examples/conformance"

// The programs are Debian's own, as the versions of others differ.
const (
	awsCommand = "/usr/bin/aws"
	python3    = "/usr/bin/python3"
)

// skip skips the test because something is not installed. With
// CHATTOKEN_REQUIRE=1, as in CI, it fails instead.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// run runs a client of the directory clients in the server's environment, and
// returns its output.
func run(t *testing.T, chat *ivschattest.Server, dir string, stdin []byte, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, append(args, chat.Room)...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, chat.Environ()...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, complaints.String())
	return strings.TrimSpace(string(out))
}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		skip(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join(modules, "node_modules", "ws")); err != nil {
		skip(t, "the packages of Node are missing: run npm ci in examples/conformance")
	}
	source, err := os.ReadFile("clients/chat.mjs")
	require.NoError(t, err)
	chat := ivschattest.NewServer(t)
	// A program on standard input finds the packages of its directory.
	assert.Equal(t, "ann hello", run(t, chat, modules, source, "node", "--input-type=module", "-"))
}

func TestBoto3(t *testing.T) {
	t.Parallel()
	if err := exec.Command(python3, "-I", "-c", "import boto3").Run(); err != nil {
		skip(t, python3+" does not have boto3: install python3-boto3")
	}
	chat := ivschattest.NewServer(t)
	text := run(t, chat, "clients", nil, python3, "-I", "-B", "chat.py")
	assert.Equal(t, http.StatusUnauthorized, present(t, chat, text), "of a user who was sent away")
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(awsCommand); err != nil {
		skip(t, awsCommand+" is missing: install awscli")
	}
	chat := ivschattest.NewServer(t)
	text := run(t, chat, "clients", nil, "/bin/sh", "chat.sh")
	assert.Equal(t, http.StatusUnauthorized, present(t, chat, text), "of a user who was sent away")
}

// present presents a token, and returns the status of the reply.
func present(t *testing.T, chat *ivschattest.Server, text string) int {
	t.Helper()
	conn, status := dial(t, chat, text)
	if conn != nil {
		conn.CloseNow()
	}
	return status
}

func dial(t *testing.T, chat *ivschattest.Server, text string) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, chat.MessagingURL, &websocket.DialOptions{Subprotocols: []string{text}})
	require.NotNil(t, resp, err)
	return conn, resp.StatusCode
}

// The server accepts Env's tokens, and has its clock.
func TestEnv(t *testing.T) {
	chat := ivschattest.NewServer(t)
	minted := chat.Mint(func(c *claims.Claims) { c.UserID = "ann" })
	conn, status := dial(t, chat, minted.Token)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	for name, text := range map[string]string{
		"again": minted.Token, "spent": chat.Spent(), "expired": chat.Expired(), "forged": chat.Forged(),
	} {
		assert.Equal(t, http.StatusUnauthorized, present(t, chat, text), name)
	}
	chat.Advance(time.Hour)
	requireEnd(t, conn)
	assert.Equal(t, http.StatusSwitchingProtocols, present(t, chat, chat.Mint().Token))
}

// Servers don't outlive their test, and neither do their connections.
func TestEnd(t *testing.T) {
	var chat *ivschattest.Server
	var conn *websocket.Conn
	t.Run("test", func(t *testing.T) {
		chat = ivschattest.NewServer(t)
		conn, _ = dial(t, chat, chat.Mint().Token)
		require.NotNil(t, conn)
	})
	requireEnd(t, conn)
	_, err := http.Get(chat.URL)
	assert.Error(t, err)
}

// requireEnd reads until the connection ends.
func requireEnd(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			require.NoError(t, ctx.Err(), "it goes on")
			return
		}
	}
}

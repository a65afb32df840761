package conformance_test

import (
	"net"
	"net/http"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
)

// TestValkeyDown takes away the server on which two gateways spend their tokens.
// Nobody new is let in, those who are in go on talking, and when it is back so
// is everything.
func TestValkeyDown(t *testing.T) {
	t.Parallel()
	v := startValkey(t)
	flags := append(newSharedKeys(t).flags(), "-valkey", v.address)
	a, b := startServer(t, flags...), startServer(t, flags...)
	a.waitReady(t)
	b.waitReady(t)

	spent := mint(t, a, "alice")
	live := connect(t, a, spent)
	_, status := dial(t, b, spent)
	assert.Equal(t, http.StatusUnauthorized, status, "it is spent for the other gateway, too")

	v.kill()
	for range 3 {
		_, status = dial(t, a, mint(t, a, "bob"))
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Equal(t, "still here", say(t, live, "still here").Content)
	}

	v.start(t)
	require.Eventually(t, func() bool {
		conn, _ := dial(t, b, mint(t, b, "bob"))
		return conn != nil
	}, patience, tick, "nobody is let in any more")
	for _, s := range []*server{a, b} {
		conn, _ := dial(t, s, spent)
		assert.Nil(t, conn, "a spent token has become good again")
	}
	assert.Equal(t, "and now", say(t, live, "and now").Content)
}

// valkey is a process that the test has started, on loopback, in a directory of
// its own.
type valkey struct {
	engine, dir, address string
	cmd                  *exec.Cmd
}

func startValkey(t testing.TB) *valkey {
	t.Helper()
	engine, err := exec.LookPath("valkey-server")
	if err != nil {
		engine, err = exec.LookPath("redis-server")
	}
	if err != nil {
		testenv.Skip(t, "neither valkey-server nor redis-server is installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	require.NoError(t, err)
	require.NoError(t, l.Close())
	v := &valkey{engine: engine, dir: t.TempDir(), address: l.Addr().String()}
	v.start(t)
	t.Cleanup(v.kill)
	return v
}

// start starts the process, with what an earlier one has stored, and waits until
// it listens.
func (v *valkey) start(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(v.address)
	require.NoError(t, err)
	v.cmd = exec.Command(v.engine, "--bind", host, "--port", port, "--dir", v.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always")
	dieWithParent(v.cmd)
	require.NoError(t, v.cmd.Start())
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", v.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, patience, tick, "%s does not listen", v.engine)
}

func (v *valkey) kill() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
}

package conformance_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"

	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
)

// TestTermination stops the server while its clients talk. Each sees a clean
// close.
func TestTermination(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const talkers = 10
	var talking, done sync.WaitGroup
	status := make([]websocket.StatusCode, talkers)
	for i := range talkers {
		conn := connect(t, s, mint(t, s, "talker"))
		talking.Add(1)
		done.Go(func() { status[i] = talk(t.Context(), conn, talking.Done) })
	}
	talking.Wait()
	s.terminate(t)
	assert.Equal(t, talkers, strings.Count(s.log.String(), `msg="session opened"`), "it logs, and what it logs is looked at")
	done.Wait()
	for _, got := range status {
		assert.Equal(t, websocket.StatusServiceRestart, got)
	}
}

// talk sends and reads messages until the connection ends. It returns the
// status of the close frame. It calls begun at the first message it reads.
func talk(ctx context.Context, conn *websocket.Conn, begun func()) websocket.StatusCode {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() {
		message := []byte(`{"Action":"SEND_MESSAGE","Content":"on and on"}`)
		for conn.Write(ctx, websocket.MessageText, message) == nil {
			time.Sleep(150 * time.Millisecond) // a client may send ten a second
		}
	}()
	begun = sync.OnceFunc(begun)
	for {
		_, _, err := conn.Read(ctx)
		begun() // also at an error, or the test would wait for it
		if err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// TestRestart checks that spent tokens stay spent after a restart. Unspent ones
// are refused, too, because the new guard can't tell them apart.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		args   []string
		signal syscall.Signal
		status int // of tokens from before
	}{
		{"keysInMemory", nil, syscall.SIGTERM, http.StatusUnauthorized}, // their key is gone
		{"keysInFile", newSharedKeys(t).flags(), syscall.SIGTERM, http.StatusServiceUnavailable},
		{"keysInFileKilled", newSharedKeys(t).flags(), syscall.SIGKILL, http.StatusServiceUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first := startServer(t, append(test.args, "-listen", valkeytest.FreeAddress(t))...)
			first.waitReady(t)
			spent, unspent := mint(t, first, "spent"), mint(t, first, "unspent")
			connect(t, first, spent).CloseNow()
			first.cmd.Process.Signal(test.signal)
			<-first.done

			second := startServer(t, append(test.args, "-listen", first.address())...)
			for range 2 {
				for _, token := range []string{spent, unspent} {
					_, status := dial(t, second, token)
					assert.Equal(t, test.status, status)
				}
				second.waitReady(t) // and then again
			}
			connect(t, second, mint(t, second, "fresh"))
		})
	}
}

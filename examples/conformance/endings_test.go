package conformance_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
)

// scene is a client of the chat SDK on a line of its own.
type scene struct {
	*clients
	server *server
	name   string
	line   *line
}

// endings are the rows of the table in ivschat's documentation that end one
// connection: how to provoke it, and whether the SDK connects again.
var endings = []struct {
	name string
	word string // the server's counter of the ending, if it has one
	back bool
	end  func(*testing.T, scene)
}{
	{"session expired", "expired", true, func(*testing.T, scene) {}}, // the shortest, after a minute
	{"user disconnected", "disconnected", false, func(t *testing.T, s scene) {
		conn := connect(t, s.server, mint(t, s.server, "moderator"))
		say := fmt.Sprintf(`{"Action":"DISCONNECT_USER","UserId":%q}`, s.name)
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(say)))
	}},
	{"user disconnected by the backend", "disconnected", false, func(t *testing.T, s scene) {
		s.do(t, s.name, "backendDisconnects", map[string]any{"input": map[string]any{"roomIdentifier": room, "userId": s.name}})
	}},
	{"room deleted", "disconnected", false, func(t *testing.T, s scene) {
		s.do(t, s.name, "backendDeletesRoom", map[string]any{"input": map[string]any{"identifier": room}})
	}},
	{"not text", "not-text", false, func(t *testing.T, s scene) {
		s.do(t, s.name, "raw", map[string]any{"length": 1, "binary": true})
	}},
	{"message of over 64 KiB", "too-large", false, func(t *testing.T, s scene) {
		s.do(t, s.name, "raw", map[string]any{"length": 64<<10 + 1})
	}},
	{"broken frames", "", false, func(_ *testing.T, s scene) {
		s.line.inject([]byte{0x83, 0x80, 0, 0, 0, 0}) // there is no opcode 3
	}},
	{"floods the server", "flooding", false, func(t *testing.T, s scene) {
		s.do(t, s.name, "raw", map[string]any{"length": 60 << 10, "times": 40})
	}},
	{"does not keep up", "slow", true, func(t *testing.T, s scene) {
		s.line.frozen.Lock()
		defer s.line.frozen.Unlock()
		talk := connect(t, s.server, mint(t, s.server, "talker"))
		message := []byte(`{"Action":"SEND_MESSAGE","Content":"` + strings.Repeat("\U0001F600", 500) + `"}`)
		s.during(t, "slow", 110*time.Millisecond, func() { talk.Write(t.Context(), websocket.MessageText, message) })
	}},
	{"stalls within a message", "stalled", true, func(_ *testing.T, s scene) {
		s.line.inject([]byte{0x81, 0xfe, 0x10, 0, 0, 0, 0, 0}) // of 4096 bytes, none of which comes
	}},
	{"answers no ping", "gone", true, func(t *testing.T, s scene) {
		s.line.frozen.Lock()
		defer s.line.frozen.Unlock()
		s.during(t, "gone", tick, func() {})
	}},
	{"breaks off", "", true, func(_ *testing.T, s scene) { s.line.cut() }},
}

// during repeats something until the server counts an ending.
func (s scene) during(t *testing.T, word string, every time.Duration, do func()) {
	require.Eventually(t, func() bool {
		do()
		return s.server.numbers(t).Ended[word] > 0
	}, patience, every, word)
}

// TestEndings has the server end connections of the chat SDK in every way. The
// SDK comes back, or stays away, as the table says.
func TestEndings(t *testing.T) {
	t.Parallel()
	skipShort(t)
	needNode(t)
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			s := scene{server: startServer(t), name: "alice"}
			s.clients = startClients(t, s.server)
			b := newBalancer(t, s.server)
			s.do(t, s.name, "connect", map[string]any{"url": b.url, "request": request("userId", s.name, "sessionDurationInMinutes", 1)})
			s.expect(t, s.name, "connecting", "tokenWanted", "token", "connect")
			s.line = b.all()[0]
			e.end(t, s)
			if e.back {
				s.fate(t, "connecting")
				s.expect(t, s.name, "tokenWanted", "token", "connect")
			} else {
				assert.Equal(t, "serverDisconnect", s.fate(t, "disconnect").Reason)
			}
			if e.word != "" {
				assert.Equal(t, 1, s.server.numbers(t).Ended[e.word], "%v", s.server.numbers(t).Ended)
			}
		})
	}
}

// fate is what happens to the client, without the room's messages.
func (s scene) fate(t *testing.T, want string) happening {
	t.Helper()
	for {
		h := s.next(t, s.name)
		switch h.Event {
		case "message", "event", "userDisconnect":
		default:
			require.Equal(t, want, h.Event, "%+v", h)
			return h
		}
	}
}

// fleet is two hosts with one guard, behind a balancer.
type fleet struct {
	*clients
	b     *balancer
	flags []string
	keys  sharedKeys
}

// members are the clients of a fleet, all in one room.
var members = []string{"one", "two", "three", "four", "five"}

func newFleet(t *testing.T) *fleet {
	f := &fleet{keys: newSharedKeys(t, "--period", "20s", "--lead", "15s"), b: newBalancer(t)}
	f.flags = append(f.keys.flags(), "-guard", "valkey://"+valkeytest.Start(t).Address, "-drain-notice", "1s", "-drain-over", "1s")
	return f
}

// host starts one more host.
func (f *fleet) host(t *testing.T) *server {
	s := startServer(t, f.flags...)
	s.waitReady(t)
	return s
}

// moved checks that all are on one host, and can talk.
func (f *fleet) moved(t *testing.T, to *server) {
	t.Helper()
	for _, m := range members {
		h := f.next(t, m)
		for h.Event != "connect" {
			require.Contains(t, []string{"connecting", "tokenWanted", "token", "message", "resolved"}, h.Event, "%s: %+v", m, h)
			h = f.next(t, m)
		}
	}
	assert.Equal(t, len(members), to.numbers(t).Gateway.Live)
	f.do(t, members[0], "send", map[string]any{"content": "here"})
	f.expect(t, members[0], "message", "resolved")
	for _, m := range members[1:] {
		f.expect(t, m, "message")
	}
}

// TestHostsComeAndGo stops and restarts two hosts in turn, as a deployment
// does, and kills one, while the keys rotate. Each time all clients go to the
// other host.
func TestHostsComeAndGo(t *testing.T) {
	t.Parallel()
	skipShort(t)
	needNode(t)
	f := newFleet(t)
	rotated := f.rotate(t)
	a := f.host(t)
	f.b.use(a)
	f.clients = startClients(t, &server{url: f.b.url})
	for _, m := range members {
		f.do(t, m, "connect", map[string]any{"request": request("userId", m, "capabilities", []string{"SEND_MESSAGE"})})
	}
	f.moved(t, a)
	serial := a.numbers(t).Ring.Serial

	b := f.host(t)
	f.b.use(a, b)
	a.terminate(t)
	f.moved(t, b)

	a = f.host(t)
	f.b.use(b, a)
	b.terminate(t)
	f.moved(t, a)
	require.Eventually(t, func() bool { return a.numbers(t).Ring.Serial > serial }, patience, tick)

	b = f.host(t)
	f.b.use(a, b)
	require.NoError(t, a.cmd.Process.Signal(syscall.SIGKILL))
	f.moved(t, b)
	for _, m := range members {
		assert.Empty(t, f.queued[m], m)
	}
	assert.NotZero(t, rotated())
}

// rotate rotates the keys of a fleet every second, until the test ends or
// somebody calls the function that it returns. That returns how often it
// rotated.
func (f *fleet) rotate(t *testing.T) (stop func() int) {
	done, times := make(chan struct{}), 0
	var rotating sync.WaitGroup
	rotating.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
				chattoken(t, "keyring", "rotate", "--keyring", f.keys.ring, "--kek-file", f.keys.kek)
				times++
			}
		}
	})
	stop = sync.OnceValue(func() int {
		close(done)
		rotating.Wait()
		return times
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestDisconnectedElsewhere has a moderator on one host disconnect a user on
// another. The SDK stays away.
func TestDisconnectedElsewhere(t *testing.T) {
	t.Parallel()
	needNode(t)
	f := newFleet(t)
	a, b := f.host(t), f.host(t)
	f.clients = startClients(t, a)
	f.join(t, "alice", request())
	conn := connect(t, b, mint(t, b, "moderator"))
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(`{"Action":"DISCONNECT_USER","UserId":"alice"}`)))
	assert.Equal(t, "serverDisconnect", f.expect(t, "alice", "disconnect").Reason)
	assert.Equal(t, map[string]int{"disconnected": 1}, a.numbers(t).Ended)
}

// TestValkeyDownOfMessagingSDK takes the guard's server away. Clients that are
// in go on. Newcomers are refused, and get in when it is back.
func TestValkeyDownOfMessagingSDK(t *testing.T) {
	t.Parallel()
	needNode(t)
	v := valkeytest.Start(t)
	s := startServer(t, append(newSharedKeys(t).flags(), "-guard", "valkey://"+v.Address)...)
	s.waitReady(t)
	c := startClients(t, s)
	c.join(t, "alice", request("capabilities", []string{"SEND_MESSAGE"}))
	v.Kill()
	bob := map[string]any{"request": request("userId", "bob")}
	c.do(t, "bob", "connect", bob)
	c.expect(t, "bob", "connecting", "tokenWanted", "token", "tokenWanted", "token", "tokenWanted", "token", "tokenWanted", "token")
	assert.Equal(t, "socketError", c.expect(t, "bob", "disconnect").Reason)
	assert.Equal(t, map[string]int{"unavailable": 4}, s.numbers(t).Refused)
	c.do(t, "alice", "send", map[string]any{"content": "still here"})
	c.expect(t, "alice", "message", "resolved")
	v.Restart()
	require.Eventually(t, func() bool {
		conn, _ := dial(t, s, mint(t, s, "carol"))
		return conn != nil
	}, patience, tick)
	c.do(t, "bob", "connect", bob)
	c.expect(t, "bob", "connecting", "tokenWanted", "token", "connect")
}

package peers_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// A hub keeps connections. Here they have no socket.
type hub interface {
	// prepare makes what a client presents. It isn't measured.
	prepare(user string) (ticket any)

	// enter registers a user's connection. When that ends, it adds to
	// ended.
	enter(ticket any, ended *atomic.Int64) error

	// end ends a user's connections, if there are any.
	end(user string) error
}

var hubs = []struct {
	name string
	make func(t testing.TB) hub
}{
	{"chattoken", newGatewayHub},
	{"centrifuge", newCentrifugeHub},
}

const connections = 10_000

// Gateway has many users, with one connection each.
//
//	enter  a connection is registered, with its deadline; chattoken opens and
//	       spends a token, too. B/connection is memory of the heap and of stacks
//	find   an order to end a user who is not there
//	end    an order to end one who is, until the connection is told
func BenchmarkGateway(b *testing.B) {
	for _, bm := range hubs {
		b.Run("lib="+bm.name, func(b *testing.B) {
			entering, bytes, finding, ending := measureHub(b, bm.make(b))
			report := func(op string, all time.Duration, more func(*testing.B)) {
				b.Run("op="+op, func(b *testing.B) {
					b.ReportMetric(float64(all)/connections, "ns/op")
					more(b)
				})
			}
			report("enter", entering, func(b *testing.B) { b.ReportMetric(bytes/connections, "B/connection") })
			report("find", finding, func(*testing.B) {})
			report("end", ending, func(*testing.B) {})
		})
	}
}

// measureHub enters all users, looks for as many others, and ends all.
func measureHub(t testing.TB, h hub) (entering time.Duration, bytes float64, finding, ending time.Duration) {
	users, tickets := make([]string, connections), make([]any, connections)
	for i := range users {
		users[i] = fmt.Sprint("user ", i)
		tickets[i] = h.prepare(users[i])
	}
	var ended atomic.Int64
	before := memory()
	entering = timed(func() {
		for _, ticket := range tickets {
			require.NoError(t, h.enter(ticket, &ended))
		}
	})
	bytes = memory() - before
	runtime.KeepAlive(tickets)
	finding = timed(func() {
		for _, user := range users {
			require.NoError(t, h.end("not "+user))
		}
	})
	require.Zero(t, ended.Load())
	ending = timed(func() {
		for _, user := range users {
			require.NoError(t, h.end(user))
		}
		for ended.Load() < connections {
			runtime.Gosched()
		}
	})
	return entering, bytes, finding, ending
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// memory is the bytes in use on the heap and by stacks.
func memory() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// Both hubs do what the benchmark compares.
func TestGateways(t *testing.T) {
	for _, tt := range hubs {
		t.Run(tt.name, func(t *testing.T) { measureHub(t, tt.make(t)) })
	}
}

// gatewayHub is this library's gateway.
type gatewayHub struct {
	*gateway.Gateway
	t      testing.TB
	sealer token.Sealer
}

// alone is a guard whose revocations do nothing, because centrifuge's hub keeps
// no record of ends either.
type alone struct{ *replay.Guard }

func (alone) Revoke(context.Context, token.Target, time.Time) error { return nil }

func newGatewayHub(t testing.TB) hub {
	ring, err := keyring.New(time.Now(), keyring.Config{Policy: keyring.Policy{MaxTTL: lifetime}})
	require.NoError(t, err)
	keys, err := keyring.NewInMemory(ring)
	require.NoError(t, err)
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
	require.NoError(t, err)
	g, err := gateway.New(gateway.Config{Keys: keys, Guard: alone{guard}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	for g.Ready(time.Now()) != nil {
		time.Sleep(time.Millisecond)
	}
	return &gatewayHub{g, t, token.Sealer{Ring: ring, TTL: lifetime}}
}

func (h *gatewayHub) prepare(user string) any {
	minted, err := h.sealer.Create(claims.Claims{RoomIdentifier: room, UserID: user, SessionMinutes: 60})
	require.NoError(h.t, err)
	return minted.Token
}

func (h *gatewayHub) enter(ticket any, ended *atomic.Int64) error {
	p, err := h.Enter(sink{}, &http.Request{Method: http.MethodGet, Host: "chat.example.com", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
		"Connection":             {"Upgrade"},
		"Upgrade":                {"websocket"},
		"Sec-Websocket-Version":  {"13"},
		"Sec-Websocket-Key":      {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Sec-Websocket-Protocol": {ticket.(string)},
	}})
	if err == nil {
		p.OnEnd(func(error) { ended.Add(1) })
	}
	return err
}

func (h *gatewayHub) end(user string) error {
	return h.Revoke(context.Background(), token.Target{User: user}, "")
}

// sink is a ResponseWriter and an http.Hijacker.
type sink struct{}

func (sink) Header() http.Header         { return make(http.Header) }
func (sink) Write(p []byte) (int, error) { return len(p), nil }
func (sink) WriteHeader(int)             {}
func (sink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// centrifugeHub is centrifuge's node. It checks no credentials.
type centrifugeHub struct{ node *centrifuge.Node }

func newCentrifugeHub(t testing.TB) hub {
	node, err := centrifuge.New(centrifuge.Config{})
	require.NoError(t, err)
	node.OnConnect(func(c *centrifuge.Client) { c.OnRefresh(func(centrifuge.RefreshEvent, centrifuge.RefreshCallback) {}) })
	require.NoError(t, node.Run())
	t.Cleanup(func() { require.NoError(t, node.Shutdown(context.Background())) })
	return centrifugeHub{node}
}

func (centrifugeHub) prepare(user string) any {
	return &centrifuge.Credentials{UserID: user, ExpireAt: time.Now().Add(time.Hour).Unix()}
}

func (h centrifugeHub) enter(ticket any, ended *atomic.Int64) error {
	ctx := centrifuge.SetCredentials(context.Background(), ticket.(*centrifuge.Credentials))
	client, _, err := centrifuge.NewClient(ctx, h.node, transport{ended})
	if err != nil {
		return err
	}
	return client.ConnectNoErrorToDisconnect(centrifuge.ConnectRequest{})
}

func (h centrifugeHub) end(user string) error { return h.node.Disconnect(user) }

// transport is a connection that goes nowhere. Pings are off, because the
// gateway has none.
type transport struct{ ended *atomic.Int64 }

func (transport) Name() string                                { return "none" }
func (transport) AcceptProtocol() string                      { return "" }
func (transport) Protocol() centrifuge.ProtocolType           { return centrifuge.ProtocolTypeJSON }
func (transport) ProtocolVersion() centrifuge.ProtocolVersion { return centrifuge.ProtocolVersion2 }
func (transport) Unidirectional() bool                        { return true }
func (transport) Emulation() bool                             { return false }
func (transport) DisabledPushFlags() uint64                   { return centrifuge.PushFlagDisconnect }
func (transport) PingPongConfig() centrifuge.PingPongConfig {
	return centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
}
func (transport) Write([]byte) error        { return nil }
func (transport) WriteMany(...[]byte) error { return nil }
func (t transport) Close(centrifuge.Disconnect) error {
	t.ended.Add(1)
	return nil
}

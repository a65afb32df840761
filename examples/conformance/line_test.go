package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// balancer leads each connection to its first host that accepts it. It doesn't
// ask whether they are healthy.
type balancer struct {
	url string

	mu    sync.Mutex
	hosts []*server
	lines []*line
}

// line is a connection through a balancer.
type line struct {
	client, host net.Conn
	frozen       sync.RWMutex // held while the line is frozen
	writing      sync.Mutex   // to the host
}

func newBalancer(t testing.TB, hosts ...*server) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &balancer{url: "http://" + l.Addr().String(), hosts: hosts}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, line := range b.all() {
			line.cut()
		}
		serving.Wait()
	})
	return b
}

func (b *balancer) use(hosts ...*server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts = hosts
}

func (b *balancer) all() []*line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*line(nil), b.lines...)
}

// dial connects to a host.
func (b *balancer) dial() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Small buffers, so that the server soon notices a client that doesn't
	// read.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = useSmallBuffers(fd) })
		return err
	}}
	err := errors.New("no host")
	for _, host := range b.hosts {
		var conn net.Conn
		if conn, err = dialer.Dial("tcp", host.address()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	conn, err := b.dial()
	if err != nil {
		return
	}
	defer conn.Close()
	l := &line{client: client, host: conn}
	b.mu.Lock()
	b.lines = append(b.lines, l)
	b.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.pump(client, conn, new(sync.Mutex)) })
	l.pump(conn, client, &l.writing)
	both.Wait()
}

// pump carries bytes until one side ends, and then ends the other.
func (l *line) pump(to, from net.Conn, writing *sync.Mutex) {
	defer l.cut()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		l.frozen.RLock() // nothing passes while it is frozen, not even the end
		writing.Lock()
		_, werr := to.Write(buf[:n])
		writing.Unlock()
		l.frozen.RUnlock()
		if err != nil || werr != nil {
			return
		}
	}
}

// inject sends the host bytes that the client didn't send.
func (l *line) inject(data []byte) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.host.Write(data)
}

func (l *line) cut() {
	l.client.Close()
	l.host.Close()
}

func (s *server) isReady() bool {
	resp, err := visitor.Get(s.url + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// numbers are what the tests need of /debug/vars.
type numbers struct {
	Ended   map[string]int
	Refused map[string]int
	Rooms   map[string]int
	Gateway struct{ Live int }
	Ring    struct{ Serial int }
}

func (s *server) numbers(t testing.TB) numbers {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/debug/vars", nil)
	require.NoError(t, err)
	resp, err := visitor.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var v struct{ Chattoken numbers }
	require.NoError(t, json.Unmarshal(data, &v))
	return v.Chattoken
}

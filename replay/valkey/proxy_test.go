package valkey_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

// proxy is a TCP proxy in front of a server, with faults that can be switched
// on and off.
type proxy struct {
	t       testing.TB
	address string
	target  atomic.Pointer[string]

	split atomic.Bool  // replies travel byte by byte
	delay atomic.Int64 // of each piece of a reply, in nanoseconds
	cut   atomic.Int64 // hang up after so many bytes; negative: never
	mute  atomic.Bool  // connections that reply now go silent

	awaited atomic.Pointer[token.ID] // becomes nil once passed on

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{t: t}
	p.target.Store(&target)
	p.cut.Store(-1)
	t.Cleanup(p.hangUp)
	p.address = listen(t, p.serve)
	return p
}

// listen serves connections until the test ends, and returns its address.
func listen(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func (p *proxy) serve(c net.Conn) {
	s, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, c, s)
	p.mu.Unlock()
	hangUp := func() {
		_ = c.Close()
		_ = s.Close()
	}
	go func() {
		defer hangUp()
		p.copy(c, func(b []byte) (int, error) { return p.request(s, b) })
	}()
	defer hangUp()
	muted := false
	p.copy(s, func(b []byte) (int, error) {
		if muted = muted || p.mute.Load(); muted {
			return len(b), nil
		}
		return p.reply(c, b)
	})
}

func (p *proxy) copy(from net.Conn, write func([]byte) (int, error)) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// request passes a piece of a request on.
func (p *proxy) request(s net.Conn, b []byte) (int, error) {
	n, err := s.Write(b)
	if id := p.awaited.Load(); err == nil && id != nil && bytes.Contains(b, id[:]) {
		p.awaited.Store(nil)
	}
	return n, err
}

// reply passes a piece of a reply on, with its faults.
func (p *proxy) reply(c net.Conn, b []byte) (int, error) {
	time.Sleep(time.Duration(p.delay.Load()))
	for left := p.cut.Load(); left >= 0; left = p.cut.Load() {
		if !p.cut.CompareAndSwap(left, max(left-int64(len(b)), -1)) {
			continue
		}
		if left >= int64(len(b)) {
			break
		}
		_, _ = c.Write(b[:left])
		_ = c.Close()
		return 0, net.ErrClosed
	}
	if !p.split.Load() {
		return c.Write(b)
	}
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// hangUp ends all connections.
func (p *proxy) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

//go:build unix

package etcd_test

import (
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// traffic spends tokens on several guards while things go wrong, and checks the
// outcomes. Of all calls with one token at most one is fresh. The first call
// with a token that nobody else was shown never learns that it is spent.
type traffic struct {
	t      testing.TB
	guards []*etcd.Guard
	stop   chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	shown []token.Summary
	fresh map[token.ID]int
	words map[string]int
}

func startTraffic(t testing.TB, guards ...*etcd.Guard) *traffic {
	tr := &traffic{
		t: t, guards: guards, stop: make(chan struct{}),
		fresh: map[token.ID]int{}, words: map[string]int{},
	}
	for range 12 {
		tr.wg.Go(tr.work)
	}
	return tr
}

func (tr *traffic) work() {
	for {
		select {
		case <-tr.stop:
			return
		default:
		}
		switch rand.IntN(3) {
		case 0: // to one guard, then to all
			s := tr.token()
			if got := tr.show(tr.guards[rand.IntN(len(tr.guards))], s); got == "spent" {
				tr.t.Error("a token that nobody was shown is spent")
			}
			tr.known(s)
			tr.showAll(s)
		case 1: // in a race
			s := tr.token()
			tr.known(s)
			tr.showAll(s)
		case 2: // again
			tr.mu.Lock()
			var s token.Summary
			if n := len(tr.shown); n > 0 {
				s = tr.shown[n-1-rand.IntN(min(n, 2000))]
			}
			tr.mu.Unlock()
			if time.Now().Before(s.Expiration) {
				tr.show(tr.guards[rand.IntN(len(tr.guards))], s)
			}
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
}

// token returns a token of an issuer that is up to four seconds ahead.
func (tr *traffic) token() token.Summary {
	return issued(time.Now().Add(time.Duration(rand.IntN(5))*time.Second), time.Minute)
}

// known makes others show s again.
func (tr *traffic) known(s token.Summary) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.shown = append(tr.shown, s)
}

func (tr *traffic) showAll(s token.Summary) {
	var wg sync.WaitGroup
	for _, g := range tr.guards {
		wg.Go(func() { tr.show(g, s) })
	}
	wg.Wait()
}

func (tr *traffic) show(g *etcd.Guard, s token.Summary) string {
	begin := time.Now()
	got := spend(g, s)
	if took := time.Since(begin); took > hang {
		tr.t.Error("a call took", took)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.words[got]++
	if got == "fresh" {
		if tr.fresh[s.TokenID]++; tr.fresh[s.TokenID] > 1 {
			tr.t.Error("a second winner")
		}
	}
	return got
}

// progress waits until so many more tokens were accepted.
func (tr *traffic) progress(n int) {
	tr.t.Helper()
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.fresh)
	}
	goal := count() + n
	eventually(tr.t, func() bool { return count() >= goal })
}

// end ends the traffic, and shows each token to each guard once more.
func (tr *traffic) end() {
	tr.t.Helper()
	close(tr.stop)
	tr.wg.Wait()
	for _, s := range tr.shown[max(0, len(tr.shown)-300):] {
		tr.showAll(s)
	}
	tr.t.Logf("%d tokens, %d accepted; %v", len(tr.shown), len(tr.fresh), tr.words)
	assert.NotEmpty(tr.t, tr.fresh)
}

// eventually waits until what returns true.
func eventually(t testing.TB, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !what(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "it never happened")
	}
}

// proxy is a TCP proxy in front of a member. The first bytes of a connection
// tell which member opened it, if one did.
type proxy struct {
	target  string
	address string
	mute    atomic.Bool // replies of the target are lost
	cut     atomic.Pointer[func(first string) bool]

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	return serveProxy(t, "127.0.0.1:0", target)
}

func serveProxy(t testing.TB, address, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	p := &proxy{target: target, address: l.Addr().String()}
	t.Cleanup(func() {
		_ = l.Close()
		p.hangUp()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	p.conns = append(p.conns, c, s)
	p.mu.Unlock()
	var first atomic.Pointer[string]
	none := ""
	first.Store(&none)
	isCut := func() bool {
		cut := p.cut.Load()
		return cut != nil && (*cut)(*first.Load())
	}
	go func() {
		defer s.Close()
		defer c.Close()
		pipe(c, func(b []byte) error {
			if *first.Load() == "" {
				text := string(b)
				first.Store(&text)
			}
			if isCut() {
				return net.ErrClosed
			}
			_, err := s.Write(b)
			return err
		})
	}()
	pipe(s, func(b []byte) error {
		switch {
		case p.mute.Load():
			return nil
		case isCut():
			return net.ErrClosed
		}
		_, err := c.Write(b)
		return err
	})
}

func pipe(from io.Reader, write func([]byte) error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 && write(buf[:n]) != nil || err != nil {
			return
		}
	}
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

// mesh is a cluster whose members reach each other through proxies.
type mesh struct {
	*etcdtest.Cluster
	peers []*proxy
	ids   []string // as members name themselves to others
}

func startMesh(t testing.TB, members int) *mesh {
	t.Helper()
	m := &mesh{Cluster: etcdtest.New(t, members)}
	for _, member := range m.Members {
		member.Listen = etcdtest.FreeAddress(t)
		m.peers = append(m.peers, serveProxy(t, member.Peer, member.Listen))
	}
	m.Launch()
	reply, err := dial(t, m.Cluster).MemberList(ctx)
	require.NoError(t, err)
	for _, member := range m.Members {
		for _, known := range reply.Members {
			if known.PeerURLs[0] == "http://"+member.Peer {
				m.ids = append(m.ids, strings.ToLower(hexID(known.ID)))
			}
		}
	}
	require.Len(t, m.ids, members)
	return m
}

// isolate cuts a member off from the others, both ways.
func (m *mesh) isolate(i int) {
	for k, p := range m.peers {
		cut := func(first string) bool {
			return k == i || strings.Contains(strings.ToLower(first), "x-server-from: "+m.ids[i])
		}
		p.cut.Store(&cut)
		p.hangUp()
	}
}

// divide cuts all members off from each other.
func (m *mesh) divide() {
	for _, p := range m.peers {
		cut := func(string) bool { return true }
		p.cut.Store(&cut)
		p.hangUp()
	}
}

func (m *mesh) heal() {
	for _, p := range m.peers {
		p.cut.Store(nil)
		p.hangUp()
	}
}

package valkey

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	client "github.com/valkey-io/valkey-go"
)

// node is one server that takes writes: the only one, or a primary of the
// Cluster. It has a client of its own, with one connection, so that the guard
// knows which process an answer comes from.
type node struct {
	g       *Guard
	address string
	client  client.Client
	queue   chan *request // never full: it has room for MaxWaiting

	// dials counts connections, each before it can carry a command. While it
	// stands still, whoever answered is who answered before.
	dials    atomic.Uint64
	conn     atomic.Pointer[net.Conn] // the latest
	verified atomic.Pointer[verified]
	keys     atomic.Pointer[keys]

	retired atomic.Bool
	stop    chan struct{} // closed after retired is set

	verifying sync.Mutex // held by who asks the server about itself
	since     state      // up to which the revocations are known
	left      string     // the epoch before that one
}

// keys are the names of a server's own keys. In a Cluster, they are in a slot
// that it serves.
type keys struct{ state, order, marks, written string }

func newKeys(prefix, tag string) *keys {
	base := prefix + "{" + tag + "}:guard-"
	return &keys{base + "state", base + "revoked-order", base + "revoked", base + "written"}
}

// newNode makes a node and starts its workers. It connects already, if the
// server can be reached.
func (g *Guard) newNode(address string, k *keys) (*node, error) {
	n := &node{
		g:       g,
		address: address,
		queue:   make(chan *request, g.config.MaxWaiting),
		stop:    make(chan struct{}),
	}
	n.keys.Store(k)
	c, err := client.NewClient(g.config.clientOption(address, n.dial))
	if c == nil {
		return nil, err // not even made
	}
	n.client = c
	for range workers {
		go n.work()
	}
	return n, nil
}

// dial counts connections.
func (n *node) dial(next dialFunc) dialFunc {
	return func(ctx context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		n.dials.Add(1)
		n.g.count.connections.Add(1)
		c, err := next(ctx, address, d, t)
		if err == nil {
			n.conn.Store(&c)
		}
		return c, err
	}
}

// hangUp closes the connection: the next one may lead to another server.
func (n *node) hangUp(ctx context.Context) {
	if c := n.conn.Load(); c != nil {
		_ = (*c).Close()
		n.client.Do(ctx, n.client.B().Ping().Build()) // has the client notice
	}
}

// retire ends the node's workers. Its client has to be closed after it.
func (n *node) retire() {
	n.retired.Store(true)
	close(n.stop)
}

// enqueue hands r to the workers. Where they are about to end, one of the two
// sees what the other did, and r is sent on or refused.
func (n *node) enqueue(r *request) {
	n.queue <- r
	if n.retired.Load() {
		n.drain()
	}
}

func (n *node) drain() {
	for {
		select {
		case r := <-n.queue:
			if !n.g.reroute(r, n) {
				n.g.answer(r, false, ErrClosed)
			}
		default:
			return
		}
	}
}

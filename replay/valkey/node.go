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
	queue   chan *request // has room for MaxWaiting, so that it is never full

	// dials counts connections, each before it can carry a command. As long as
	// the count is the same, so is the process that answers.
	dials    atomic.Uint64
	conn     atomic.Pointer[net.Conn] // the latest
	verified atomic.Pointer[verified] // nil: the server has to be asked
	keys     atomic.Pointer[keys]

	retired atomic.Bool
	stop    chan struct{} // closed after retired is set

	verifying sync.Mutex // is held to ask the server about itself, and guards what follows
	known     state      // the latest state of which this guard has all revocations
	left      string     // the epoch before that of known
}

// keys are the names of the keys that the guard keeps on each server, beside those
// of tokens. In a Cluster they have the same slot, one that the server has.
type keys struct {
	state   string // a string: the value of type state
	order   string // a sorted set: the names of revocations by their revision
	marks   string // a hash: the marks of revocations by their name
	written string // an empty string: what is written before a WAIT
}

func newKeys(prefix, tag string) *keys {
	base := prefix + "{" + tag + "}:guard-"
	return &keys{state: base + "state", order: base + "revoked-order", marks: base + "revoked", written: base + "written"}
}

// newNode makes a node and starts its workers. It does not connect: whoever asks the
// server something does, within a context.
func (g *Guard) newNode(address string, k *keys) (*node, error) {
	n := &node{
		g:       g,
		address: address,
		queue:   make(chan *request, g.config.MaxWaiting),
		stop:    make(chan struct{}),
	}
	n.keys.Store(k)
	var err error
	if n.client, err = g.config.newClient(address, n.dial); err != nil {
		return nil, err
	}
	for range workers {
		go n.work()
	}
	return n, nil
}

// dial has the connections that next makes counted, and the latest one known. There are
// none for a node that is retired, although the client would make one.
func (n *node) dial(next dialFunc) dialFunc {
	return func(ctx context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if n.retired.Load() {
			return nil, client.ErrClosing
		}
		n.dials.Add(1)
		n.g.count.connections.Add(1)
		c, err := next(ctx, address, d, t)
		if err != nil {
			return nil, err
		}
		n.conn.Store(&c)
		if n.retired.Load() { // close may have come too early to see c
			_ = c.Close()
			return nil, client.ErrClosing
		}
		return c, nil
	}
}

// hangUp closes the connection, because the next one may lead to another server.
func (n *node) hangUp(ctx context.Context) {
	if c := n.conn.Load(); c != nil {
		_ = (*c).Close()
		n.client.Do(ctx, n.client.B().Ping().Build()) // so that the client notices it now
	}
}

// retire ends the node's workers, and has its requests sent on or refused. The
// node is to be closed afterwards.
func (n *node) retire() {
	n.retired.Store(true)
	close(n.stop)
}

// close ends the connection of a node that is retired. It may wait for replies, for a
// second. The client alone would keep a connection that is just being made.
func (n *node) close() {
	n.client.Close()
	if c := n.conn.Load(); c != nil {
		_ = (*c).Close()
	}
}

// enqueue hands r to the workers. If they end at the same time, they or this call
// find r in the queue, because retired is set before they stop.
func (n *node) enqueue(r *request) {
	n.queue <- r
	if n.retired.Load() {
		n.drain()
	}
}

// drain sends on or refuses what is in the queue.
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

package valkey

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// ringScale is the binary logarithm of how many pipelines a connection may have that
// are not answered yet, those that nobody waits for any more included. One more would
// wait where no context ends it. It does not come to that: a connection that answers
// nothing is given up a Timeout after maxQuiet.
const ringScale = 8

// maxQuiet is after how long without a reply the client sends a PING. Without that it
// would not give up a connection that answers nothing, and would soon block.
const maxQuiet = time.Second

// clientOption returns the embedder's options, changed for one server: one
// connection, nothing repeated, nothing cached. Connections are made by what wrap
// returns for the embedder's own way to make them.
func (c *Config) clientOption(address string, wrap func(dialFunc) dialFunc) ClientOption {
	o := c.Client
	o.InitAddress = []string{address}
	o.ForceSingleClient = true
	o.PipelineMultiplex = -1 // one connection
	o.BlockingPipeline = 1 << 30
	o.DisableAutoPipelining = false
	o.RingScaleEachConn = ringScale
	o.DisableRetry = true
	o.DisableCache = true
	o.ConnWriteTimeout = c.Timeout
	if o.Dialer.Timeout <= 0 || o.Dialer.Timeout > c.Timeout {
		o.Dialer.Timeout = c.Timeout
	}
	if o.Dialer.KeepAlive <= 0 || o.Dialer.KeepAlive > maxQuiet {
		o.Dialer.KeepAlive = maxQuiet
	}
	o.DialFn, o.DialCtxFn = nil, wrap(dialer(&c.Client))
	return o
}

type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// dialer returns how the embedder has connections made.
func dialer(o *ClientOption) dialFunc {
	switch {
	case o.DialCtxFn != nil:
		return o.DialCtxFn
	case o.DialFn != nil:
		return func(_ context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			return o.DialFn(address, d, t)
		}
	}
	return dialTCP
}

// dialTCP is what the client does by itself.
func dialTCP(ctx context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
	if t == nil {
		return d.DialContext(ctx, "tcp", address)
	}
	td := tls.Dialer{NetDialer: d, Config: t}
	return td.DialContext(ctx, "tcp", address)
}

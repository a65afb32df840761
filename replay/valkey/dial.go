package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// ringScale is the binary logarithm of how many pipelines a connection may have that
// are not answered yet, those that nobody waits for any more included. One more would
// wait where no context ends it. It does not come to that: a connection that answers
// nothing is given up a Timeout after maxQuiet.
const ringScale = 8

// maxQuiet is after how long without a reply the client sends a PING. Without that it
// would not give up a connection that answers nothing, and would soon block.
const maxQuiet = time.Second

// errNotYet is what newClient has NewClient's own attempt to connect end with.
var errNotYet = errors.New("valkey: the first command connects")

// newClient returns a client of one server, which connects with its first command.
// NewClient would connect at once, and heed no context. Connections are made by what
// wrap returns for the embedder's own way to make them.
func (c *Config) newClient(address string, wrap func(dialFunc) dialFunc) (client.Client, error) {
	making, next := true, wrap(dialer(&c.Client))
	dial := func(ctx context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if making {
			return nil, errNotYet
		}
		return next(ctx, address, d, t)
	}
	cl, err := client.NewClient(c.clientOption(address, dial))
	making = false
	if cl == nil {
		return nil, err // the options are no good
	}
	return cl, nil
}

// clientOption returns the embedder's options, changed for one server: one
// connection, nothing repeated, nothing cached.
func (c *Config) clientOption(address string, dial dialFunc) ClientOption {
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
	o.DialFn, o.DialCtxFn = nil, dial
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

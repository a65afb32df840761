package valkey

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// ringScale is the binary logarithm of how many pipelines may be under way on a
// connection, or abandoned and unanswered. More would have to wait where no
// context reaches them; but a connection that answers nothing is given up a Timeout
// after maxQuiet, and until then there are only a few.
const ringScale = 8

// maxQuiet is after how long without a reply the client sends a PING. Without one
// it would not give a connection up that answers nothing, and would soon block.
const maxQuiet = time.Second

// clientOption makes of the embedder's options those for one server: one
// connection, nothing repeated, nothing cached, and what wrap makes of the way in
// which connections are made.
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

// dialer is how the embedder has connections made.
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

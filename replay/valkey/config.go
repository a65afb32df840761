package valkey

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
)

// Defaults of [Config].
const (
	DefaultPrefix     = "chattoken:"
	DefaultTimeout    = 2 * time.Second
	DefaultMaxWaiting = 8192
)

// Config says where the servers are and how to reach them. Only Addresses must
// be set. Gateways of one fleet need the same Prefix, Database and
// MaxRevocations; other fields may differ. The guard keeps a copy; do not
// change what the fields refer to.
type Config struct {
	// Addresses is the host and port of the server, or of some nodes of a
	// Cluster.
	Addresses []string

	// Username and Password are sent over each new connection, if Password
	// is not empty. An empty Username is the server's default user.
	Username, Password string

	// Credentials, if not nil, returns both for each new connection. It
	// must return within Timeout, and be safe for concurrent use. If it
	// fails, the error of the call wraps its error but does not print it.
	Credentials func() (username, password string, err error)

	// Database is selected on each new connection. A Cluster has only 0.
	Database int

	// TLS, if not nil, encrypts connections. An empty ServerName means the
	// host of the address.
	TLS *tls.Config

	// Dialer makes the connection below TLS; nil means net.Dialer. It must
	// not outlive its context.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Prefix begins the name of each key. Deployments that share a server
	// need different ones. It is at most 64 bytes and has no braces. Empty
	// means DefaultPrefix.
	Prefix string

	// Limits are the ring's, from [keyring.Ring.Limits]. Only ClockSkew is
	// used: for [Guard.ReadyAt], and for how far the clocks of server and
	// gateway may be apart. Zero means 5 s. Spend goes by the skew in the
	// token's summary.
	Limits keyring.Limits

	// Timeout is how long a Spend waits at most; a context may end it
	// sooner. It is from 10 ms to 6 s; zero means DefaultTimeout. A server
	// that stands still for less than that causes no refusal.
	Timeout time.Duration

	// MaxWaiting is how many calls of Spend may wait at a time, for all
	// servers together, at most 2^20. Further calls are refused at once.
	// Each takes about 900 bytes. Zero means DefaultMaxWaiting.
	MaxWaiting int

	// MaxRevocations is how many revocations there may be at a time, at
	// most 2^20, besides everyone's. Zero means
	// [replay.DefaultMaxRevocations]. New fetches all of them within
	// Timeout: SIZING.md says how many that allows, by the time of a round
	// trip.
	MaxRevocations int

	// Now is the gateway's clock; nil means time.Now. The time given to
	// Spend only says whether the token was timely.
	Now func() time.Time

	// AcceptEviction accepts a server whose maxmemory-policy is not
	// noeviction. If it runs out of memory it forgets spent tokens, and
	// they can be used again.
	AcceptEviction bool

	// AcceptNoAppendOnlyFile accepts a server that keeps no append-only
	// file. It makes no token work twice, but a restart loses the
	// revocations.
	AcceptNoAppendOnlyFile bool
}

// Format writes the addresses and the prefix, whatever the verb, so that no
// password gets into a log. Package fmt does not call it if c is in an
// unexported field of what is printed.
func (c Config) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "valkey(addresses %s, prefix %s)", strings.Join(c.Addresses, " "), c.Prefix)
}

// LogValue returns the addresses and the prefix.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("addresses", c.Addresses), slog.String("prefix", c.Prefix))
}

var (
	errAddresses      = errors.New("valkey: Config.Addresses is empty")
	errPrefix         = errors.New("valkey: Config.Prefix is longer than 64 bytes or has braces")
	errClockSkew      = errors.New("valkey: Config.Limits.ClockSkew is not whole seconds from 1 s to 1 min")
	errTimeLimit      = errors.New("valkey: Config.Timeout is not 10 ms to 6 s")
	errMaxWaiting     = errors.New("valkey: Config.MaxWaiting is not 1 to 2^20")
	errMaxRevocations = errors.New("valkey: Config.MaxRevocations is not 1 to 2^20")
	errSeveral        = errors.New("valkey: several addresses, and the server is not a Cluster")
)

// withDefaults returns c with its defaults, or says which field is outside its
// limits.
func (c Config) withDefaults() (Config, error) {
	c.Prefix = cmp.Or(c.Prefix, DefaultPrefix)
	c.Limits.ClockSkew = cmp.Or(c.Limits.ClockSkew, defaultSkew)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	c.MaxRevocations = cmp.Or(c.MaxRevocations, replay.DefaultMaxRevocations)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Dialer == nil {
		c.Dialer = new(net.Dialer).DialContext
	}
	return c, c.check()
}

func (c *Config) check() error {
	skew := c.Limits.ClockSkew
	switch {
	case len(c.Addresses) == 0:
		return errAddresses
	case len(c.Prefix) > 64 || strings.ContainsAny(c.Prefix, "{}"):
		return errPrefix
	case skew < time.Second || skew > maxSkew || skew%time.Second != 0:
		return errClockSkew
	case c.Timeout < 10*time.Millisecond || c.Timeout > margin/10:
		return errTimeLimit
	case c.MaxWaiting < 1 || c.MaxWaiting > 1<<20:
		return errMaxWaiting
	case c.MaxRevocations < 1 || c.MaxRevocations > 1<<20:
		return errMaxRevocations
	}
	return nil
}

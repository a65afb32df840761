package etcd

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
)

// Defaults of [Config].
const (
	DefaultPrefix     = "chattoken/"
	DefaultTimeout    = 5 * time.Second
	DefaultMaxWaiting = 8192
)

// Config says where the cluster is and how to reach it. Only Endpoints must be
// set. Gateways of one fleet need the same Prefix and MaxRevocations; other
// fields may differ. The guard keeps a copy; do not change what the fields
// refer to.
type Config struct {
	// Endpoints are the addresses of the members: host:port, or a URL. The
	// guard uses one at a time, and the next after each failure, so list
	// all.
	Endpoints []string

	// Username and Password are the user of the cluster, if it has
	// authentication turned on and does not take the name from the
	// certificate in TLS.
	Username, Password string

	// Credentials, if not nil, returns both for each new connection. It
	// must return within a second, and be safe for concurrent use.
	Credentials func() (username, password string, err error)

	// TLS, if not nil, encrypts connections.
	TLS *tls.Config

	// Prefix begins the name of each key. Deployments that share a cluster
	// need different ones. The user needs to read and write there, and
	// nothing else. It is at most 64 bytes. Empty means DefaultPrefix.
	Prefix string

	// Limits are the ring's, from [keyring.Ring.Limits]. Only ClockSkew is
	// used, for [Guard.ReadyAt]; zero means 5 s. Spend goes by the skew in
	// the token's summary.
	Limits keyring.Limits

	// Timeout is how long a call of Spend, Revoke or Sync waits at most; a
	// context may end it sooner. It is from 10 ms to 6 s. Zero means
	// DefaultTimeout, which outlasts the election of a leader.
	Timeout time.Duration

	// MaxWaiting is how many calls of Spend may wait at a time, at most
	// 2^20. Further calls are refused at once. Each takes about a kilobyte.
	// Zero means DefaultMaxWaiting.
	MaxWaiting int

	// MaxRevocations is how many revocations there may be at a time, at
	// most 2^20, besides everyone's. Three eighths may be of single tokens:
	// see [Guard.Revoke]. Zero means [replay.DefaultMaxRevocations].
	MaxRevocations int

	// Now is the gateway's clock; nil means time.Now. The time given to
	// Spend only says whether the token was timely.
	Now func() time.Time
}

// Format writes the endpoints and the prefix, whatever the verb, so that no
// password gets into a log. Package fmt does not call it if c is in an
// unexported field of what is printed.
func (c Config) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "etcd(endpoints %s, prefix %s)", strings.Join(c.Endpoints, " "), c.Prefix)
}

// LogValue returns the endpoints and the prefix.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("endpoints", c.Endpoints), slog.String("prefix", c.Prefix))
}

var (
	errEndpoints      = errors.New("etcd: Config.Endpoints is empty")
	errPrefix         = errors.New("etcd: Config.Prefix is longer than 64 bytes")
	errClockSkew      = errors.New("etcd: Config.Limits.ClockSkew is not whole seconds from 1 s to 1 min")
	errTimeLimit      = errors.New("etcd: Config.Timeout is not 10 ms to 6 s")
	errMaxWaiting     = errors.New("etcd: Config.MaxWaiting is not 1 to 2^20")
	errMaxRevocations = errors.New("etcd: Config.MaxRevocations is not 1 to 2^20")
	errCredentials    = errors.New("etcd: Config.Credentials failed")
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
	return c, c.check()
}

func (c *Config) check() error {
	skew := c.Limits.ClockSkew
	switch {
	case len(c.Endpoints) == 0:
		return errEndpoints
	case len(c.Prefix) > 64:
		return errPrefix
	case skew < time.Second || skew > maxSkew || skew%time.Second != 0:
		return errClockSkew
	case c.Timeout < 10*time.Millisecond || c.Timeout > 6*time.Second:
		return errTimeLimit
	case c.MaxWaiting < 1 || c.MaxWaiting > 1<<20:
		return errMaxWaiting
	case c.MaxRevocations < 1 || c.MaxRevocations > 1<<20:
		return errMaxRevocations
	}
	return nil
}

package valkey

import (
	"cmp"
	"errors"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/replay"
)

// ClientOption is the client's own: addresses, names, passwords, TLS.
type ClientOption = client.ClientOption

// The values of [Config] where none are stated.
const (
	DefaultPrefix     = "chattoken:"
	DefaultMargin     = time.Minute
	DefaultTimeout    = 2 * time.Second
	DefaultMaxWaiting = 8192
)

// Config says where the servers are and what is to be expected of them. Only
// Client has to be stated. All gateways need the same values of all fields, except
// names, passwords, Timeout, MaxWaiting and Now. MaxTTL and ClockSkew may differ
// while a rollout raises them, which has to be over before they are raised in the
// ring. The guard keeps a copy; what Client refers to must not be changed.
type Config struct {
	// Client is how to reach the servers. InitAddress is the address of the
	// server, or those of some nodes of a Cluster. Names, passwords, TLS, Dialer
	// and SelectDB are used as they are. The guard decides itself about
	// connections, pipelining, repetition and caching; options that would send
	// commands elsewhere (replicas, Sentinel, redirection) or at another time
	// (ConnLifetime) are refused. DialFn gets no context, so it has to end by itself
	// within the Dialer's Timeout; DialCtxFn is the better choice.
	Client ClientOption

	// Prefix begins the name of each key: deployments that share a server need
	// different ones. It is at most 64 bytes and has no braces. Empty means
	// DefaultPrefix.
	Prefix string

	// MaxTTL is the longest validity of a token, and ClockSkew how far ahead the
	// clock that issued it may be. Both are whole seconds, within the same limits
	// and with the same defaults as in keyring.Policy, and should be taken from
	// the ring. Tokens that live longer, or were issued further ahead, are
	// refused.
	MaxTTL, ClockSkew time.Duration

	// Margin is for how long the server remembers a token after it has expired:
	// 20 s to an hour, zero means DefaultMargin. Half of it, less ClockSkew and
	// twice Timeout, is how far the server's clock may be behind or ahead; that has
	// to be positive.
	Margin time.Duration

	// Timeout is how long a Spend waits at most; a context may end it sooner.
	// It is from 10 ms to a tenth of Margin, zero means DefaultTimeout. A server
	// that stands still for less than that refuses nobody.
	Timeout time.Duration

	// MaxWaiting is how many calls of Spend may be waiting at a time, for all
	// servers together, at most 2^20. Further ones are refused at once. Each takes
	// about 900 bytes. Zero means DefaultMaxWaiting.
	MaxWaiting int

	// Replicas is how many replicas have to confirm each spend, by WAIT, within
	// half of Timeout: a spend waits until so many have. It narrows what a failover
	// can lose, as the package documentation says. Zero asks for none.
	Replicas int

	// MaxRevocations is how many revocations there may be at a time, at most 2^20,
	// apart from that of everyone. Zero means replay.DefaultMaxRevocations.
	MaxRevocations int

	// Now is the clock; nil means time.Now. It is read when data may have been
	// lost, and for revocations. Spend gets its own.
	Now func() time.Time

	// AcceptEviction accepts a server whose maxmemory-policy is not noeviction.
	// When it runs out of memory it forgets tokens that were spent, and they
	// can be used again.
	AcceptEviction bool

	// AcceptNoAppendOnlyFile accepts a server that keeps no append-only file. The
	// guard notices a restart all the same, and refuses the tokens issued before.
	// But the restart loses the revocations. A revocation up to a moment after the
	// restart then no longer applies to tokens that are issued after it.
	AcceptNoAppendOnlyFile bool
}

var (
	errAddress        = errors.New("valkey: Config.Client.InitAddress is empty")
	errClientOption   = errors.New("valkey: Config.Client has an option that a guard cannot do with")
	errPrefix         = errors.New("valkey: Config.Prefix is longer than 64 bytes or has braces")
	errMaxTTL         = errors.New("valkey: Config.MaxTTL is not whole seconds from 5 s to 10 min")
	errClockSkew      = errors.New("valkey: Config.ClockSkew is not whole seconds from 1 s to 1 min")
	errMargin         = errors.New("valkey: Config.Margin is not 20 s to 1 h, or not more than twice ClockSkew and four times Timeout")
	errTimeout        = errors.New("valkey: Config.Timeout is not 10 ms to a tenth of Margin")
	errMaxWaiting     = errors.New("valkey: Config.MaxWaiting is not 1 to 2^20")
	errReplicas       = errors.New("valkey: Config.Replicas is negative")
	errMaxRevocations = errors.New("valkey: Config.MaxRevocations is not 1 to 2^20")
	errSeveral        = errors.New("valkey: several addresses, and the server is not a Cluster")
)

// withDefaults returns c with nothing left at zero that has a default, or says
// which field is outside its limits.
func (c Config) withDefaults() (Config, error) {
	c.Prefix = cmp.Or(c.Prefix, DefaultPrefix)
	c.MaxTTL = cmp.Or(c.MaxTTL, limits.DefaultTTL)
	c.ClockSkew = cmp.Or(c.ClockSkew, limits.DefaultClockSkew)
	c.Margin = cmp.Or(c.Margin, DefaultMargin)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	c.MaxRevocations = cmp.Or(c.MaxRevocations, replay.DefaultMaxRevocations)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, c.check()
}

func (c *Config) check() error {
	switch {
	case len(c.Client.InitAddress) == 0:
		return errAddress
	case redirects(&c.Client):
		return errClientOption
	case len(c.Prefix) > 64 || strings.ContainsAny(c.Prefix, "{}"):
		return errPrefix
	case !limits.Whole(c.MaxTTL, limits.MinTTL, limits.MaxTTL):
		return errMaxTTL
	case !limits.Whole(c.ClockSkew, time.Second, limits.MaxClockSkew):
		return errClockSkew
	}
	return c.checkBounds()
}

func (c *Config) checkBounds() error {
	switch {
	case c.Margin < 20*time.Second || c.Margin > time.Hour || c.Margin <= 2*c.ClockSkew+4*c.Timeout:
		return errMargin
	case c.Timeout < 10*time.Millisecond || c.Timeout > c.Margin/10:
		return errTimeout
	case c.MaxWaiting < 1 || c.MaxWaiting > 1<<20:
		return errMaxWaiting
	case c.Replicas < 0:
		return errReplicas
	case c.MaxRevocations < 1 || c.MaxRevocations > 1<<20:
		return errMaxRevocations
	}
	return nil
}

// redirects reports whether o sends commands to servers that the guard does not
// know of, or makes new connections without need.
func redirects(o *ClientOption) bool {
	return o.ReplicaOnly || o.SendToReplicas != nil ||
		len(o.Standalone.ReplicaAddress) > 0 || o.Standalone.EnableRedirect ||
		o.Sentinel.MasterSet != "" || o.ConnLifetime != 0
}

package ivschat

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// Config is what the operator decides. The zero value of each field except
// Registry is a safe default.
type Config struct {
	// Registry has the rooms and credentials. Without rooms it means
	// [Demo], whose credentials are public.
	Registry Registry

	// AllowUnsigned lets anybody call every operation without a signature.
	// Use it for development only.
	AllowUnsigned bool

	// Join serves /join and the page, which believe whatever name a user
	// gives. Use it for demonstrations only.
	Join bool

	// Vars shows everybody /debug/vars, as [Server.ServeVars] does. Use it
	// for demonstrations only.
	Vars bool

	// Keys are keys shared by several hosts, such as a [*keyring.Follower].
	// Nil means keys in memory, which end with the process.
	Keys gateway.Keys

	// Policy is for keys in memory. The zero Policy means a ClockSkew of a
	// second, so that a disconnected user can soon come back. That's enough
	// because issuer and gateway share one clock.
	Policy keyring.Policy

	// Guard spends and revokes tokens. It is the server's alone. Nil means
	// a guard in memory, which is enough for one process.
	Guard gateway.Guard

	// GuardStats returns what [Server.ServeVars] shows of Guard, as a value
	// for encoding/json. Nil shows nothing.
	GuardStats func() any

	// TokenTTL is how long a token can be used, from 5 seconds to the
	// MaxTTL of the keys. Zero means a minute.
	TokenTTL time.Duration

	// MessageRate is how many messages a second a connection may send, and
	// how many at once, up to 10,000. Pings and pongs count. Zero means 10.
	MessageRate int

	// MaxConnections is how many there may be at a time. Zero means 10,000.
	// MaxConnectionsPerUser is how many of them one user may have. Zero
	// means no limit.
	MaxConnections, MaxConnectionsPerUser int

	// Origins and ForwardedProto say which web pages may connect, as in
	// gateway.Config.
	Origins        []string
	ForwardedProto string

	// Observe is called as gateway.Config.Observe is, for the metrics of
	// package gateway/prometheus.
	Observe func(gateway.Event)

	// Log gets what happens, without tokens and claims. Nil means no log.
	Log *slog.Logger

	// Now is the clock. Nil means [time.Now]. Timers and the age of
	// signatures ignore it.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if len(c.Registry.Rooms) == 0 {
		c.Registry = Demo()
	}
	c.MessageRate = cmp.Or(c.MessageRate, 10)
	c.MaxConnections = cmp.Or(c.MaxConnections, 10_000)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// policy is the policy of keys in memory.
func (c Config) policy() keyring.Policy {
	if c.Policy == (keyring.Policy{}) {
		return keyring.Policy{MaxTTL: max(c.TokenTTL, time.Minute), ClockSkew: time.Second}
	}
	return c.Policy
}

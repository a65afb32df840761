package ivschat

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// Config is what the operator decides. The zero value of each field is a safe
// default, but for Registry.
type Config struct {
	// Registry has the rooms and credentials. Without any rooms it is [Demo],
	// whose credentials are public.
	Registry Registry

	// AllowUnsigned lets anybody mint tokens without a signature. It is for
	// development only.
	AllowUnsigned bool

	// Join serves /join and the page, where anybody is let in as whoever they say
	// they are. It is for demonstrations.
	Join bool

	// Vars shows everybody /debug/vars: what [Server.ServeVars] says. It is for
	// demonstrations.
	Vars bool

	// Follower has the keys that several hosts share. With nil, keys are made
	// in memory: they are rotated here, and end with the process.
	Follower *keyring.Follower

	// Policy is that of keys in memory. With neither it nor a Follower, the
	// clocks of minter and gateway are one, so that a ClockSkew of a second is
	// enough, and a user who was disconnected can soon come back.
	Policy keyring.Policy

	// Guard spends and revokes tokens. Nil means a guard in memory, which is
	// enough for one process.
	Guard Guard

	// GuardStats returns what [Server.ServeVars] shows of Guard, in a form that
	// encoding/json takes. Nil shows nothing of a Guard that is not nil.
	GuardStats func() any

	// TokenTTL is how long a token can be used, from 5 seconds to the MaxTTL of the
	// keys; zero means a minute.
	TokenTTL time.Duration

	// MessageRate is how many messages a second a connection may send, and how many
	// at once. Pings and pongs count. Zero means 10.
	MessageRate int

	// MaxConnections is how many there may be at a time; zero means 10,000.
	MaxConnections int

	// Origins are further origins ("https://chat.example.com") of web pages that
	// may connect, beside the host itself. What lets a user in is the token,
	// which another site does not have, and nothing that a browser sends by
	// itself: so this is a second line, and clients that are no browsers
	// need none.
	Origins []string

	// Log gets what happens, without tokens and claims; nil means none.
	Log *slog.Logger

	// Now is the clock; nil means time.Now. Timers are those of package time.
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

package main

import (
	"context"
	"strings"

	"github.com/seed17cb2b26/chattoken/examples/internal/chatserver"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// useValkey puts the guard into c that all hosts with these servers have in
// common, if the flags name some, and returns it for Close. Its limits are those
// of the ring.
func (f flags) useValkey(ctx context.Context, c *chatserver.Config) (*valkey.Guard, error) {
	if f.valkey == "" {
		return nil, nil
	}
	ring := c.Follower.Ring()
	guard, err := valkey.New(ctx, valkey.Config{
		Client:    valkey.ClientOption{InitAddress: strings.Split(f.valkey, ",")},
		MaxTTL:    ring.MaxTTL(),
		ClockSkew: ring.ClockSkew(),
	})
	if err != nil {
		return nil, err
	}
	c.Guard, c.GuardStats = guard, func() any { return guard.Stats() }
	return guard, nil
}

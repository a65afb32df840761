package main

import (
	"context"
	"strings"

	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// useValkey puts the guard into c that all hosts with these servers have in
// common, if the flags name some, and returns it for Close.
func (f flags) useValkey(ctx context.Context, c *ivschat.Config) (*valkey.Guard, error) {
	if f.valkey == "" {
		return nil, nil
	}
	guard, err := valkey.New(ctx, valkey.Config{
		Addresses: strings.Split(f.valkey, ","),
		Limits:    c.Keys.Ring().Limits(),
	})
	if err != nil {
		return nil, err
	}
	c.Guard, c.GuardStats = guard, func() any { return guard.Stats() }
	return guard, nil
}

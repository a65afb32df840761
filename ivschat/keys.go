package ivschat

import (
	"context"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// upkeep is how often the ring is brought up to date. The Lead of its policy has to be
// several times as long.
const upkeep = 10 * time.Second

// makeKeys makes what needs keys: who seals, who opens, and what remembers the
// tokens that were spent or revoked. All go by the ring's limits.
func (s *Server) makeKeys() error {
	if err := s.makeRing(); err != nil {
		return err
	}
	s.guard = s.config.Guard
	if s.guard == nil {
		guard, err := replay.New(replay.Config{
			Limits: s.ring.Limits(),
			// Keys that were made a moment ago have sealed nothing before.
			AcceptIssuedBeforeStart: s.config.Follower == nil,
			Now:                     s.now,
		})
		if err != nil {
			return err
		}
		s.guard = guard
		s.config.GuardStats = func() any { return guard.Stats(s.now()) }
	}
	s.sealer = token.Sealer{Ring: s.ring, TTL: s.config.TokenTTL, Now: s.now}
	s.opener = token.Opener{Ring: s.ring, Guard: s.guard, Admit: s.admit, Now: s.now}
	return s.opener.Validate()
}

func (s *Server) makeRing() (err error) {
	if s.config.Follower != nil {
		s.ring = s.config.Follower.Ring()
		return nil
	}
	policy := s.config.Policy
	if policy == (keyring.Policy{}) {
		policy = keyring.Policy{MaxTTL: max(s.config.TokenTTL, time.Minute), ClockSkew: time.Second}
	}
	s.ring, err = keyring.New(s.now(), keyring.Config{Policy: policy})
	return err
}

// keepKeys keeps the ring up to date: with the file, or, in memory, with its
// policy.
func (s *Server) keepKeys(ctx context.Context) {
	every(ctx, upkeep, func() {
		changed, err := s.updateRing(ctx)
		switch {
		case err != nil:
			s.counters.keyErrors.Add(1)
			s.log.Error("keys not updated", "error", err, "ring", s.ring)
		case changed:
			s.log.Info("keys changed", "ring", s.ring)
		}
	})
}

func (s *Server) updateRing(ctx context.Context) (changed bool, err error) {
	if s.config.Follower != nil {
		return s.config.Follower.Refresh(ctx, s.now())
	}
	return s.ring.Rotate(s.now())
}

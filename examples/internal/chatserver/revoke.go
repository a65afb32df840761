package chatserver

import (
	"context"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
)

// syncEvery is how soon a connection ends that was revoked on another host.
const syncEvery = 2 * time.Second

// fleet is a guard that revokes tokens on all hosts, as that of package replay/valkey
// does.
type fleet interface {
	RevokeUserInRoom(ctx context.Context, roomIdentifier, userID string, issuedBefore time.Time) error

	// Revoked goes by what this host knows, which Sync brings up to date.
	Revoked(t claims.Summary) bool
	Sync(ctx context.Context) error
}

// revoke revokes what was minted for a user in a room until now. That is in force on
// this host in any case; an error says that other hosts may not have heard of it. The
// end of the moderator's connection does not keep them from being told.
func (s *Server) revoke(room, user string) error {
	now := s.now()
	s.revocations.RevokeUserInRoom(now, room, user, now)
	if s.fleet == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return s.fleet.RevokeUserInRoom(ctx, room, user, now)
}

// isRevoked reports whether this host knows that a token was revoked.
func (s *Server) isRevoked(t claims.Summary) bool {
	return s.revocations.Revoked(t) || s.fleet != nil && s.fleet.Revoked(t)
}

// followRevocations ends the connections that were revoked on other hosts.
func (s *Server) followRevocations(ctx context.Context) {
	every(ctx, syncEvery, func() {
		if err := s.fleet.Sync(ctx); err != nil {
			s.log.Warn("revocations not up to date", "error", err)
		}
		for _, r := range s.rooms {
			r.each(func(c *client) {
				if s.fleet.Revoked(c.session.Summary()) {
					c.end(disconnected)
				}
			})
		}
	})
}

// every calls do at an interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

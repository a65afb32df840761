package ivschat

import (
	"context"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Guard is what the server needs of a guard. That of package replay is for one
// process, and that of replay/valkey for a fleet.
type Guard interface {
	token.Guard
	Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error
	Sync(ctx context.Context, news func(token.Target, time.Time)) error
	ReadyAt() time.Time
	Synced() time.Time
}

// syncEvery is how soon a connection ends that was revoked on another host.
const syncEvery = time.Second

// revoke revokes what was minted for a user in a room until now. That is in force
// on this host in any case; an error says that other hosts may not have heard of
// it. They are told even if the moderator's connection ends meanwhile.
func (s *Server) revoke(room, user string) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return s.guard.Revoke(ctx, token.Target{Room: room, User: user}, s.now())
}

// followRevocations ends the connections that were revoked, on whichever host.
func (s *Server) followRevocations(ctx context.Context) {
	every(ctx, syncEvery, func() {
		if err := s.guard.Sync(ctx, s.endRevoked); err != nil {
			s.log.Warn("revocations not up to date", "error", err)
		}
	})
}

// endRevoked ends the connections of t, except those with a later token.
func (s *Server) endRevoked(t token.Target, _ time.Time) {
	for arn, r := range s.rooms {
		if t.Room != "" && t.Room != arn {
			continue
		}
		r.each(func(c *client) {
			if (t.User == "" || t.User == c.user) && c.isRevoked() {
				c.end(disconnected)
			}
		})
	}
}

// isRevoked reports whether the client was revoked, as far as this host knows.
func (c *client) isRevoked() bool { return c.server.guard.Revoked(c.session.Summary()) != nil }

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

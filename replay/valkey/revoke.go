package valkey

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// longestSession is how long a revocation can matter.
const longestSession = claims.MaxSessionMinutes * time.Minute

var errName = errors.New("valkey: no token has a room or user of that length")

// RevokeUser revokes the tokens and sessions of a user, in all rooms, that were
// issued before the moment issuedBefore, by the rule in the documentation of
// package replay. Of several calls the latest moment counts. When it returns nil,
// every gateway refuses the tokens in each Spend that begins later. After an error
// some may and some may not: it is to be called again. In a Cluster in which slots
// moved, a gateway may take five seconds to see that they did, and as long to see
// a revocation.
//
// It is kept for as long as a session it applies to can last, three hours. When
// there is no room left for another one, the oldest is replaced by one of everything
// issued up to its moment. That fails closed.
func (g *Guard) RevokeUser(ctx context.Context, userID string, issuedBefore time.Time) error {
	return g.revoke(ctx, member("", userID), issuedBefore)
}

// RevokeRoom is [Guard.RevokeUser] for all users of a room.
func (g *Guard) RevokeRoom(ctx context.Context, roomIdentifier string, issuedBefore time.Time) error {
	return g.revoke(ctx, member(roomIdentifier, ""), issuedBefore)
}

// RevokeUserInRoom is [Guard.RevokeUser] for one room.
func (g *Guard) RevokeUserInRoom(ctx context.Context, roomIdentifier, userID string, issuedBefore time.Time) error {
	if roomIdentifier == "" || userID == "" {
		return errName // and not all rooms of the user, or all users of the room
	}
	return g.revoke(ctx, member(roomIdentifier, userID), issuedBefore)
}

// RevokeAll is [Guard.RevokeUser] for everyone everywhere.
func (g *Guard) RevokeAll(ctx context.Context, issuedBefore time.Time) error {
	return g.revoke(ctx, everyone, issuedBefore)
}

// Revoked reports whether the token, or the session that was opened with it, is
// revoked, as far as this gateway knows: by what it revoked itself, and what its
// last Spend or [Guard.Sync] brought along. Ask it for live sessions, with
// token.Session.Summary, after Sync. It asks no server.
func (g *Guard) Revoked(t claims.Summary) bool { return g.made() && g.revoked.Revoked(t) }

// Sync fetches what others have revoked. A gateway calls it every few seconds,
// and then closes the connections for which [Guard.Revoked] says so. With an error
// what is known may be out of date. What the servers lost before this gateway asked,
// it does not learn, and only the tokens concerned are refused: for the sake of
// live sessions, revoke again when [Guard.ReadyAt] moves.
func (g *Guard) Sync(ctx context.Context) error {
	if !g.made() {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	return g.each(ctx, func(n *node) error { return n.askAnew(ctx) })
}

// each does something with each server, at the same time: one that stands still
// must not keep it from the others.
func (g *Guard) each(ctx context.Context, do func(n *node) error) error {
	nodes := g.topology.Load().nodes
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = persist(ctx, func() error { return do(n) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// everyone is the name of the revocation of all. A user has "u" before it, a room
// "r", and a user in a room "b", with the length of the room between the two: no
// part of one name can be taken for a part of the other.
const everyone = "a"

func member(room, user string) string {
	switch {
	case room == "":
		return "u" + user
	case user == "":
		return "r" + room
	}
	return "b" + itoa(len(room)) + ":" + room + user
}

// maxMember is longer than any that a token can match.
const maxMember = 1 + 4 + 1 + 128 + 4*128

func itoa(n int) string { return strconv.Itoa(n) }

// revoke writes a revocation to every server: each answers for its own tokens.
func (g *Guard) revoke(ctx context.Context, name string, issuedBefore time.Time) error {
	if !g.made() {
		return ErrClosed
	}
	if len(name) > maxMember || name == "u" || name == "r" {
		return errName
	}
	// Nothing is issued after MaxUnix either, and there the sum does not overflow.
	mark := min(issuedBefore.Unix(), limits.MaxUnix) + int64(g.config.ClockSkew/time.Second)
	if mark <= 0 {
		return nil // nothing is issued before 1970
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	if t := g.topology.Load(); t.cluster() {
		g.survey(ctx, t.nodes...) // it must not pass a server by
	}
	err := g.each(ctx, func(n *node) error { return n.revoke(ctx, name, mark) })
	g.apply(name, mark)
	return err
}

// apply has this gateway know of a revocation.
func (g *Guard) apply(name string, mark int64) {
	now, before := g.config.Now(), time.Unix(mark, 0).Add(-g.config.ClockSkew)
	switch kind, rest := name[0], name[1:]; kind {
	case 'a':
		g.revoked.RevokeAll(before)
	case 'u':
		g.revoked.RevokeUser(now, rest, before)
	case 'r':
		g.revoked.RevokeRoom(now, rest, before)
	case 'b':
		length, rest, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(length); err == nil && n >= 0 && n <= len(rest) {
			g.revoked.RevokeUserInRoom(now, rest[:n], rest[n:], before)
		}
	}
}

// persist repeats what failed for a reason that may pass, until ctx ends.
func persist(ctx context.Context, try func() error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := try()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

package valkey

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// longestSession is for how long a revocation can matter: so long may a session last
// that began before it.
const longestSession = claims.MaxSessionMinutes * time.Minute

// errName is returned for a room or user that no token can name.
var errName = errors.New("valkey: no token has a room or user of that length")

// RevokeUser revokes the tokens and sessions of a user, in all rooms, that were
// issued before issuedBefore, by the rule in the documentation of package replay. Of
// several calls the latest issuedBefore counts. It takes Config.Timeout at most, and
// not longer than ctx.
//
// When it returns nil, every gateway refuses the tokens in each Spend that begins
// later. In a Cluster whose slots have just moved, a gateway may take five seconds to
// notice that, and until then may not see the revocation. After an error, some
// gateways may refuse the tokens and some may not: call it again.
//
// A revocation is kept for three hours and a minute, which is as long as a session
// that it applies to can last. When there are Config.MaxRevocations already, the oldest
// is replaced by the revocation of everything that was issued before its moment. That
// fails closed: it refuses tokens, and ends sessions, that nobody revoked.
func (g *Guard) RevokeUser(ctx context.Context, userID string, issuedBefore time.Time) error {
	return g.revoke(ctx, nameOf("", userID), issuedBefore)
}

// RevokeRoom is [Guard.RevokeUser] for all users of a room.
func (g *Guard) RevokeRoom(ctx context.Context, roomIdentifier string, issuedBefore time.Time) error {
	return g.revoke(ctx, nameOf(roomIdentifier, ""), issuedBefore)
}

// RevokeUserInRoom is [Guard.RevokeUser] for one room.
func (g *Guard) RevokeUserInRoom(ctx context.Context, roomIdentifier, userID string, issuedBefore time.Time) error {
	if roomIdentifier == "" || userID == "" {
		return errName // an empty one would stand for all rooms, or all users
	}
	return g.revoke(ctx, nameOf(roomIdentifier, userID), issuedBefore)
}

// RevokeAll is [Guard.RevokeUser] for everyone everywhere. Users may come back, as
// [replay.Revocations.RevokeAll] says.
func (g *Guard) RevokeAll(ctx context.Context, issuedBefore time.Time) error {
	return g.revoke(ctx, everyone, issuedBefore)
}

// Revoked reports whether the token, or the session that was opened with it, is
// revoked, as far as this gateway knows: from its own calls, its last Spend and its
// last [Guard.Sync]. It asks no server. After a Sync, call it for each live session,
// with token.Session.Summary.
func (g *Guard) Revoked(t claims.Summary) bool { return g.made() && g.revoked.Revoked(t) }

// Sync fetches what other gateways have revoked. A gateway calls it every few seconds,
// and then closes the connections for which [Guard.Revoked] reports true. It takes
// Config.Timeout at most, and not longer than ctx. After an error, what is known may
// be out of date.
//
// If a server loses a revocation before this gateway has fetched it, unused tokens
// are refused all the same, as they were issued before the loss. But live sessions
// go on. So when [Guard.ReadyAt] moves, repeat the revocations of the last moments.
func (g *Guard) Sync(ctx context.Context) error {
	if !g.made() {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	return heed(ctx, func() error {
		return g.each(ctx, func(n *node) error { return n.askAnew(ctx) })
	})
}

// each calls do for all servers at the same time, so that one that stands still does
// not keep it from the others. Calls whose error may pass are repeated until ctx ends,
// after the guard has looked who has which slots. Where it finds other servers, all is
// done again for these. It returns all last errors.
func (g *Guard) each(ctx context.Context, do func(n *node) error) error {
	for {
		nodes := g.topology.Load().nodes
		errs := g.eachOf(ctx, nodes, do)
		if slices.Equal(nodes, g.topology.Load().nodes) {
			return errors.Join(errs...)
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, reason(ctx.Err()))...)
		}
	}
}

func (g *Guard) eachOf(ctx context.Context, nodes []*node, do func(n *node) error) []error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			errs[i] = persist(ctx, func() error {
				err := do(n)
				if err != nil {
					g.rediscover(ctx, n)
				}
				return err
			})
		})
	}
	wg.Wait()
	return errs
}

// everyone is the name under which servers store the revocation of everyone. For all
// others, see nameOf.
const everyone = "a"

// nameOf returns the name of the revocation of a user, a room (if user is empty), or
// both: "u" and the user, "r" and the room, or "b", the length of the room, a colon,
// room and user. So no two revocations have the same name.
func nameOf(room, user string) string {
	switch {
	case room == "":
		return "u" + user
	case user == "":
		return "r" + room
	}
	return "b" + itoa(len(room)) + ":" + room + user
}

// maxName is how long a name may be, in bytes, that a token can match: "b", three
// digits and one in reserve, a colon, room and user.
const maxName = 1 + 4 + 1 + claims.MaxRoomIdentifierBytes + utf8.UTFMax*claims.MaxUserIDRunes

func itoa(n int) string { return strconv.Itoa(n) }

// revoke writes a revocation to every server: each answers for its own tokens.
func (g *Guard) revoke(ctx context.Context, name string, issuedBefore time.Time) error {
	if !g.made() {
		return ErrClosed
	}
	if len(name) > maxName || name == "u" || name == "r" {
		return errName
	}
	mark := min(issuedBefore.Unix(), limits.MaxUnix) // nothing is issued after it either
	if mark <= 0 {
		return nil // nothing is issued before 1970
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	err := heed(ctx, func() error {
		if t := g.topology.Load(); t.cluster() {
			g.survey(ctx, t.nodes...) // so that no server is left out that has joined
		}
		return g.each(ctx, func(n *node) error { return n.revoke(ctx, name, mark) })
	})
	g.apply(name, mark)
	return err
}

// apply enters a revocation by its name into what this gateway knows.
func (g *Guard) apply(name string, mark int64) {
	now, before := g.config.Now(), time.Unix(mark, 0)
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
		if err == nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

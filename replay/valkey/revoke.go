package valkey

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	client "github.com/valkey-io/valkey-go"

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

// RevokeAll is [Guard.RevokeUser] for everyone everywhere. Users may come back, as
// [replay.Revocations.RevokeAll] says.
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
	mark := min(issuedBefore.Unix(), limits.MaxUnix) // nothing is issued after it either
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

// insert adds a revocation: to a hash of marks, and to a sorted set that has the
// names in the order of their revisions. It changes nothing, and answers -1, if
// the state is another one than the caller knows. Then the oldest make room, if there are
// too many, or if they are over; both become one of everyone. The new revision is
// written last, and is what other gateways notice.
var insert = `
local now = redis.call('GET', KEYS[1])
if not now or string.sub(now, 1, #ARGV[1]) ~= ARGV[1] then return -1 end
local revision = tonumber(string.sub(now, #ARGV[1] + 1))
local function raise(name, mark)
	local old = redis.call('HGET', KEYS[3], name)
	if old and tonumber(old) >= tonumber(mark) then return end
	revision = revision + 1
	redis.call('HSET', KEYS[3], name, mark)
	redis.call('ZADD', KEYS[2], string.format('%.0f', revision), name)
end
raise(ARGV[2], ARGV[3])
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, 15)) do
	local mark = redis.call('HGET', KEYS[3], name) or '0'
	if name ~= 'a' and (excess > 0 or tonumber(mark) < tonumber(ARGV[5])) then
		redis.call('HDEL', KEYS[3], name)
		redis.call('ZREM', KEYS[2], name)
		raise('a', mark)
		excess = excess - 1
	end
end
for i = 2, 3 do
	if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[6]) then redis.call('PEXPIRE', KEYS[i], ARGV[6]) end
end
redis.call('SET', KEYS[1], ARGV[1] .. string.format('%.0f', revision))
return revision`

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

// revoke writes a revocation to n, once: if the reply is lost, it can be written
// again.
func (n *node) revoke(ctx context.Context, name string, mark int64) error {
	v, err := n.verify(ctx)
	if err != nil {
		n.g.rediscover(n) // for the next call
		return err
	}
	revision, err := n.client.Do(ctx, n.insert(v, name, mark)).AsInt64()
	switch {
	case err != nil:
		return reason(err)
	case revision < 0:
		n.forget(v)
		return errChanged
	}
	return nil
}

func (n *node) insert(v *verified, name string, mark int64) client.Completed {
	c, k := &n.g.config, n.keys.Load()
	s, _ := parseState(v.state)
	now := c.Now().Unix()
	kept := int64((longestSession + c.Margin) / time.Second)
	return n.client.B().Eval().Script(insert).Numkeys(3).Key(k.state, k.order, k.marks).Arg(
		s.fixed(), name, strconv.FormatInt(mark, 10),
		itoa(c.MaxRevocations+1), // everyone comes on top
		strconv.FormatInt(now-kept, 10),
		strconv.FormatInt(1000*(max(mark-now, 0)+kept), 10)).Build()
}

// after returns the state, and the names and marks of the revocations after a
// revision, in their order.
var after = `
local reply = {redis.call('GET', KEYS[1]) or ''}
local page = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #page, 2 do
	reply[#reply + 1] = page[i]
	reply[#reply + 1] = redis.call('HGET', KEYS[3], page[i]) or '0'
	reply[#reply + 1] = page[i + 1]
end
return reply`

// page is how many revocations are fetched at a time: no server stands still for
// long.
const page = 1000

// catchUp fetches the revocations that n has and the guard may not know, up to
// those of s. It returns false where n has another state by now.
func (n *node) catchUp(ctx context.Context, s state) (bool, error) {
	if s.epoch != n.since.epoch {
		n.left, n.since = n.since.epoch, state{epoch: s.epoch, mark: s.mark} // from the beginning
	}
	for n.since.revision < s.revision {
		k := n.keys.Load()
		reply, err := n.client.Do(ctx, n.client.B().Eval().Script(after).Numkeys(3).Key(k.state, k.order, k.marks).
			Arg(strconv.FormatInt(n.since.revision, 10), itoa(page)).Build()).AsStrSlice()
		if err != nil {
			return false, reason(err)
		}
		if len(reply)%3 != 1 {
			return false, ErrReply
		}
		if !strings.HasPrefix(reply[0], s.fixed()) {
			return false, nil
		}
		n.applyPage(reply[1:], s.revision)
	}
	return true, nil
}

// applyPage applies names, marks and revisions. A page that is not full is the
// last one.
func (n *node) applyPage(reply []string, revision int64) {
	for i := 0; i < len(reply); i += 3 {
		mark, _ := strconv.ParseInt(reply[i+1], 10, 64)
		if reply[i] != "" && mark > 0 {
			n.g.apply(reply[i], mark)
		}
		n.since.revision, _ = strconv.ParseInt(reply[i+2], 10, 64)
	}
	if len(reply) < 3*page {
		n.since.revision = max(n.since.revision, revision)
	}
}

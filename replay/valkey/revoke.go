package valkey

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// kept is for how long a revocation can matter: the last session that it ends
	// may begin by a clock that is ahead, and last that long.
	kept = claims.MaxSessionMinutes*time.Minute + maxSkew

	// moreRoom is how many times as many revocations a gateway has room for as
	// there may be. With twice the room, what it has to merge is what the servers
	// have merged already, and nobody else is taken for revoked.
	moreRoom = 2

	// page is how many revocations are fetched at a time, so that no server stands
	// still for long.
	page = 1000

	// maxSecond is 9999-12-31T23:59:59Z: nothing is issued after it.
	maxSecond = 253402300799
)

// revocation is one as the servers store it.
type revocation struct {
	name   string
	moment int64     // Unix seconds; for a token, when it was revoked
	made   time.Time // by this process
}

// everyone is the name of the revocation of everyone. For all others, see nameOf.
const everyone = "a"

// nameOf returns the name of a valid target: "t" and the token, "u" and the user, "r"
// and the room, or "b", the length of the room, a colon, room and user. So no two
// targets have the same name.
func nameOf(t token.Target) string {
	switch {
	case t.Everyone:
		return everyone
	case t.Token != (token.ID{}):
		return "t" + string(t.Token[:])
	case t.Room == "":
		return "u" + t.User
	case t.User == "":
		return "r" + t.Room
	}
	return "b" + itoa(len(t.Room)) + ":" + t.Room + t.User
}

// targetOf is the inverse of nameOf. What nameOf does not return is the zero Target.
func targetOf(name string) (t token.Target) {
	kind, rest := name[:min(1, len(name))], name[min(1, len(name)):]
	switch kind {
	case everyone:
		t.Everyone = rest == ""
	case "t":
		if len(rest) == len(t.Token) {
			copy(t.Token[:], rest)
		}
	case "u":
		t.User = rest
	case "r":
		t.Room = rest
	case "b":
		length, rest, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(length); err == nil && n >= 0 && n <= len(rest) {
			t.Room, t.User = rest[:n], rest[n:]
		}
	}
	return t
}

// Revoke takes back what was issued to a target before a moment, by the rule of
// [token.Summary.IssuedBefore]; of several calls for one target the latest moment
// counts. For a Token the moment is the zero time. Revoke takes Config.Timeout at
// most, and not longer than ctx.
//
// If it returns nil, every gateway refuses the tokens in each Spend that begins
// later. In a Cluster whose slots have just moved, a gateway may take five seconds to
// notice that, and until then may not see the revocation. After an error the tokens
// are refused here, and some other gateways may not know: call it again. The error
// says why, as those of Spend do, or what is wrong with the target.
//
// A revocation is kept for three hours and a minute, the longest session that it can
// end. If there are Config.MaxRevocations already, the one of the earliest moment
// becomes one of everyone, which fails closed: it refuses tokens, and ends sessions,
// that nobody revoked. That of a Token never does: if there is no room for it, the
// error is [replay.ErrFull].
func (g *Guard) Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error {
	if !g.made() {
		return ErrClosed
	}
	now := g.config.Now()
	if err := g.revoked.Revoke(now, t, issuedBefore); err != nil {
		return err
	}
	r := revocation{name: nameOf(t), moment: min(max(issuedBefore.Unix(), 0), maxSecond), made: time.Now()}
	if t.Token != (token.ID{}) {
		r.moment = now.Unix()
	}
	g.remember(r)
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	return heed(ctx, func() error {
		if g.topology.Load().cluster() {
			g.survey(ctx, g.topology.Load().nodes...) // so that no server is left out that has joined
		}
		return g.each(ctx, func(n *node) error { return n.revoke(ctx, r) })
	})
}

// remember keeps r until writeBack has no use for it.
func (g *Guard) remember(r revocation) {
	g.recentMu.Lock()
	defer g.recentMu.Unlock()
	g.recent = append(g.stillRecent(), r)
}

// stillRecent returns what this process has revoked lately. The caller holds recentMu.
func (g *Guard) stillRecent() []revocation {
	i := slices.IndexFunc(g.recent, func(r revocation) bool { return writeBack(time.Since(r.made)) })
	if i < 0 {
		return nil
	}
	return g.recent[i:]
}

// Revoked returns token.ErrRevoked or token.ErrAllRevoked if the token, or the session
// that was opened with it, is revoked, as far as this gateway knows: from its own
// calls, its last Spend and its last [Guard.Sync]. It asks no server, takes no lock
// and does not allocate. A guard that is not made returns ErrClosed.
func (g *Guard) Revoked(s token.Summary) error {
	if !g.made() {
		return ErrClosed
	}
	return g.revoked.Revoked(s)
}

// Sync fetches what other gateways have revoked, and hands over every target that
// came into force here since the last Sync, whoever brought it: a Spend, an own call
// of Revoke, or lack of room (as Everyone). It does so at least once, before it
// returns, also with an error. One owner calls it, every few seconds, and ends the
// sessions concerned. It takes Config.Timeout at most, and not longer than ctx, plus
// what news takes.
//
// If a server loses a revocation before this gateway has fetched it, the gateway that
// made it writes it again when it notices. If that one is gone, too, unused tokens
// are refused all the same, as they were issued before the loss, but live sessions go
// on. So if [Guard.ReadyAt] moves, repeat the revocations of the last moments.
func (g *Guard) Sync(ctx context.Context, news func(t token.Target, issuedBefore time.Time)) error {
	if !g.made() {
		return ErrClosed
	}
	began := g.config.Now()
	waiting, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	err := heed(waiting, func() error {
		return g.each(waiting, func(n *node) error { return n.askAnew(waiting) })
	})
	g.revoked.News(news)
	if err == nil {
		g.synced.Store(&began)
	}
	return err
}

// Synced returns when the last Sync that succeeded began, or New did, by Config.Now:
// what others have revoked since may be unknown here, and live sessions go on. A
// health check compares it with the clock. A zero or nil Guard returns the zero time.
func (g *Guard) Synced() time.Time {
	if !g.made() {
		return time.Time{}
	}
	return *g.synced.Load()
}

// each calls do for all servers at the same time, so that one that stands still does
// not keep it from the others. Calls whose error may pass are repeated until ctx ends,
// after the guard has looked who has which slots. If that finds other servers, all is
// done again for these. It returns the error, or all of several.
func (g *Guard) each(ctx context.Context, do func(n *node) error) error {
	for {
		nodes := g.topology.Load().nodes
		errs := g.eachOf(ctx, nodes, do)
		if !slices.Equal(nodes, g.topology.Load().nodes) {
			if ctx.Err() == nil {
				continue
			}
			errs = append(errs, reason(ctx.Err()))
		}
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		if len(errs) == 1 {
			return errs[0]
		}
		return errors.Join(errs...)
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

// insert is the script that writes a revocation. KEYS are the revision, the order, the
// marks and the tokens. ARGV are the name, the moment, how many revocations there may
// be, the moment up to which they are over, and for how many milliseconds they are
// kept. It returns 0, or 1 if there is no room for a token.
//
// The order is written last: a name without a rank is not complete, and is written
// again by the next call, or was never there. If there are too many, the earliest of
// 16 moments become that of everyone. An empty name is written nowhere: it shows
// whether the user may run all commands.
const insert = `
local name, moment, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function raise(set, name, moment)
	local old = tonumber(redis.call('ZSCORE', set, name) or nil)
	local rank = redis.call('ZSCORE', KEYS[2], name)
	if old and rank and old >= moment then return end
	redis.call('ZADD', set, math.max(old or moment, moment), name)
	redis.call('ZADD', KEYS[2], redis.call('INCRBY', KEYS[1], 1), name)
end
local function drop(set, name)
	redis.call('ZREM', KEYS[2], name)
	redis.call('ZREM', set, name)
end
local function merge(excess)
	local first = redis.call('ZRANGE', KEYS[3], 0, 15, 'WITHSCORES')
	for i = 1, #first, 2 do
		local name, moment = first[i], tonumber(first[i + 1])
		if name ~= 'a' and (excess > 0 or moment < tonumber(ARGV[4])) then
			raise(KEYS[3], 'a', moment)
			drop(KEYS[3], name)
			excess = excess - 1
		end
	end
end
if name == '' then
	redis.call('INCRBY', KEYS[1], 0)
	for i = 2, 4 do redis.call('ZADD', KEYS[i], 'XX', 0, name) end
	drop(KEYS[3], name)
end
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 16)) do
	drop(KEYS[4], over)
end
local set = string.sub(name, 1, 1) == 't' and KEYS[4] or KEYS[3]
local size = redis.call('ZCARD', KEYS[2])
if set == KEYS[4] and size >= room and not redis.call('ZSCORE', KEYS[4], name) then return 1 end
if name ~= '' then raise(set, name, moment) end
merge(redis.call('ZCARD', KEYS[2]) - room)
for i = 2, 4 do
	if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
end
return 0`

// insert returns the command that writes a revocation.
func (n *node) insert(r revocation) client.Completed {
	c, k := &n.g.config, n.keys.Load()
	now, life := c.Now().Unix(), int64(kept/time.Second)
	return n.client.B().Eval().Script(insert).Numkeys(4).Key(k.revision, k.order, k.marks, k.tokens).Arg(
		r.name, strconv.FormatInt(r.moment, 10),
		itoa(c.MaxRevocations+1), // that of everyone does not count
		strconv.FormatInt(now-life, 10),
		strconv.FormatInt(1000*(max(r.moment-now, 0)+life), 10)).Build()
}

// revoke tries once to write revocations to n. If a reply is lost, to write them again
// does no harm. What is on a server that this guard does not rely on at the end may be
// on another than the one that others ask.
func (n *node) revoke(ctx context.Context, all ...revocation) error {
	if err := n.verify(ctx); err != nil {
		return err
	}
	a, err := n.write(ctx, all)
	if err != nil {
		return err
	}
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	var t trust
	if n.belief, t = n.belief.judge(a, clockOf(n.g.config.Now())); t == verifyAnew {
		return errChanged
	}
	return nil
}

func (n *node) write(ctx context.Context, all []revocation) (answer, error) {
	commands := make([]client.Completed, len(all))
	for i, r := range all {
		commands[i] = n.insert(r)
	}
	replies, a, err := n.round(ctx, commands)
	for _, r := range replies {
		switch full, e := r.ToInt64(); {
		case e != nil:
			return a, reason(e)
		case full != 0:
			return a, replay.ErrFull
		}
	}
	return a, err
}

// rehearse has a server show, once for each pair, that the user may do all that the
// guard does: the SET of a spend, and the script insert, without a name. So what is
// not permitted fails at the start. The caller holds asking.
func (n *node) rehearse(ctx context.Context) error {
	set := n.client.B().Set().Key(n.keys.Load().rehearsal).Value("").Nx().Get().PxMilliseconds(1).Build()
	replies, _, err := n.round(ctx, []client.Completed{set, n.insert(revocation{})})
	for _, r := range replies {
		if e := r.Error(); e != nil && !client.IsValkeyNil(e) {
			return reason(e)
		}
	}
	return err
}

// writeBack writes what this process revoked lately to a server that may not have it.
// The caller holds asking.
func (n *node) writeBack(ctx context.Context) error {
	n.g.recentMu.Lock()
	all := slices.Clone(n.g.stillRecent())
	n.g.recentMu.Unlock()
	for some := range slices.Chunk(all, batch) {
		if _, err := n.write(ctx, some); err != nil && err != replay.ErrFull {
			return err
		}
	}
	return nil
}

// after is the script that returns the revision, and then the name, moment and rank of
// each revocation after the rank ARGV[1], in their order, at most ARGV[2] of them. KEYS
// are those of insert.
const after = `
local reply = {redis.call('GET', KEYS[1]) or '0'}
local page = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #page, 2 do
	local set = string.sub(page[i], 1, 1) == 't' and KEYS[4] or KEYS[3]
	reply[#reply + 1] = page[i]
	reply[#reply + 1] = redis.call('ZSCORE', set, page[i]) or '0'
	reply[#reply + 1] = page[i + 1]
end
return reply`

// catchUp fetches the revocations after known, or all if the revision of a is less. The
// caller holds asking.
func (n *node) catchUp(ctx context.Context, a answer, known int64) error {
	if a.revision < known {
		known = 0
	}
	for {
		k := n.keys.Load()
		replies, end, err := n.round(ctx, []client.Completed{
			n.client.B().Eval().Script(after).Numkeys(4).Key(k.revision, k.order, k.marks, k.tokens).
				Arg(strconv.FormatInt(known, 10), itoa(page)).Build()})
		reply, e := replies[0].AsStrSlice()
		switch {
		case e != nil:
			return reason(e)
		case err != nil:
			return err
		case len(reply)%3 != 1:
			return errReply
		}
		if known, err = n.g.applyPage(reply[1:]); err != nil {
			return err
		}
		if len(reply) < 3*page {
			end.revision, err = strconv.ParseInt(reply[0], 10, 64)
			if err != nil {
				return errReply
			}
			return n.caughtUp(a.conn, end)
		}
	}
}

// applyPage applies the revocations of a reply to after, and returns the last rank.
func (g *Guard) applyPage(reply []string) (rank int64, err error) {
	now := g.config.Now()
	for i := 0; i < len(reply); i += 3 {
		moment, err := strconv.ParseFloat(reply[i+1], 64)
		if err != nil {
			return 0, errReply
		}
		if rank, err = strconv.ParseInt(reply[i+2], 10, 64); err != nil {
			return 0, errReply
		}
		t, before := targetOf(reply[i]), time.Unix(int64(moment), 0)
		if t.Token != (token.ID{}) {
			before = time.Time{}
		}
		if err := g.revoked.Revoke(now, t, before); err == replay.ErrFull {
			return 0, err // what cannot be remembered must not be spent
		}
	}
	return rank, nil
}

// caughtUp relies on the revocations up to those of end, the answer of the pipeline that
// fetched the last of them.
func (n *node) caughtUp(conn uint64, end answer) error {
	g := n.g
	g.mu.Lock()
	defer g.mu.Unlock()
	b := n.belief
	if !n.settled {
		b.conn = conn
	}
	b.revision = end.revision
	b, t := b.judge(end, clockOf(g.config.Now()))
	if !n.settled {
		b.conn = 0
	}
	n.belief = b
	if t != believe {
		return errChanged
	}
	return nil
}

package valkey

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// kept is for how long a revocation can matter: the last session that
	// it ends may begin by a clock that is ahead, and lasts that long.
	kept = claims.MaxSessionMinutes*time.Minute + maxSkew

	// moreRoom is how many times MaxRevocations a gateway has room for.
	// With twice the room, it merges only what the servers have merged
	// already, so it revokes nobody else. The rest is for what it could not
	// tell them. If it has no room for a token's revocation, it must refuse
	// everything.
	moreRoom = 4

	// page is how many revocations are fetched at a time, so that no server
	// stands still for long.
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

// nameOf returns the name of a valid target: "a" for everyone, "t" and the
// token, or "u", the length of the room, a colon, room and user. No two targets
// have the same name.
func nameOf(t token.Target) string {
	switch {
	case t.Everyone:
		return "a"
	case t.Token != (token.ID{}):
		return "t" + string(t.Token[:])
	}
	return "u" + strconv.Itoa(len(t.Room)) + ":" + t.Room + t.User
}

// targetOf is the inverse of nameOf. What nameOf cannot return gives no valid
// target.
func targetOf(name string) (t token.Target) {
	if id, ok := strings.CutPrefix(name, "t"); ok && len(id) == len(t.Token) {
		return token.Target{Token: token.ID([]byte(id))}
	}
	length, rest, _ := strings.Cut(strings.TrimPrefix(name, "u"), ":")
	if n, err := strconv.Atoi(length); err == nil && n >= 0 && n <= len(rest) {
		return token.Target{Room: rest[:n], User: rest[n:]}
	}
	return token.Target{Everyone: name == "a"}
}

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore, by [token.Summary.IssuedBefore]. Of several calls for one
// target the latest moment counts. For a Token the moment is the zero time.
// Revoke takes Config.Timeout at most, and not longer than ctx.
//
// Once it returns nil, every gateway refuses these tokens in each Spend that
// begins later; in a Cluster whose slots have just moved, five seconds later.
// After an error, repeat the call: this gateway refuses the tokens, but others
// may not know.
//
// A revocation is kept for three hours and a minute, the longest session that
// it can end. If there are Config.MaxRevocations already, the one of the
// earliest moment becomes one of everyone. That fails closed: it refuses
// tokens, and ends sessions, that nobody revoked. Single tokens, at most half
// of MaxRevocations, are not merged: if there is no room for one, the error is
// [replay.ErrFull].
//
// Revocations that this gateway could not write, because the servers were full
// or away, take room only here. If they include more than MaxRevocations
// tokens, there may be no room for tokens that others revoked. Then every Spend
// here fails with [replay.ErrFull] until some have expired, or the gateway is
// restarted.
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
	return g.within(ctx, func(until time.Time) error {
		if t := g.topology.Load(); t.cluster() {
			_ = g.survey(until, t.nodes...) // finds new servers
		}
		return g.each(until, func(n *node) error { return n.revoke(until, r) })
	})
}

// within returns the error of do, which gets Timeout, or ErrCanceled if ctx
// ends first. do goes on then, because to end its connection would hurt others.
func (g *Guard) within(ctx context.Context, do func(until time.Time) error) error {
	done, late := make(chan error, 1), time.After(g.config.Timeout+maxPause)
	go func() { done <- do(time.Now().Add(g.config.Timeout)) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ErrCanceled
	case <-late:
		return errTimeout
	}
}

// remember keeps r, if it has a name, until it need not be written back, and
// returns what it has kept.
func (g *Guard) remember(r revocation) []revocation {
	g.recentMu.Lock()
	defer g.recentMu.Unlock()
	for len(g.recent) > 0 && !writeBack(time.Since(g.recent[0].made)) {
		g.recent = g.recent[1:]
	}
	if r.name != "" {
		g.recent = append(g.recent, r)
	}
	return g.recent
}

// Revoked returns [token.ErrRevoked] or [token.ErrAllRevoked] if the token, or
// the session that it opened, was revoked, and nil otherwise. It knows what
// this gateway learned from its own calls, its last Spend and its last
// [Guard.Sync]. It asks no server, takes no lock and does not allocate. A guard
// that New did not make returns ErrClosed.
func (g *Guard) Revoked(s token.Summary) error {
	if !g.made() {
		return ErrClosed
	}
	return g.revoked.Revoked(s)
}

// Sync fetches what other gateways have revoked, and calls news for every
// target revoked here since the last Sync: by a Spend, by Revoke, or, as
// Everyone, for lack of room. It reports each at least once, even with an
// error. One goroutine calls Sync, every few seconds, and ends the sessions of
// these targets. Sync takes Config.Timeout at most, and not longer than ctx,
// plus what news takes. With a nil news it only fetches.
//
// If a server loses a revocation before this gateway has fetched it, the
// gateway that made it writes it again. If that one is gone, too, unused tokens
// are still refused, but live sessions go on. So if [Guard.ReadyAt] moves,
// repeat the latest revocations.
func (g *Guard) Sync(ctx context.Context, news func(t token.Target, issuedBefore time.Time)) error {
	if !g.made() {
		return ErrClosed
	}
	began := g.config.Now()
	err := g.within(ctx, func(until time.Time) error {
		return g.each(until, func(n *node) error { return n.askAnew(until) })
	})
	if news != nil {
		g.revoked.News(news)
	}
	if err == nil {
		g.synced.Store(&began)
	}
	return err
}

// Synced returns when the last successful Sync, or New, began, by Config.Now.
// What others have revoked since may be unknown here, so live sessions go on. A
// health check compares it with the clock. For a zero or nil Guard it is the
// zero time.
func (g *Guard) Synced() time.Time {
	if !g.made() {
		return time.Time{}
	}
	return *g.synced.Load()
}

// each calls do for all servers at the same time, so that one that stands still
// does not keep it from the others. If an error may pass, or there are new
// servers, it does so again, until a moment.
func (g *Guard) each(until time.Time, do func(n *node) error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		nodes := g.topology.Load().nodes
		errs := make([]error, len(nodes))
		var wg sync.WaitGroup
		for i, n := range nodes {
			wg.Go(func() {
				if errs[i] = do(n); errs[i] != nil {
					g.rediscover(n)
				}
			})
		}
		wg.Wait()
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		same := slices.Equal(nodes, g.topology.Load().nodes)
		switch over := time.Until(until) < pause; {
		case len(errs) == 0 && same:
			return nil
		case over && len(errs) == 0:
			return errChanged
		case over || same && !slices.ContainsFunc(errs, transient):
			return errs[max(slices.IndexFunc(errs, func(err error) bool { return err != replay.ErrFull }), 0)]
		}
		time.Sleep(pause)
	}
}

// insert is the script that writes a revocation. KEYS are the revision, the
// order, the marks and the tokens. ARGV are the name, the moment, the most
// revocations there may be, the moment up to which they have expired, and for
// how many milliseconds they are kept. It returns 0, or 1 if there is no room
// for a token.
//
// It writes the order last: a name without a rank is incomplete, and the next
// call writes it again. If there are too many, the earliest of 16 moments
// become that of everyone. An empty name is written nowhere: it shows whether
// the user may run all commands.
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
	redis.call('SET', KEYS[1], string.format('%.0f', redis.call('INCRBY', KEYS[1], 0)))
	for i = 2, 4 do redis.call('ZADD', KEYS[i], 'XX', 0, name) end
	redis.call('ZSCORE', KEYS[2], name)
	drop(KEYS[3], name)
end
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 16)) do
	drop(KEYS[4], over)
end
local set = string.sub(name, 1, 1) == 't' and KEYS[4] or KEYS[3]
if set == KEYS[4] and not redis.call('ZSCORE', KEYS[4], name)
	and (redis.call('ZCARD', KEYS[2]) >= room or redis.call('ZCARD', KEYS[4]) >= room / 2) then return 1 end
if name ~= '' then raise(set, name, moment) end
merge(redis.call('ZCARD', KEYS[2]) - room)
for i = 2, 4 do
	if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
end
return 0`

// insert adds the command that writes a revocation.
func (n *node) insert(p *pipeline, r revocation) {
	c, k := &n.g.config, n.keys.Load()
	now, life := c.Now().Unix(), int64(kept/time.Second)
	p.add("EVAL", insert, "4", k.revision, k.order, k.marks, k.tokens,
		r.name, strconv.FormatInt(r.moment, 10),
		strconv.Itoa(c.MaxRevocations+1), // everyone's does not count
		strconv.FormatInt(now-life, 10),
		strconv.FormatInt(1000*(max(r.moment-now, 0)+life), 10))
}

// revoke tries once to write a revocation to n. If a reply is lost, it may be
// written again. It fails if the guard does not rely on the server at the end:
// other gateways may ask another one.
func (n *node) revoke(until time.Time, r revocation) error {
	if err := n.verify(until); err != nil {
		return err
	}
	return n.write(until, r)
}

// write writes revocations. Any other error takes precedence over a full
// server.
func (n *node) write(until time.Time, all ...revocation) error {
	var p pipeline
	for _, r := range all {
		n.insert(&p, r)
	}
	replies, a, err := n.round(until, &p, nil)
	var full error
	for _, r := range replies {
		switch {
		case r.kind != ':':
			return r.odd()
		case r.text != "0":
			full = replay.ErrFull
		}
	}
	if err == nil {
		err = n.standing(a)
	}
	return cmp.Or(err, full)
}

// standing returns errChanged if this guard does not rely on the server of a.
// The revision does not matter.
func (n *node) standing(a answer) error {
	var t trust
	n.change(func(b belief) belief {
		b, t = b.judge(a, clockOf(n.g.config.Now()))
		return b
	})
	if t == verifyAnew {
		return errChanged
	}
	return nil
}

// writeBack writes what this process revoked lately to a server that may not
// have it. It first rehearses the commands, so that a missing permission shows
// at the start. The caller holds asking.
func (n *node) writeBack(until time.Time) error {
	all := append([]revocation{{}}, n.g.remember(revocation{})...)
	for some := range slices.Chunk(all, batch) {
		if err := n.write(until, some...); err != nil && err != replay.ErrFull {
			return err
		}
	}
	return nil
}

// after is the script that returns the revision, and then the name, moment and
// rank of each revocation after the rank ARGV[1], in their order, at most
// ARGV[2] of them. KEYS are those of insert.
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

// catchUp fetches the revocations after known, or all if the revision of a is
// less. If its time is up, the next call continues after the last page. The
// caller holds asking.
func (n *node) catchUp(until time.Time, a answer, known int64) error {
	if a.revision < known {
		known = 0
	}
	for more := true; more; {
		var p pipeline
		k := n.keys.Load()
		p.add("EVAL", after, "4", k.revision, k.order, k.marks, k.tokens, strconv.FormatInt(known, 10), strconv.Itoa(page))
		replies, end, err := n.round(until, &p, nil)
		if err != nil {
			return err
		}
		fetched := replies[0].array
		if len(fetched)%3 != 1 {
			return replies[0].odd()
		}
		if known, err = n.g.applyPage(fetched[1:]); err != nil {
			return err
		}
		if more = len(fetched) > 3*page; !more {
			if known, err = strconv.ParseInt(fetched[0].text, 10, 64); err != nil {
				return errReply
			}
		}
		if err := n.caughtUp(end, known); err != nil {
			return err
		}
	}
	return nil
}

// applyPage applies the revocations of a reply to after, and returns the last
// rank.
func (g *Guard) applyPage(fetched []reply) (rank int64, err error) {
	now := g.config.Now()
	for entry := range slices.Chunk(fetched, 3) {
		moment, err := strconv.ParseFloat(entry[1].text, 64)
		if err != nil {
			return 0, errReply
		}
		if rank, err = strconv.ParseInt(entry[2].text, 10, 64); err != nil {
			return 0, errReply
		}
		t, before := targetOf(entry[0].text), time.Unix(int64(moment), 0)
		if t.Token != (token.ID{}) {
			before = time.Time{}
		}
		if err := g.revoked.Revoke(now, t, before); err == replay.ErrFull {
			return 0, err // without room, nothing may be spent
		}
	}
	return rank, nil
}

// caughtUp relies on the revocations up to a revision, if a, the answer of the
// pipeline that fetched the last of them, allows it.
func (n *node) caughtUp(a answer, revision int64) error {
	var t trust
	n.change(func(b belief) belief {
		b, t = b.caughtUp(a, revision, clockOf(n.g.config.Now()))
		return b
	})
	if t != believe {
		return errChanged
	}
	return nil
}

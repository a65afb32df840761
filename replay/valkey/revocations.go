package valkey

import (
	"context"
	"strconv"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// insert is the script that writes a revocation. KEYS are the state, the sorted set of
// names in the order of their revisions, and the hash of marks. ARGV are the fixed
// part of the state, the name, the mark, how many revocations there may be, up to
// which mark they are over, and for how many milliseconds they are kept.
//
// If the state has another fixed part, the script changes nothing and answers -1.
// After it has written, it looks at the oldest 16: those that are over, or too many,
// are merged into the revocation of everyone ('a'), which fails closed. The new
// revision goes into the state last; it is what other gateways notice.
const insert = `
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

// revoke tries once to write a revocation to n. If the reply is lost, to write it
// again does no harm.
func (n *node) revoke(ctx context.Context, name string, mark int64) error {
	v, err := n.verify(ctx)
	if err != nil {
		return err
	}
	revision, err := n.client.Do(ctx, n.insert(v, name, mark)).ToInt64()
	switch {
	case err != nil:
		return reason(err)
	case revision < 0:
		n.forget(v)
		return errChanged
	}
	return nil
}

// insert returns the command that runs the script insert.
func (n *node) insert(v *verified, name string, mark int64) client.Completed {
	c, k := &n.g.config, n.keys.Load()
	s, _ := parseState(v.state)
	now := c.Now().Unix()
	kept := int64((longestSession + c.Margin) / time.Second)
	return n.client.B().Eval().Script(insert).Numkeys(3).Key(k.state, k.order, k.marks).Arg(
		s.fixed(), name, strconv.FormatInt(mark, 10),
		itoa(c.MaxRevocations+1), // that of everyone does not count
		strconv.FormatInt(now-kept, 10),
		strconv.FormatInt(1000*(max(mark-now, 0)+kept), 10)).Build()
}

// after is the script that returns the state, and then the name, mark and revision of
// each revocation after the revision ARGV[1], in their order, at most ARGV[2] of them.
// KEYS are those of insert.
const after = `
local reply = {redis.call('GET', KEYS[1]) or ''}
local page = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #page, 2 do
	reply[#reply + 1] = page[i]
	reply[#reply + 1] = redis.call('HGET', KEYS[3], page[i]) or '0'
	reply[#reply + 1] = page[i + 1]
end
return reply`

// moreRoom is how many times as many revocations a gateway has room for as there may be.
// Where there is no room left, replay.Revocations has the older half stand for everyone.
// With twice the room, that half is what the servers have merged already, one after the
// other, and nobody else is taken for revoked.
const moreRoom = 2

// page is how many revocations are fetched at a time, so that no server stands still
// for long.
const page = 1000

// catchUp fetches the revocations that n has and this guard does not know yet, up to
// the revision of s. It returns false if another epoch has begun meanwhile.
func (n *node) catchUp(ctx context.Context, s state) (bool, error) {
	if s.epoch != n.known.epoch {
		n.left, n.known = n.known.epoch, state{epoch: s.epoch, mark: s.mark} // of its revocations, none
	}
	for n.known.revision < s.revision {
		k := n.keys.Load()
		reply, err := n.client.Do(ctx, n.client.B().Eval().Script(after).Numkeys(3).Key(k.state, k.order, k.marks).
			Arg(strconv.FormatInt(n.known.revision, 10), itoa(page)).Build()).AsStrSlice()
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

// applyPage applies the revocations of a reply to after. A page that is not full is the
// last one up to revision, even if it ends before: some revisions have been merged.
func (n *node) applyPage(reply []string, revision int64) {
	for i := 0; i < len(reply); i += 3 {
		mark, _ := strconv.ParseInt(reply[i+1], 10, 64)
		if reply[i] != "" && mark > 0 {
			n.g.apply(reply[i], mark)
		}
		n.known.revision, _ = strconv.ParseInt(reply[i+2], 10, 64)
	}
	if len(reply) < 3*page {
		n.known.revision = max(n.known.revision, revision)
	}
}

package valkey

import (
	"context"
	"strconv"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"
)

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

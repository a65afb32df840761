package valkey

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// state is what the state key of a server says of its data: for the process with
// that identity, they are complete since the epoch began.
type state struct {
	epoch    string // random: no two are the same
	identity string // see Config.identity
	mark     int64  // a Unix second: tokens issued up to a ClockSkew after it count as issued before the epoch
	revision int64  // counts the revocations that were written
}

// String returns the value of the key.
func (s state) String() string { return s.fixed() + strconv.FormatInt(s.revision, 10) }

// fixed returns what stays the same for an epoch: all but the revision, which comes
// last, so that scripts can compare what is before it as a whole.
func (s state) fixed() string {
	return strings.Join([]string{"1", s.epoch, s.identity, strconv.FormatInt(s.mark, 10), ""}, " ")
}

// parseState is the inverse of String; what String does not write is not ok.
func parseState(text string) (s state, ok bool) {
	fields := strings.Split(text, " ")
	if len(fields) != 5 {
		return state{}, false
	}
	s.epoch, s.identity = fields[1], fields[2]
	s.mark, _ = strconv.ParseInt(fields[3], 10, 64)
	s.revision, _ = strconv.ParseInt(fields[4], 10, 64)
	return s, s.String() == text
}

// sameEpoch reports whether two values of the key differ in nothing but the revision,
// if at all.
func sameEpoch(a, b string) bool {
	i := strings.LastIndexByte(a, ' ')
	return i >= 0 && i == strings.LastIndexByte(b, ' ') && a[:i] == b[:i]
}

// reaches reports whether the value a of the key is of the same epoch as b, and has at
// least its revision.
func reaches(a, b string) bool {
	x, okA := parseState(a)
	y, okB := parseState(b)
	return okA && okB && x.fixed() == y.fixed() && x.revision >= y.revision
}

// bogus reports whether a mark is so far ahead that the clocks were wrong when it was
// made. To obey it would refuse everything until then.
func (c *Config) bogus(mark int64) bool {
	return time.Unix(mark, 0).After(c.Now().Add(2 * c.Margin))
}

// adopt is the script that begins an epoch: it sets the state (KEYS[1]), if that still
// has the value ARGV[1], to ARGV[2] and a revision, and returns the value that the
// state has then. The revision is that of the last revocation (KEYS[2]) that the
// server still has.
const adopt = `
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return now end
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
now = ARGV[2] .. (last[2] or '0')
redis.call('SET', KEYS[1], now)
return now`

// declareLoss begins an epoch in which everything issued before now is refused, unless
// another gateway has just done so. old is the value of the state key. Whatever was
// lost was lost before the server answered, and the clock is read after that. The
// mark does not go back, or other gateways would take the epoch for an older one.
func (n *node) declareLoss(ctx context.Context, old, identity string) error {
	next := state{epoch: rand.Text(), identity: identity, mark: n.g.mark()}
	if !n.g.config.bogus(n.known.mark) {
		next.mark = max(next.mark, n.known.mark)
	}
	k := n.keys.Load()
	err := n.client.Do(ctx, n.client.B().Eval().Script(adopt).Numkeys(2).
		Key(k.state, k.order).Arg(old, next.fixed()).Build()).Error()
	if err != nil && !client.IsValkeyNil(err) {
		return reason(err)
	}
	n.g.count.losses.Add(1)
	return nil
}

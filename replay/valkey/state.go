package valkey

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// state is what the state key of a server says of its data: they are whole since
// the epoch began, for the process with that identity, and tokens issued up to
// mark count as issued before. revision counts the revocations.
type state struct {
	epoch    string // random: no two are the same
	identity string
	mark     int64 // a Unix second
	revision int64
}

// String returns the value of the key. All but the revision come first: scripts
// compare that part as a whole.
func (s state) String() string { return s.fixed() + strconv.FormatInt(s.revision, 10) }

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

// sameEpoch reports whether two values of the key differ in the revision at most.
func sameEpoch(a, b string) bool {
	i := strings.LastIndexByte(a, ' ')
	return i >= 0 && i == strings.LastIndexByte(b, ' ') && a[:i] == b[:i]
}

// bogus reports whether the mark of s is further ahead than any clock can have
// been that agrees with the server's as far as is asked for. It would refuse
// everything until then.
func (c *Config) bogus(s state) bool {
	return time.Unix(s.mark, 0).After(c.Now().Add(c.ClockSkew + 2*c.Margin))
}

// adopt sets the state if it is still what it was, and returns what it is then.
// The revision goes on from the last revocation that the server has.
var adopt = `
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return now end
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
now = ARGV[2] .. (last[2] or '0')
redis.call('SET', KEYS[1], now)
return now`

// declareLoss begins a new epoch, in which everything issued before now is
// refused, unless another gateway did so meanwhile. The clock is read now that
// the server has answered: whatever was lost was lost before. The mark is not below
// the one before it, or other gateways would take the new epoch for an older one.
func (n *node) declareLoss(ctx context.Context, old, identity string) error {
	next := state{epoch: rand.Text(), identity: identity, mark: n.g.mark()}
	if !n.g.config.bogus(n.since) {
		next.mark = max(next.mark, n.since.mark)
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

package etcd

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

const (
	second = millis(1000)
	minute = 60 * second
	hour   = 60 * minute

	noon = 1_800_000_000 * second // some whole second
)

// tokenOf returns a token that was issued so long after noon.
func tokenOf(after, ttl millis) token.Summary {
	return token.Summary{
		TokenID:  token.ID{1},
		IssuedAt: (noon + after).time(), Expiration: (noon + after + ttl).time(),
	}
}

func TestRuling(t *testing.T) {
	h := history{mark: noon + 900} // the second counts
	for name, c := range map[string]struct {
		issued, ttl, now, wall millis
		want                   error
	}{
		"at the edge of the mark": {issued: 5 * second, ttl: minute, want: ErrDataLost},
		"after the mark":          {issued: 6 * second, ttl: minute, now: 6 * second, wall: 6 * second},
		"ahead by the skew":       {issued: 12 * second, ttl: minute, now: 7 * second, wall: 7 * second},
		"ahead by more":           {issued: 13 * second, ttl: minute, now: 13 * second, wall: 7999, want: errTokenAhead},
		"lives long":              {issued: 12 * second, ttl: 10 * minute, now: 7 * second, wall: 7 * second},
		"too long":                {issued: 12 * second, ttl: 10*minute + 2*second, now: 7 * second, wall: 7 * second, want: errTokenLong},
		"over by the own clock":   {issued: 6 * second, ttl: minute, now: 7 * second, wall: 66 * second, want: errTokenOver},
		"almost over":             {issued: 6 * second, ttl: minute, now: 7 * second, wall: 66*second - 1},
		"too long for the caller": {issued: 6 * second, ttl: 10 * minute, now: -minute, wall: 6 * second, want: errTokenLong},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.ruling(tokenOf(c.issued, c.ttl), noon+c.now, instant{wall: noon + c.wall})
			assert.Equal(t, c.want, got)
		})
	}
}

func TestSetBack(t *testing.T) {
	begin := instant{wall: noon}
	for name, c := range map[string]struct {
		steps  []instant // relative to begin
		latest millis
		want   millis // the mark, relative to noon
	}{
		"runs":                        {steps: []instant{{hour, hour}}},
		"slewed":                      {steps: []instant{{hour - 9*second, hour}, {2*hour - 10*second, 2 * hour}}},
		"slewed too far":              {steps: []instant{{hour - 9*second, hour}, {2*hour - 11*second, 2 * hour}}, want: 2 * hour},
		"an hour back":                {steps: []instant{{minute - hour, minute}}, want: minute},
		"an hour back, then goes on":  {steps: []instant{{minute - hour, minute}, {0, minute + hour}}, want: minute},
		"forward is no harm":          {steps: []instant{{hour, minute}}},
		"forward and back":            {steps: []instant{{hour, 0}, {minute, minute}}, want: hour + minute},
		"ten years, a minute, back":   {steps: []instant{{87_600 * hour, 0}, {minute, minute}}, want: minute},
		"the same, with tokens spent": {steps: []instant{{87_600 * hour, 0}, {minute, minute}}, latest: 87_600 * hour, want: 87_600 * hour},
		"stood still, all of it":      {steps: []instant{{second, second}, {second, second}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(begin)
			if c.latest != 0 {
				h.latest = noon + c.latest
			}
			for _, s := range c.steps {
				h.notice(instant{noon + s.wall, s.steady})
			}
			assert.Equal(t, c.want, h.mark-noon)
		})
	}
}

func TestRaise(t *testing.T) {
	h := start(instant{wall: noon})
	h.attempt(tokenOf(20*second, minute))
	h.raise(instant{noon + second, second})
	assert.Equal(t, 15*second, h.mark-noon, "what it was shown, less the skew")
	h.raise(instant{noon + minute, minute})
	assert.Equal(t, minute, h.mark-noon)
	h.raise(instant{noon, minute})
	assert.Equal(t, minute, h.mark-noon, "never back")
}

func TestBelief(t *testing.T) {
	b := believeIn("m", "g", "r1", "r2")
	b.revocations = "c"
	meets := func(value string) bool { return value > b.conditions("")[2].value }
	older := b.value
	for name, c := range map[string]struct {
		reading reading
		want    finding
	}{
		"as believed":      {reading{"m", b.value, "c"}, holds},
		"revoked":          {reading{"m", b.value, "d"}, holds},
		"beat":             {reading{"m", b.next, "c"}, beats},
		"another marker":   {reading{"n", b.value, "c"}, strange},
		"own key gone":     {reading{"m", "", "c"}, strange},
		"a clone's":        {reading{"m", beatValue(2, "clone"), "c"}, strange},
		"a clone's, equal": {reading{"m", beatValue(1, "clone"), "c"}, strange},
		"older":            {reading{"m", beatValue(0, "r0"), "c"}, restored},
		"older and marked": {reading{"n", beatValue(0, "r0"), "c"}, strange},
		"no marker":        {reading{"", b.value, "c"}, restored},
		"no counter":       {reading{"m", b.value, ""}, restored},
		"nothing":          {reading{}, restored},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, b.judge(c.reading)) })
	}
	assert.True(t, meets(b.value))
	assert.True(t, meets(b.next), "a beat under way does not matter")
	for range 300 { // more than one digit
		b.beaten("r")
		assert.True(t, meets(b.value))
		assert.True(t, meets(b.next))
		assert.False(t, meets(older), "one beat before is too old")
		assert.Equal(t, restored, b.judge(reading{"m", older, "c"}))
		older = b.value
	}
	var none belief
	assert.Equal(t, strange, none.judge(reading{"m", "", "c"}), "who starts adopts")
}

func TestBeliefOver(t *testing.T) {
	b := belief{beat: instant{noon, hour}}
	for name, c := range map[string]struct {
		wall, steady millis // since the beat
		want         bool
	}{
		"at once":               {},
		"at the edge":           {wall: 30 * second, steady: 30 * second},
		"cut off":               {wall: 30 * second, steady: 30*second + 1, want: true},
		"steady stood still":    {wall: 30*second + 1, want: true},
		"for a day":             {wall: 24 * hour, want: true},
		"a wrong clock":         {wall: 24*hour + 1},
		"a wrong clock, behind": {wall: -87_600 * hour, steady: second},
		"set back, and cut off": {wall: -hour, steady: minute, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, b.over(instant{b.beat.wall + c.wall, b.beat.steady + c.steady}))
		})
	}
}

func TestLeaseChoice(t *testing.T) {
	const expires = int64(noon/second) + 40
	at := instant{wall: noon}
	granted := func(ttl millis) *lease { return &lease{id: 1, asked: at, ttl: ttl} }
	assert.EqualValues(t, 40+60+5+1, leaseTTL(expires, noon))
	for name, c := range map[string]struct {
		lease lease
		at    instant
		now   millis
		want  bool
	}{
		"enough":               {lease: *granted(100 * second), at: at, now: noon, want: true},
		"too short":            {lease: *granted(99 * second), at: at, now: noon},
		"later":                {lease: *granted(100 * second), at: instant{noon + 9*second, 9 * second}, now: noon + 9*second, want: true},
		"the clock is back":    {lease: *granted(100 * second), at: instant{noon - hour, 9 * second}, now: noon},
		"slow caller":          {lease: *granted(100 * second), at: instant{noon + 9*second, 9 * second}, now: noon},
		"steady stood still":   {lease: *granted(100 * second), at: instant{noon + 9*second, 0}, now: noon},
		"missing":              {lease: lease{asked: at, ttl: hour, missing: true}, at: at, now: noon},
		"the clock is forward": {lease: *granted(105 * second), at: instant{noon + hour, second}, now: noon + second},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, c.lease.fits(expires, c.now, c.at)) })
	}

	ls := leases{}
	assert.Nil(t, ls.take(expires, noon, at))
	assert.Equal(t, []int64{expires}, ls.ask(expires, noon, at))
	assert.Empty(t, ls.ask(expires, noon, at), "asked already")
	first := granted(110 * second)
	ls.answer(expires, first)
	for i := range leaseKeys {
		require.Same(t, first, ls.take(expires, noon, at))
		seconds := ls.ask(expires, noon, at)
		switch i {
		case 1:
			require.Equal(t, []int64{expires + 1}, seconds, "tokens are many")
		case leaseKeys/2 - 1:
			require.Equal(t, []int64{expires}, seconds, "before it is full")
		default:
			require.Empty(t, seconds)
		}
	}
	assert.Nil(t, ls.take(expires, noon, at), "full")
	second2 := granted(110 * second)
	ls.answer(expires, second2)
	assert.Same(t, second2, ls.take(expires, noon, at))
	ls.answer(expires+1, nil)
	assert.NotContains(t, ls, expires+1, "none was granted")
	second2.missing = true
	ls.sweep(at)
	assert.Equal(t, []*lease{first}, ls[expires])
	ls.sweep(instant{noon + 51*second, 51 * second})
	assert.Empty(t, ls)
}

func callOf(n uint64) *call {
	c := &call{token: tokenOf(0, 40*second), now: noon, began: instant{wall: noon}, value: "mine"}
	binary.BigEndian.PutUint64(c.token.TokenID[:], n+1)
	return c
}

func TestForm(t *testing.T) {
	at := instant{wall: noon}
	good := &lease{asked: at, ttl: hour}
	all := func(*call) *lease { return good }
	var queue []*call
	for n := range uint64(maxBatch + 50) {
		queue = append(queue, callOf(n))
	}
	queue[3].left = true
	queue[5].token.TokenID = queue[4].token.TokenID
	batch, rest, gone := form(queue, at, all)
	assert.Len(t, batch, maxBatch)
	assert.Equal(t, []*call{queue[3]}, gone)
	require.Len(t, rest, 49)
	assert.Same(t, queue[5], rest[0], "the same token waits for the next transaction")
	assert.Same(t, queue[maxBatch+2], rest[1], "the order stays")

	none := func(*call) *lease { return nil }
	batch, rest, _ = form(rest, at, none)
	assert.Empty(t, batch, "no lease, no spend")
	assert.Len(t, rest, 49)

	// A repeated call keeps its lease while that fits, and then takes
	// another.
	c := callOf(1)
	c.used = []*lease{good}
	batch, _, _ = form([]*call{c}, at, none)
	assert.Len(t, batch, 1)
	other := &lease{asked: at, ttl: hour}
	good.missing = true
	form([]*call{c}, at, func(*call) *lease { return other })
	assert.Equal(t, []*lease{good, other}, c.used)
}

func TestJudge(t *testing.T) {
	began := instant{wall: noon + 10*second, steady: second}
	later := func(d millis) instant { return instant{began.wall + d, began.steady + d} }
	created, lost := outcome{created: true}, outcome{value: "mine"}
	for name, c := range map[string]struct {
		outcome outcome
		at      instant
		mark    millis
		ttl     millis // of the lease
		fresh   bool
		err     error
	}{
		"created":            {outcome: created, at: later(second), ttl: 2 * minute, fresh: true},
		"recognised":         {outcome: lost, at: later(second), ttl: 2 * minute, fresh: true},
		"another's":          {outcome: outcome{value: "theirs"}, at: later(second), ttl: 2 * minute},
		"nothing":            {at: later(second), ttl: 2 * minute, err: errReply},
		"marked meanwhile":   {outcome: created, at: later(second), mark: noon + 5*second, ttl: 2 * minute, err: ErrDataLost},
		"set back meanwhile": {outcome: created, at: instant{noon - minute, 2 * second}, ttl: 2 * minute, err: errTokenAhead},
		"expired meanwhile":  {outcome: created, at: later(40 * second), ttl: 3 * minute, err: errTokenOver},
		"by steady alone":    {outcome: lost, at: instant{began.wall, began.steady + 40*second}, ttl: 3 * minute, err: errTokenOver},
		"lease at the edge":  {outcome: created, at: later(0), ttl: minute + 10*second, fresh: true},
		"lease too short":    {outcome: created, at: later(0), ttl: minute + 9*second, err: errForgotten},
		"steady stood still": {outcome: created, at: instant{began.wall + 10*second, began.steady}, ttl: minute + 10*second, err: errForgotten},
	} {
		t.Run(name, func(t *testing.T) {
			h := history{mark: c.mark}
			call := &call{token: tokenOf(10*second, 40*second), value: "mine", now: began.wall, began: began}
			call.used = []*lease{{asked: began, ttl: hour}, {asked: began, ttl: c.ttl}, {asked: began, missing: true}}
			fresh, err := call.judge(c.outcome, &h, c.at)
			assert.Equal(t, c.fresh, fresh)
			assert.Equal(t, c.err, err)
		})
	}
}

func TestNames(t *testing.T) {
	names := map[string]bool{}
	for _, target := range []token.Target{
		{Everyone: true}, {User: "u"}, {Room: "u"}, {Room: "a", User: "bc"}, {Room: "ab", User: "c"},
		{User: `","Room":"x`}, {User: "\x00<&>\u2028"}, {Token: token.ID{1, 2}}, {Token: token.ID{255}},
		{Room: strings.Repeat("r", 128), User: strings.Repeat("\U0010FFFF", 128)},
	} {
		require.NoError(t, target.Validate())
		name := nameOf(target)
		assert.Equal(t, target, targetOf([]byte(name)))
		assert.False(t, names[name])
		names[name] = true
	}
	assert.Zero(t, targetOf([]byte("{")))
	assert.Less(t, momentValue(9), momentValue(10))
	assert.Less(t, momentValue(-1), momentValue(0))
	got, ok := momentOf([]byte(momentValue(maxSecond)))
	assert.True(t, ok)
	assert.Equal(t, maxSecond, got)
	for _, odd := range []string{"", "x", "-00000000001", momentValue(maxSecond + 1)} {
		_, ok := momentOf([]byte(odd))
		assert.False(t, ok, odd)
	}
	const now = noon
	assert.EqualValues(t, 3*3600+61, revocationTTL(int64(now/second), now))
	assert.EqualValues(t, 3*3600+61, revocationTTL(0, now))
	assert.EqualValues(t, 3*3600+61+3600, revocationTTL(int64(now/second)+3600, now))
	assert.LessOrEqual(t, revocationTTL(maxSecond, now), int64(9_000_000_000))
	assert.Equal(t, 3*time.Hour+time.Minute, revocationLife)
}

package fuzz_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// FuzzGuard runs a program: the clock runs, jumps ahead and back, calls are
// held up, guards restart, and tokens are spent. A map knows which tokens were
// accepted. None may be accepted twice, and every refusal must be one that the
// documentation allows then.
func FuzzGuard(f *testing.F) {
	f.Fuzz(func(t *testing.T, program []byte) {
		w := newWatch(t)
		w.tape = program
		for range 2000 {
			if len(w.tape) == 0 {
				break
			}
			w.step()
		}
		w.checkStats()
	})
}

// The guard is small, so a short program fills it. All tokens belong to one or
// two of its shards.
const (
	guardTTL      = 10 * time.Second
	guardSkew     = 2 * time.Second
	guardLifetime = 13 // seconds: TTL, skew and one
	guardCapacity = guardLifetime
	guardBound    = 2 * 20 // the most tokens that two shards hold
)

// watch is a guard and all that is known about it.
type watch struct {
	t testing.TB
	tape
	guard  *replay.Guard
	now    time.Time
	latest time.Time // the latest time that the clock has shown
	held   time.Time // what a held-up caller has read
	tokens []token.Summary
	in     map[token.ID]bool // accepted by any guard

	// Of this guard:
	started     int64
	forward     bool              // no caller saw the clock go back
	spent       map[token.ID]bool // accepted
	expirations []int64           // of accepted tokens
	fresh, not  uint64            // answers
}

func newWatch(t testing.TB) *watch {
	w := &watch{t: t, now: after(500_000_000), held: after(0), in: map[token.ID]bool{}}
	w.latest = w.now
	w.restart()
	return w
}

// restart makes a new guard, as in a process that has stored the latest time
// that its clock has shown.
func (w *watch) restart() {
	var err error
	w.guard, err = replay.New(replay.Config{
		Limits:    keyring.Limits{MaxTTL: guardTTL, ClockSkew: guardSkew},
		Rate:      1,
		NotBefore: w.latest,
		Now:       func() time.Time { return w.now },
	})
	require.NoError(w.t, err)
	w.started = w.latest.Add(guardSkew).Unix()
	require.Equal(w.t, w.started+1, w.guard.ReadyAt().Unix())
	w.forward = w.now.Equal(w.latest)
	w.spent, w.expirations = map[token.ID]bool{}, nil
	w.fresh, w.not = 0, 0
}

// The steps of a program.
const (
	spendNew   = iota // a token that is minted now
	keep              // the same, but spend it later
	spendOld          // one that was minted earlier
	run               // the clock, by up to four seconds
	jump              // the clock, ahead or back
	hold              // read the clock, and
	spendHeld         // spend at the time that it showed
	restart           // the guard
	burst             // spend many new tokens
	watchSteps        // how many there are
)

func (w *watch) step() {
	switch w.next() % watchSteps {
	case spendNew:
		w.spend(w.mint(w.next()), w.now)
	case keep:
		w.mint(w.next())
	case spendOld:
		if n := len(w.tokens); n > 0 {
			w.spend(w.tokens[n-1-int(w.next())%n], w.now)
		}
	case run:
		w.setClock(w.now.Add(time.Duration(w.next()) * time.Second / 64))
	case jump:
		seconds := [...]int64{1, 12, 13, 16, 17, 3600, 315576000, 1}[w.next()%8]
		if w.next()%2 == 1 {
			seconds = -seconds
		}
		w.setClock(time.Unix(w.now.Unix()+seconds, int64(w.now.Nanosecond())))
	case hold:
		w.held = w.now
	case spendHeld:
		w.forward = w.forward && w.held.Unix() == w.now.Unix()
		if n := len(w.tokens); n > 0 {
			w.spend(w.tokens[n-1-int(w.next())%n], w.held)
		}
	case restart:
		w.restart()
	case burst:
		kind := w.next()
		for range w.next() % 64 {
			w.spend(w.mint(kind), w.now)
		}
	}
}

func (w *watch) setClock(now time.Time) {
	// Neither issuer nor guard work before 1970, or this far ahead.
	if now.Unix() < 0 || now.Unix() > maxUnix-1000 {
		return
	}
	w.forward = w.forward && !now.Before(w.now)
	w.now = now
	if now.After(w.latest) {
		w.latest = now
	}
}

// mint makes a token, by a clock that is off by at most the skew.
func (w *watch) mint(kind byte) token.Summary {
	issued := w.now.Add(guardSkew * time.Duration(int(kind%16)-8) / 8).Unix()
	ttl := 5 + int64(kind>>4)%8 // up to two seconds too long
	id := token.ID(pseudo(16, "token "+string(rune(len(w.tokens)))))
	// The second half selects one of the 16 shards.
	binary.LittleEndian.PutUint64(id[8:], uint64(kind>>7))
	minted := token.Summary{TokenID: id, IssuedAt: time.Unix(issued, 0), Expiration: time.Unix(issued+ttl, 0)}
	w.tokens = append(w.tokens, minted)
	return minted
}

// spend compares one answer with what is known.
func (w *watch) spend(s token.Summary, now time.Time) {
	fresh, err := w.guard.Spend(w.t.Context(), now, s)
	expiration := s.Expiration.Unix()
	switch {
	case s.IssuedAt.Unix() <= w.started:
		require.Equal(w.t, replay.ErrBeforeStart, err)
	case expiration > now.Unix()+guardLifetime, s.IssuedAt.After(now.Add(guardSkew)):
		require.Equal(w.t, replay.ErrTooLong, err)
	case expiration <= now.Unix():
		require.Equal(w.t, replay.ErrForgotten, err)
	case err == replay.ErrForgotten:
		require.False(w.t, w.forward, "forgotten too early")
		require.True(w.t, w.between(expiration), "forgotten, but nothing was spent there")
	case err == replay.ErrFull:
		require.GreaterOrEqual(w.t, w.live(now), guardCapacity, "full too early")
	default:
		require.NoError(w.t, err)
		require.Equal(w.t, !w.spent[s.TokenID], fresh)
	}
	if err != nil {
		require.False(w.t, fresh)
		require.ErrorIs(w.t, err, token.ErrUnavailable)
		return
	}
	if !fresh {
		w.not++
		return
	}
	require.False(w.t, w.in[s.TokenID], "accepted twice")
	w.in[s.TokenID], w.spent[s.TokenID] = true, true
	w.expirations = append(w.expirations, expiration)
	w.fresh++
	if w.forward { // otherwise the guard may forget some
		require.LessOrEqual(w.t, w.live(now), guardBound, "memory is not bounded")
	}
}

// between reports whether a second lies between two of the expirations.
func (w *watch) between(second int64) bool {
	before, behind := false, false
	for _, e := range w.expirations {
		before = before || e <= second
		behind = behind || e >= second
	}
	return before && behind
}

// live counts the accepted tokens that are not expired.
func (w *watch) live(now time.Time) (n int) {
	for _, e := range w.expirations {
		if e > now.Unix() && e <= now.Unix()+guardLifetime {
			n++
		}
	}
	return n
}

func (w *watch) checkStats() {
	stats := w.guard.Stats(w.now)
	require.Equal(w.t, guardCapacity, stats.Capacity)
	require.Equal(w.t, w.fresh, stats.Fresh)
	require.Equal(w.t, w.not, stats.Spent)
	require.LessOrEqual(w.t, stats.Live, min(guardBound, len(w.expirations)))
}

func guardSeeds(testing.TB) []seed {
	// A guard is ready after the skew. The first token has 10 s, by a clock
	// that is right. The other one expires as late as the guard can
	// remember.
	const token, latest = 0x58, 0x6f
	ready := []byte{run, 192}
	program := func(b ...byte) []any { return args(append(ready[:len(ready):len(ready)], b...)) }
	// 34 s ahead, and back. A program that goes back first jumps ahead
	// before.
	ahead, back := []byte{jump, 4, 0, jump, 4, 0}, []byte{jump, 4, 1, jump, 4, 1}
	var intervals []byte
	for range 12 {
		intervals = slices.Concat(intervals, []byte{spendNew, token}, ahead)
	}
	for i := range byte(12) {
		intervals = slices.Concat(intervals, back, []byte{spendOld, i})
	}
	return []seed{
		{"too-early", args([]byte{spendNew, token})},
		{"once", program(spendNew, token, spendOld, 0, spendOld, 0)},
		{"expired", program(spendNew, token, run, 255, run, 255, run, 255, spendOld, 0)},
		{"last-second", program(spendNew, token, run, 255, run, 255, run, 64, spendOld, 0, run, 64, spendOld, 0)},
		{"kept", program(keep, token, run, 255, run, 255, run, 98, spendOld, 0)},
		{"latest", program(spendNew, latest, spendOld, 0)},
		{"too-late", program(spendNew, latest+0x10)},
		{"issuer-ahead", program(spendNew, 0x5f, spendOld, 0)},
		{"issuer-behind", program(spendNew, 0x50, spendOld, 0)},
		{"restart", program(spendNew, token, restart, spendOld, 0, spendNew, token, run, 255, spendNew, token)},
		{"restart-issuer-ahead", program(spendNew, 0x5f, restart, run, 130, spendOld, 0)},
		{"jump-and-back", program(spendNew, token, jump, 6, 0, spendNew, token, jump, 6, 1, spendOld, 1, spendNew, token)},
		{"twice-ahead-and-back", program(jump, 6, 0, spendNew, token, jump, 6, 1, jump, 6, 0, jump, 6, 0, spendNew, token, spendOld, 1, jump, 6, 1, jump, 6, 1, spendNew, token, spendOld, 2)},
		{"a-minute-back", program(jump, 5, 0, spendNew, token, jump, 4, 1, spendOld, 0, jump, 4, 0, spendOld, 0)},
		{"same-place", program(jump, 5, 0, spendNew, token, jump, 3, 1, spendNew, token, spendOld, 1, jump, 3, 0, spendOld, 1)},
		{"same-place-swept", program(jump, 5, 0, spendNew, token, jump, 3, 1, spendNew, token, run, 255, run, 255, run, 255, run, 255, spendNew, token, spendOld, 2)},
		{"held-up", program(spendNew, token, hold, run, 255, run, 255, run, 255, spendNew, token, spendHeld, 1)},
		{"held-up-since-before-issue", program(hold, run, 64, keep, 0x5f, spendHeld, 0)},
		{"held-up-beyond-a-jump", program(spendNew, token, hold, jump, 5, 0, spendNew, token, spendHeld, 1, jump, 5, 1, spendOld, 1)},
		{"full", program(burst, token, 63, run, 255, run, 255, run, 255, burst, token, 63)},
		{"full-and-spent", program(spendNew, latest, burst, token, 63, spendOld, 63)},
		{"full-then-back", program(jump, 5, 0, burst, token, 63, jump, 2, 1, burst, token, 63, jump, 2, 0, burst, token, 63)},
		{"many-intervals", args(append(ready[:len(ready):len(ready)], intervals...))},
	}
}

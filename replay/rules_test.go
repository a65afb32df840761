package replay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// The rules that SPEC.md states, each as a program small enough to try
// everything. Times are in quarters of a second, and tick 0 begins a second.

const ticksPerSecond = 4

func floorSecond(tick int) int {
	if tick < 0 {
		return -floorSecond(-tick + ticksPerSecond - 1)
	}
	return tick / ticksPerSecond
}

// issuedBefore are three rules for whether a token counts as issued before the
// tick T. It was issued in the second issued, by a clock that may be ahead.
var issuedBefore = []struct {
	name string
	rule func(issued, T, skew int) bool
	safe bool
}{
	{"issuedAt < T", func(issued, T, _ int) bool { return issued*ticksPerSecond < T }, false},
	{"issuedAt <= floor(T)", func(issued, T, _ int) bool { return issued <= floorSecond(T) }, false},
	{"issuedAt <= floor(T) + skew", func(issued, T, skew int) bool { return issued <= floorSecond(T)+skew }, true},
}

// TestRuleIssuedBefore is the rule for restarts and revocations. A token minted
// before T, by a clock ahead by up to the skew, must count as issued before T.
// Otherwise a guard that starts at T accepts what another accepted before. (An
// opener does not prevent it: at T the token has not expired, nor is it further
// in the future than the skew.)
func TestRuleIssuedBefore(t *testing.T) {
	const T = 10 * ticksPerSecond // up to a second later
	for _, r := range issuedBefore {
		holes := 0
		for skew := range 4 {
			for start := T; start < T+ticksPerSecond; start++ {
				for minted := 0; minted < start; minted++ {
					for ahead := -skew * ticksPerSecond; ahead <= skew*ticksPerSecond; ahead++ {
						if issued := floorSecond(minted + ahead); !r.rule(issued, start, skew) {
							holes++
						}
					}
				}
			}
		}
		t.Logf("%s: %d replays", r.name, holes)
		assert.Equal(t, r.safe, holes == 0, r.name)
	}
}

// TestRuleIsTight: if T is not a whole second, a token minted a tick before it
// can be issued in the last second that the rule covers. So nobody waits longer
// after a restart than necessary.
func TestRuleIsTight(t *testing.T) {
	for skew := range 4 {
		for start := 10*ticksPerSecond + 1; start < 11*ticksPerSecond; start++ {
			issued := floorSecond(start - 1 + skew*ticksPerSecond)
			assert.Equal(t, floorSecond(start)+skew, issued)
		}
	}
}

// TestGuardAndRevocationsFollowTheRule compares both with it.
func TestGuardAndRevocationsFollowTheRule(t *testing.T) {
	const tick = time.Second / ticksPerSecond
	rule := issuedBefore[2].rule
	for skew := 1; skew <= 3; skew++ {
		for start := range ticksPerSecond {
			at := epoch.Add(time.Duration(start) * tick)
			clockSkew := time.Duration(skew) * time.Second
			g, err := newAt(at, replay.Config{Rate: 1, Limits: keyring.Limits{ClockSkew: clockSkew}})
			require.NoError(t, err)
			var r replay.Revocations
			r.Revoke(at, token.Target{User: "u"}, at)
			for issued := -5; issued <= 5; issued++ {
				now := epoch.Add(time.Duration(issued) * time.Second)
				tok := tokenAt(uint64(issued+100), now, 10*time.Second)
				tok.UserID, tok.ClockSkew = []byte("u"), clockSkew
				want := rule(issued, start, skew)
				_, err := g.Spend(ctx, now, tok)
				assert.Equal(t, want, err == replay.ErrBeforeStart, "skew %d, start %d/4, issued %d", skew, start, issued)
				assert.Equal(t, want, r.Revoked(tok) != nil, "skew %d, start %d/4, issued %d", skew, start, issued)
			}
			ready := epoch.Add(clockSkew + time.Second)
			assert.Equal(t, ready, g.ReadyAt())
			requireError(t, g, ready, tokenAt(1, ready.Add(-1), 10*time.Second), replay.ErrBeforeStart)
			requireFresh(t, g, ready, tokenAt(2, ready, 10*time.Second))
		}
	}
}

func TestReadyAtWithOwnKeys(t *testing.T) {
	assert.True(t, newGuard(t, 1).ReadyAt().IsZero())
}

// horizons are rules for refusing what was forgotten, in a model of the guard:
// a map from expiration to whether it was spent.
var horizons = []struct {
	name           string
	replays, brick bool
	refuse         func(m *horizonModel, expiration int) bool
}{
	{"nothing", true, false, func(*horizonModel, int) bool { return false }},
	{"up to the latest time seen", false, true, func(m *horizonModel, e int) bool { return e <= m.latest }},
	{"up to the latest dropped", false, true, func(m *horizonModel, e int) bool { return e <= m.horizon }},
	{"what was dropped", false, false, func(m *horizonModel, e int) bool { return m.dropped[e] }},
}

type horizonModel struct {
	latest, horizon int // expirations
	held, dropped   map[int]bool
}

// spend spends the one token of an expiration.
func (m *horizonModel) spend(now, expiration int, refuse func(*horizonModel, int) bool) (fresh bool) {
	m.latest = max(m.latest, now)
	for e := range m.held {
		if e <= now {
			delete(m.held, e)
			m.dropped[e] = true
			m.horizon = max(m.horizon, e)
		}
	}
	if refuse(m, expiration) || m.held[expiration] {
		return false
	}
	m.held[expiration] = true
	return true
}

// TestRuleHorizon tries all ways to set a clock four times, and each time
// spends the token that expires soon after. A rule allows replays if a token is
// accepted twice. It bricks the guard if one is refused that nobody ever spent.
func TestRuleHorizon(t *testing.T) {
	const clocks, moves = 7, 5
	for _, h := range horizons {
		replays, bricks := 0, 0
		for sequence := range pow(clocks, moves) {
			m := horizonModel{held: make(map[int]bool), dropped: make(map[int]bool)}
			spent := make(map[int]bool)
			for ; sequence > 0; sequence /= clocks {
				now := sequence % clocks * 10
				fresh := m.spend(now, now+2, h.refuse)
				if fresh && spent[now+2] {
					replays++
				}
				if !fresh && !spent[now+2] {
					bricks++
				}
				spent[now+2] = spent[now+2] || fresh
			}
		}
		t.Logf("%s: %d replays, %d fresh tokens refused", h.name, replays, bricks)
		assert.Equal(t, h.replays, replays > 0, h.name)
		assert.Equal(t, h.brick, bricks > 0, h.name)
	}
}

func pow(base, exponent int) int {
	n := 1
	for range exponent {
		n *= base
	}
	return n
}

// TestRuleHorizonOfTheGuard does the same with a guard, and with more tokens.
func TestRuleHorizonOfTheGuard(t *testing.T) {
	clocks := []time.Duration{0, 1, time.Second, 4 * time.Second, 9 * time.Second, time.Hour, tenYears}
	const moves = 4
	for sequence := range pow(len(clocks), moves) {
		g, err := newAt(epoch, replay.Config{
			Rate: 1, Limits: keyring.Limits{MaxTTL: 5 * time.Second, ClockSkew: time.Second}, AcceptIssuedBeforeStart: true,
		})
		require.NoError(t, err)
		tokens := make(map[token.ID]token.Summary)
		spent := make(map[token.ID]bool)
		forgettable := make(map[time.Time]bool)
		for s := sequence; s > 0; s /= len(clocks) {
			now := epoch.Add(clocks[s%len(clocks)])
			fresh := tokenAt(uint64(s), now, 5*time.Second)
			tokens[fresh.TokenID] = fresh
			for id, tok := range tokens {
				ok, _ := g.Spend(ctx, now, tok)
				if ok && spent[id] {
					t.Fatalf("sequence %d: accepted again", sequence)
				}
				if id == fresh.TokenID && !ok && !forgettable[tok.Expiration] && !spent[id] {
					t.Fatalf("sequence %d: refused for no reason", sequence)
				}
				if ok {
					spent[id] = true
					forgettable[tok.Expiration] = true
				}
			}
		}
	}
}

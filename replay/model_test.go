package replay_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// TestModel runs thousands of random histories of a service. Issuers whose
// clocks are within the skew of this one mint tokens. Tokens are spent, spent
// again, and spent late by stalled goroutines. The clock is set, and the
// service restarts. A map that never forgets knows what may be accepted.
//
// Two things must hold. No token is accepted twice in a history. And each
// refusal has a reason that the documentation states: the model knows which
// seconds may have been forgotten.
func TestModel(t *testing.T) {
	histories := 3000
	if testing.Short() || testenv.Race {
		histories = 300
	}
	var fresh, honest, full int
	for seed := range uint64(histories) {
		m := newModel(t, seed)
		for range 300 {
			m.step()
		}
		fresh, honest, full = fresh+m.fresh, honest+m.honest, full+m.full
	}
	t.Logf("%d of %d honest tokens accepted, %d found the guard full", fresh, honest, full)
	if fresh < honest/2 {
		t.Errorf("%d of %d honest tokens accepted: this tests refusals only", fresh, honest)
	}
	if full == 0 {
		t.Error("no guard was ever full")
	}
}

// model is a service, its clock, and every token ever minted.
type model struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand

	decade, offset time.Duration // the clock, after epoch
	latest         time.Time     // latest time it ever showed

	config  replay.Config
	guard   *replay.Guard
	started int64 // tokens issued until then are refused
	memory  memory

	minted []token.Summary
	late   []attempt
	spent  map[token.ID]bool

	fresh, honest, full int
}

// attempt is a token that was timely at now, and is yet to be spent.
type attempt struct {
	now   time.Time
	token token.Summary
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), spent: make(map[token.ID]bool)}
	m.config = replay.Config{
		Rate: 1 + m.rng.IntN(10),
		Limits: keyring.Limits{
			MaxTTL:    time.Duration(5+m.rng.IntN(30)) * time.Second,
			ClockSkew: time.Duration(1+m.rng.IntN(5)) * time.Second,
		},
		AcceptIssuedBeforeStart: m.rng.IntN(3) == 0,
	}
	m.restart()
	return m
}

func (m *model) now() time.Time { return epoch.Add(m.decade + m.offset) }

func (m *model) lifetime() int64 {
	return int64((m.config.Limits.MaxTTL + m.config.Limits.ClockSkew + time.Second) / time.Second)
}

// between returns a random duration, to the nanosecond.
func (m *model) between(least, most time.Duration) time.Duration {
	return least + time.Duration(m.rng.Int64N(int64(most-least)+1))
}

// step makes something happen.
func (m *model) step() {
	switch p := m.rng.IntN(1000); {
	case p < 500:
		m.mint(1 + m.rng.IntN(5))
	case p < 505:
		m.mint(m.rng.IntN(500))
	case p < 650 && len(m.minted) > 0:
		m.try(attempt{m.now(), m.minted[m.rng.IntN(len(m.minted))]})
	case p < 700 && len(m.minted) > 0:
		m.late = append(m.late, attempt{m.now(), m.minted[m.rng.IntN(len(m.minted))]})
	case p < 800 && len(m.late) > 0:
		m.try(m.late[m.rng.IntN(len(m.late))])
	case p < 990:
		m.setClock()
	default:
		m.restart()
	}
}

func (m *model) setClock() {
	switch p := m.rng.IntN(100); {
	case p < 40:
		m.offset += m.between(0, 3*time.Second)
	case p < 60:
		m.offset = m.offset.Truncate(time.Second) + m.between(-1, 1)
	case p < 70:
		m.offset += m.between(0, 2*time.Minute)
	case p < 85:
		m.offset -= m.between(0, 10*time.Second)
	case p < 88:
		m.offset += m.between(-time.Hour, time.Hour)
	case p < 90:
		m.decade = time.Duration(m.rng.IntN(6)) * tenYears
	default:
		m.decade = 0
	}
	if m.now().After(m.latest) {
		m.latest = m.now()
	}
}

// restart makes a new guard. The guarantees hold for right clocks. So restart
// drops tokens issued by a clock that was ahead of the present one by more than
// the skew, unless the caller has recorded the latest time. If the guard
// accepts what was issued before it, the keys of those tokens are gone too.
func (m *model) restart() {
	start := m.now()
	switch {
	case m.config.AcceptIssuedBeforeStart:
		m.minted = nil
	case m.rng.IntN(4) == 0 && m.latest.After(start):
		start = m.latest
	default:
		ahead := start.Add(m.config.Limits.ClockSkew).Unix()
		m.minted = slices.DeleteFunc(m.minted, func(t token.Summary) bool { return t.IssuedAt.Unix() > ahead })
	}
	guard, err := newAt(start, m.config)
	if err != nil {
		m.t.Fatal(err)
	}
	m.guard, m.late = guard, nil
	m.started = start.Unix() + int64(m.config.Limits.ClockSkew/time.Second)
	if m.config.AcceptIssuedBeforeStart {
		m.started = math.MinInt64
	}
	m.memory = memory{spent: make(map[int64]int), dropped: make(map[int64]span), lifetime: m.lifetime()}
}

// mint issues tokens, by clocks that are behind or ahead, and spends most.
func (m *model) mint(n int) {
	for range n {
		issued := m.now().Add(m.between(-m.config.Limits.ClockSkew, m.config.Limits.ClockSkew))
		ttl := m.between(5*time.Second, m.config.Limits.MaxTTL).Truncate(time.Second)
		tok := tokenAt(m.rng.Uint64(), issued, ttl)
		m.minted = append(m.minted, tok)
		if m.rng.IntN(8) > 0 {
			m.try(attempt{m.now(), tok})
		}
	}
}

// try spends a token if an opener would have accepted it until then, and checks
// the answer.
func (m *model) try(a attempt) {
	issued, expiration, now := a.token.IssuedAt.Unix(), a.token.Expiration.Unix(), a.now.Unix()
	if now >= expiration || issued > a.now.Add(m.config.Limits.ClockSkew).Unix() {
		return
	}
	m.memory.pass(now)
	fresh, err := m.guard.Spend(ctx, a.now, a.token)
	spent := m.spent[a.token.TokenID]
	if !spent {
		m.honest++
	}
	switch {
	case errors.Is(err, replay.ErrBeforeStart) != (issued <= m.started):
		m.failf("issued at %d, guard started at %d: %v", issued, m.started, err)
	case fresh && (spent || err != nil):
		m.failf("accepted a token twice, or with an error: %v", err)
	case fresh:
		m.fresh++
		m.spent[a.token.TokenID] = true
		m.memory.spent[expiration]++
	case err == nil && !spent:
		m.failf("a fresh token was taken for a spent one")
	case err == replay.ErrForgotten && !m.memory.mayForget(expiration):
		m.failf("%d was not forgotten", expiration)
	case err == replay.ErrFull:
		m.full++
		if held := m.memory.mayHold(now); held < m.guard.Stats(a.now).Capacity {
			m.failf("full with %d tokens", held)
		}
	case err == replay.ErrTooLong:
		m.failf("a token from %d to %d lives too long at %d", issued, expiration, now)
	}
}

func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: "+format, append([]any{m.seed}, args...)...)
}

// memory tells, for one guard, what it must remember and what it may forget.
type memory struct {
	lifetime int64
	spent    map[int64]int  // tokens accepted, by expiration
	dropped  map[int64]span // by decade, the seconds that may be forgotten
}

type span struct{ first, last int64 }

// pass notes that someone called at now. Two kinds of second may be forgotten:
// expired ones, and those so late that the clock must have been set back.
func (m *memory) pass(now int64) {
	for second := range m.spent {
		if second > now && second <= now+m.lifetime {
			continue
		}
		d := decade(second)
		s, ok := m.dropped[d]
		if !ok {
			s = span{second, second}
		}
		m.dropped[d] = span{min(s.first, second), max(s.last, second)}
	}
}

// mayForget reports whether second lies between two that may be forgotten, in
// one decade: intervals of different decades are never merged here.
func (m *memory) mayForget(second int64) bool {
	s, ok := m.dropped[decade(second)]
	return ok && second >= s.first && second <= s.last
}

func (m *memory) mayHold(now int64) (tokens int) {
	for second, n := range m.spent {
		if second > now && second <= now+m.lifetime {
			tokens += n
		}
	}
	return tokens
}

func decade(second int64) int64 {
	const d = int64(tenYears / time.Second)
	return (second - epoch.Unix() + d/2) / d
}

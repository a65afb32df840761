package fleet_test

import (
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

const (
	issuers  = 40
	gateways = 60
	rotators = 2
)

var ctx = context.Background()

// config is a fleet's keys, and how far it stretches the assumptions.
type config struct {
	policy   keyring.Policy
	duration time.Duration

	delay  time.Duration // until the last host has a change of the ring
	spread time.Duration // between the clocks furthest apart

	forgetfulGuards bool // guards don't know of a restart
	forgetfulHosts  bool // hosts take any ring after one

	expect []violation // once all were seen, the run ends
}

// sound returns a config in which all assumptions just hold.
func sound(t *testing.T, p keyring.Policy, duration time.Duration) config {
	r, err := keyring.New(time.Now(), keyring.Config{Policy: p})
	require.NoError(t, err)
	p = r.Policy() // with its defaults
	return config{policy: p, duration: duration, delay: longestDelay(p), spread: p.ClockSkew}
}

// longestDelay returns the time within which a change must reach every host.
// The second is there because the rotator rounds its clock down before it adds
// Lead to get the moment from which the new key seals.
func longestDelay(p keyring.Policy) time.Duration { return p.Lead - p.ClockSkew - time.Second }

// fleet is one run. It all belongs to the goroutine that runs the queue.
type fleet struct {
	queue
	config
	t   *testing.T
	rng *rand.Rand
	kek *keyring.LocalKEK

	rotators []*rotator
	issuers  []*host
	gateways []*gateway
	hosts    []*host // of issuers and gateways

	versions []*version // of the ring, as stored
	keys     map[keyring.ID]*key
	idle     time.Time     // until when nobody rotates
	elapsed  time.Duration // of simulated time

	tally      tally
	violations map[violation]string // with the first occurrence
	trace      hash.Hash64          // of all tokens and outcomes
}

func newFleet(t *testing.T, c config, seed uint64) *fleet {
	f := &fleet{
		config:     c,
		t:          t,
		rng:        rand.New(rand.NewPCG(seed, 0)),
		keys:       make(map[keyring.ID]*key),
		tally:      make(tally),
		violations: make(map[violation]string),
		trace:      fnv.New64a(),
	}
	var err error
	f.kek, err = keyring.GenerateKEK()
	require.NoError(t, err)
	for range rotators {
		f.rotators = append(f.rotators, &rotator{clock: f.newClock()})
	}
	for range issuers {
		f.issuers = append(f.issuers, f.newHost())
	}
	for i := range gateways {
		f.gateways = append(f.gateways, &gateway{host: f.newHost(), index: i})
	}
	return f
}

// start starts everything.
func (f *fleet) start() {
	first := f.firstVersion()
	for _, h := range f.hosts {
		h.volume = first
	}
	for _, r := range f.rotators {
		f.after(time.Minute, func() { f.cron(r) })
	}
	for _, h := range f.issuers {
		h.start()
		f.often(6*time.Hour, func() { f.crash(h, h.start) })
	}
	for _, g := range f.gateways {
		g.start()
		f.often(2*time.Hour, func() { f.crashGateway(g) })
		f.often(4*time.Hour, func() { f.setClock(g) })
	}
	f.often(3*time.Second, f.client)
	f.often(10*time.Minute, f.emergency)
	f.often(time.Hour, func() { f.idle = time.Now().Add(f.upTo(10 * time.Minute)) })
}

// often runs do again and again, at random intervals with a mean.
func (f *fleet) often(mean time.Duration, do func()) {
	wait := time.Duration(f.rng.ExpFloat64() * float64(mean))
	f.after(wait, func() {
		do()
		f.often(mean, do)
	})
}

// upTo returns a duration from 0 to d, often exactly one of them.
func (f *fleet) upTo(d time.Duration) time.Duration {
	switch f.rng.IntN(8) {
	case 0:
		return 0
	case 1:
		return d
	}
	return time.Duration(f.rng.Int64N(int64(d) + 1))
}

// oneIn returns true in one of n cases.
func (f *fleet) oneIn(n int) bool { return f.rng.IntN(n) == 0 }

func pick[T any](f *fleet, from []T) T { return from[f.rng.IntN(len(from))] }

// clock is a host's, and how far it is ahead of the true time.
type clock struct{ ahead time.Duration }

func (c *clock) now() time.Time { return time.Now().Add(c.ahead) }

// when returns the true time at which the clock will show t, unless it is set.
func (c *clock) when(t time.Time) time.Time { return t.Add(-c.ahead) }

func (f *fleet) newClock() clock { return clock{f.upTo(f.spread) - f.spread/2} }

// violation is an invariant that did not hold. A fleet relies on the first
// four; the others keep them from holding for the wrong reason.
type violation string

const (
	refusedForKey    violation = "VIOLATED: a token within its life is not refused for its key"
	openedRevoked    violation = "VIOLATED: a revoked key opens nothing after the reload"
	sealedUnknown    violation = "VIOLATED: no host seals under a key that another does not know"
	acceptedTwice    violation = "VIOLATED: a gateway accepts no token twice, restarts included"
	acceptedLate     violation = "VIOLATED: a gateway accepts no token that has expired"
	refusedOtherwise violation = "VIOLATED: a token is refused for good reason only"
	ringWentBack     violation = "VIOLATED: a host adopts nothing but a valid, newer ring"
)

// failed reports whether every expected violation has happened.
func (f *fleet) failed() bool {
	for _, v := range f.expect {
		if _, ok := f.violations[v]; !ok {
			return false
		}
	}
	return len(f.expect) > 0
}

// violated counts a violation, and keeps the details of the first.
func (f *fleet) violated(v violation, format string, args ...any) {
	f.tally[string(v)]++
	if _, ok := f.violations[v]; !ok {
		f.violations[v] = time.Now().Format(time.DateTime) + ": " + fmt.Sprintf(format, args...)
	}
}

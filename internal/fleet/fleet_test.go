// Package fleet_test simulates a fleet: issuers and gateways on a hundred hosts
// share a ring, for days in which a key is replaced every minute. Clocks
// differ, new versions of the ring arrive late and out of order, hosts crash,
// and keys are revoked. Clients, replayers and a thief present tokens wherever
// and whenever it could hurt.
//
// The packages under test see a clock of testing/synctest. Everything else is
// drawn from a seed, and happens on one goroutine in an order that the seed
// fixes. So any failure can be repeated: set CHATTOKEN_SEED.
//
// # Assumptions
//
// Any two clocks are always within Policy.ClockSkew of each other, and may be
// set within that. A change of the ring reaches every host within Policy.Lead,
// less ClockSkew and the second to which clocks are rounded down. A host keeps
// the serial of the ring that it had last. A gateway's guard is new after a
// restart and knows it. If one of these does not hold the simulation must fail,
// and TestAssumptions makes it fail.
//
// # Invariants
//
// They are the values of type violation, with two exceptions. When a key is
// revoked, its successor seals at once, so while it may be on its way some
// hosts may not know it. And a token that its key opens may be refused for what
// it is: expired, spent, or issued before the guard started.
package fleet_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

const day = 24 * time.Hour

// A key a minute, announced as late as possible; and the longest tokens with
// the worst clocks.
var (
	keyAMinute = keyring.Policy{MaxTTL: 40 * time.Second, ClockSkew: 5 * time.Second, Period: 55 * time.Second, Lead: 55 * time.Second}
	longTokens = keyring.Policy{MaxTTL: 10 * time.Minute, ClockSkew: time.Minute, Period: 15 * time.Minute, Lead: 6 * time.Minute}
)

func TestFleet(t *testing.T) {
	brief := testing.Short() || testenv.Race
	covered := make(tally)
	for _, tt := range []struct {
		name     string
		policy   keyring.Policy
		duration time.Duration
	}{
		{"a key a minute", keyAMinute, day},
		{"long tokens", longTokens, day / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if brief {
				tt.duration = time.Hour
			}
			f := simulate(t, sound(t, tt.policy, tt.duration), seed(t, 1))
			require.Empty(t, f.violations)
			covered.add(f.tally)
		})
	}
	if brief {
		return // without rare events
	}
	for _, name := range []string{
		"tokens minted", "tokens opened", "tokens forged",
		"refused: expired", "refused: revoked-key", "refused: unknown-key", "refused: spent", "refused: unavailable",
		"replays attempted", "replays refused",
		"ring: rotations", "ring: rotated now", "ring: too soon to rotate now", "ring: revocations",
		"ring: lost a race", "ring: nobody rotates",
		"ring arrived: newer", "ring arrived: older", "ring arrived: same", "ring arrived: damaged",
		"restarts", "restarts: backup refused", "clocks set",
	} {
		assert.Positive(t, covered[name], name)
	}
}

// TestSoakFleet uses another seed each time, and a week to find something.
func TestSoakFleet(t *testing.T) {
	duration := time.Hour / 2
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		duration = 7 * day
	}
	for _, policy := range []keyring.Policy{keyAMinute, longTokens, {Period: day}} {
		f := simulate(t, sound(t, policy, duration), seed(t, rand.Uint64()))
		require.Empty(t, f.violations)
	}
}

// TestAssumptions takes away one assumption at a time, and expects the
// invariants that rest on it to be violated.
func TestAssumptions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		take   func(*config)
		expect []violation
	}{
		{"delay below lead", func(c *config) { c.delay = c.policy.Lead + 20*time.Second },
			[]violation{sealedUnknown, refusedForKey}},
		{"delay below lead, less skew and a second", func(c *config) { c.delay += 2 * time.Second },
			[]violation{sealedUnknown, refusedForKey}},
		{"clocks within the skew", func(c *config) { c.spread = 6 * c.policy.ClockSkew },
			[]violation{sealedUnknown, refusedForKey, refusedOtherwise, acceptedTwice}},
		{"a new guard knows that it is new", func(c *config) { c.forgetfulGuards = true },
			[]violation{acceptedTwice}},
		{"a host keeps the serial", func(c *config) { c.forgetfulHosts = true },
			[]violation{ringWentBack, openedRevoked}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sound(t, keyAMinute, day/2)
			c.expect = tt.expect
			tt.take(&c)
			f := simulate(t, c, seed(t, 1))
			require.True(t, f.failed(), "%v should have been violated", tt.expect)
		})
	}
}

// TestDeterministic repeats a run to the last bit.
func TestDeterministic(t *testing.T) {
	run := func(seed uint64) *fleet { return simulate(t, sound(t, keyAMinute, time.Hour/2), seed) }
	first, again, other := run(1), run(1), run(2)
	require.Equal(t, first.tally, again.tally)
	require.Equal(t, first.trace.Sum64(), again.trace.Sum64())
	require.NotEqual(t, first.trace.Sum64(), other.trace.Sum64())
}

// seed returns that of CHATTOKEN_SEED, or otherwise.
func seed(t *testing.T, otherwise uint64) uint64 {
	text, ok := os.LookupEnv("CHATTOKEN_SEED")
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return n
}

// simulate runs a fleet and prints what the run covered.
func simulate(t *testing.T, c config, seed uint64) *fleet {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	var f *fleet
	synctest.Test(t, func(t *testing.T) {
		f = newFleet(t, c, seed)
		began := time.Now()
		f.start()
		f.run(time.Now().Add(c.duration), f.failed)
		f.elapsed = time.Since(began)
	})
	t.Logf("seed %d, %d hosts, %v\n%v", seed, len(f.hosts), f.elapsed, f.tally)
	for _, v := range slices.Sorted(maps.Keys(f.violations)) {
		t.Logf("%s, %d times; first: %s", v, f.tally[string(v)], f.violations[v])
	}
	return f
}

// tally counts what happened, by name.
type tally map[string]int

func (c tally) add(other tally) {
	for name, n := range other {
		c[name] += n
	}
}

func (c tally) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%9d %s\n", c[name], name)
	}
	return b.String()
}

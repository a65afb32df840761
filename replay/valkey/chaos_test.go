package valkey_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// chaosLength returns how long chaos lasts, and the longest pause in it.
func chaosLength() (length, pause time.Duration) {
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		return 15 * time.Minute, 8 * time.Second
	}
	return 10 * time.Second, 2 * time.Second
}

// offsets are how far the clocks of gateways and issuers are ahead of the
// servers': within what is assumed, up to its edge.
var offsets = []time.Duration{-skew * 9 / 10, 0, skew * 9 / 10}

// chaos is some gateways, and callers that keep showing tokens to them while
// faults happen.
type chaos struct {
	t       *testing.T
	config  func(gateway int) valkey.Config
	log     func() // logs the servers' state, if not nil
	guards  [4]atomic.Pointer[valkey.Guard]
	minted  atomic.Uint64
	shown   atomic.Uint64
	fresh   atomic.Uint64
	longest atomic.Int64
}

// shown is a minted token, and how often it was accepted.
type shown struct {
	token   token.Summary
	winners atomic.Int32
}

// start starts a gateway, or another one in its place.
func (c *chaos) start(i int) {
	conf := c.config(i)
	conf.Now = func() time.Time { return time.Now().Add(offsets[i%len(offsets)]) }
	why := make(map[string]int)
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		g, err := valkey.New(ctx, conf)
		if err == nil {
			if old := c.guards[i].Swap(g); old != nil {
				old.Close()
			}
			return
		}
		why[err.Error()]++
	}
	c.t.Error("a gateway does not start any more: ", why)
	if c.log != nil {
		c.log()
	}
}

// call mints tokens, and shows each some times, at random gateways, now and
// later.
func (c *chaos) call(seed uint64, stop *atomic.Bool) {
	rng := rand.New(rand.NewPCG(seed, run))
	var recent []*shown
	for !stop.Load() {
		if len(recent) == 0 || rng.IntN(4) == 0 {
			issued := time.Now().Add(offsets[rng.IntN(len(offsets))])
			recent = append(recent, &shown{token: tokenAt(seed<<40+c.minted.Add(1), issued, 10*time.Second)})
			if len(recent) > 400 {
				recent = recent[1:]
			}
		}
		s := recent[len(recent)-1]
		if rng.IntN(2) == 0 {
			s = recent[rng.IntN(len(recent))]
		}
		if time.Now().After(s.token.Expiration) {
			continue
		}
		i := rng.IntN(len(c.guards))
		began := time.Now()
		fresh, err := c.guards[i].Load().Spend(ctx, began.Add(offsets[i%len(offsets)]), s.token)
		c.longest.Store(max(c.longest.Load(), int64(time.Since(began))))
		c.shown.Add(1)
		if fresh {
			c.fresh.Add(1)
			if n := s.winners.Add(1); n > 1 {
				c.t.Errorf("a second winner: %v at gateway %d", s.token, i)
			}
		}
		if err != nil {
			time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		}
	}
}

// run makes faults happen while chaos lasts.
func (c *chaos) run(faults map[string]func(rng *rand.Rand)) (counts map[string]int) {
	t := c.t
	for i := range c.guards {
		c.start(i)
	}
	defer func() {
		for i := range c.guards {
			c.guards[i].Load().Close()
		}
	}()
	faults["a gateway restarts"] = func(rng *rand.Rand) { c.start(rng.IntN(len(c.guards))) }
	faults["everybody is told"] = func(rng *rand.Rand) {
		g := c.guards[rng.IntN(len(c.guards))].Load()
		_ = g.Revoke(ctx, token.Target{User: strconv.FormatUint(serial.Add(1), 10)}, time.Now())
		_ = g.Sync(ctx, noNews)
	}
	names := make([]string, 0, len(faults))
	for name := range faults {
		names = append(names, name)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() { c.call(seed+1, &stop) })
	}
	rng := rand.New(rand.NewPCG(run, 0))
	counts = make(map[string]int)
	before := resources(t)
	length, pause := chaosLength()
	end := time.Now().Add(length)
	for i := 0; time.Now().Before(end) && !t.Failed(); i++ {
		if i %= len(names); i == 0 {
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		time.Sleep(rand.N(pause))
		faults[names[i]](rng)
		counts[names[i]]++
	}
	stop.Store(true)
	wg.Wait()
	after := resources(t)
	t.Logf("%d tokens, shown %d times, %d accepted; longest call %v; heap, goroutines, descriptors %v before, %v after; faults %v",
		c.minted.Load(), c.shown.Load(), c.fresh.Load(), time.Duration(c.longest.Load()), before, after, fmt.Sprint(counts))
	assert.Positive(t, c.fresh.Load())
	assert.Less(t, time.Duration(c.longest.Load()), chaosTimeout+hang/2, "a call hangs")
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		assert.Less(t, after[0]-before[0], 64<<20)
		assert.Less(t, after[1]-before[1], 100, "goroutines")
		assert.Less(t, after[2]-before[2], 100, "file descriptors")
	}
	return counts
}

// chaosTimeout is the Timeout of the gateways.
const chaosTimeout = time.Second

// TestSoakChaos makes servers die with and without their data, fail over, lose
// their data, swap databases and stand still, and leads gateways elsewhere.
func TestSoakChaos(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		servers := []*server{startEngine(t, engine), startEngine(t, engine), startEngine(t, engine)}
		primary := 0
		c := &chaos{t: t}
		proxies := make([]*proxy, len(c.guards))
		for i := range proxies {
			proxies[i] = startProxy(t, servers[0].Address)
		}
		c.config = func(i int) valkey.Config {
			conf := config(proxies[i].address)
			conf.Timeout = chaosTimeout
			return conf
		}
		// take leads everybody to another server. It empties the one
		// before, which could come back too soon.
		take := func(next int) {
			former := servers[primary]
			former.kill()
			primary = next
			servers[primary].must("REPLICAOF", "NO", "ONE")
			for _, p := range proxies {
				p.lead(servers[primary])
			}
			former.Forget()
			former.Restart()
		}
		other := func(rng *rand.Rand) int { return (primary + 1 + rng.IntN(len(servers)-1)) % len(servers) }
		c.run(map[string]func(*rand.Rand){
			"killed": func(*rand.Rand) {
				servers[primary].kill()
				servers[primary].Restart()
			},
			"killed without data": func(*rand.Rand) {
				servers[primary].kill()
				servers[primary].Forget()
				servers[primary].Restart()
			},
			"failover": func(rng *rand.Rand) {
				next := other(rng)
				follow(t, servers[next], servers[primary].Address)
				time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				take(next)
			},
			"demoted and promoted": func(rng *rand.Rand) {
				next := servers[other(rng)]
				follow(t, next, servers[primary].Address)
				next.must("REPLICAOF", "NO", "ONE")
				follow(t, servers[primary], next.Address)
				servers[primary].must("REPLICAOF", "NO", "ONE")
			},
			"moved":    func(rng *rand.Rand) { take(other(rng)) },
			"hung up":  func(rng *rand.Rand) { proxies[rng.IntN(len(proxies))].hangUp() },
			"FLUSHALL": func(*rand.Rand) { servers[primary].must("FLUSHALL") },
			"SWAPDB":   func(*rand.Rand) { servers[primary].must("SWAPDB", "0", "1") },
			"no nonce": func(*rand.Rand) { servers[primary].must("DEL", "chattoken:{0}:guard-nonce") },
			"stood still": func(rng *rand.Rand) {
				servers[primary].Stop()
				time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
				servers[primary].Resume()
			},
		})
	})
}

// TestSoakChaosCluster moves slots to and fro, stops a server, and ends
// connections.
func TestSoakChaosCluster(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	c := &chaos{t: t, log: servers.log}
	c.config = func(int) valkey.Config {
		conf := servers.config()
		conf.Timeout = chaosTimeout
		return conf
	}
	moved := 0
	counts := c.run(map[string]func(*rand.Rand){
		"slots moved": func(rng *rand.Rand) {
			for range 30 {
				from := rng.IntN(3) // it may lack the slot
				if servers.tryMove(from, (from+1+rng.IntN(2))%3, strconv.Itoa(rng.IntN(slots))) == nil {
					moved++
				}
			}
		},
		"hung up": func(rng *rand.Rand) {
			servers.nodes[rng.IntN(3)].must("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		},
		"FLUSHALL": func(rng *rand.Rand) { servers.nodes[rng.IntN(3)].must("FLUSHALL") },
		"stood still": func(rng *rand.Rand) {
			s := servers.nodes[rng.IntN(3)]
			s.Stop()
			time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
			s.Resume()
		},
	})
	t.Logf("%d slots moved", moved)
	assert.Equal(t, counts["slots moved"] > 0, moved > 0)
}

package fleet_test

import (
	"errors"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// host is a process that follows the ring. An issuer is nothing else.
type host struct {
	clock
	fleet *fleet
	up    bool
	ring  *keyring.Ring

	// What survives a restart.
	volume *version // the newest that arrived
	serial uint64   // of the ring that was last in force
}

func (f *fleet) newHost() *host {
	h := &host{clock: f.newClock(), fleet: f}
	f.hosts = append(f.hosts, h)
	return h
}

// start loads the newest version that has arrived.
func (h *host) start() {
	f := h.fleet
	c := keyring.Config{MinSerial: h.serial}
	if f.forgetfulHosts {
		c.MinSerial = 0
	}
	ring := h.loadBackup(c)
	if ring == nil {
		var err error
		ring, err = keyring.Load(ctx, f.kek, h.volume.sealed, c)
		require.NoError(f.t, err)
	}
	h.ring, h.serial, h.up = ring, max(h.serial, ring.Serial()), true
}

// loadBackup sometimes finds an old version instead of the current one. A host
// that knows what it had before refuses it.
func (h *host) loadBackup(c keyring.Config) *keyring.Ring {
	f := h.fleet
	old := f.versions[max(0, len(f.versions)-1-f.rng.IntN(6))]
	if !f.oneIn(2) || old.serial >= h.serial {
		return nil
	}
	ring, err := keyring.Load(ctx, f.kek, old.sealed, c)
	if !errors.Is(err, keyring.ErrRollback) {
		f.violated(ringWentBack, "serial %d was in force, and %d after a restart", h.serial, old.serial)
		return ring
	}
	f.tally["restarts: backup refused"]++
	return nil
}

// The outcomes for a version that arrives.
const (
	newer   = "newer"
	same    = "same"
	older   = "older"
	notSeen = "host is down"
	wrong   = "not as it should"
)

// receive is called concurrently, and touches only the host.
func (h *host) receive(v *version) string {
	if v.serial > h.volume.serial {
		h.volume = v
	}
	if !h.up {
		return notSeen
	}
	before := h.ring.Serial()
	changed, err := h.ring.Update(ctx, h.fleet.kek, v.sealed)
	after := h.ring.Serial()
	switch {
	case v.serial > before && changed && err == nil && after == v.serial:
		h.serial = max(h.serial, after)
		return newer
	case v.serial == before && !changed && err == nil && after == before:
		return same
	case v.serial < before && !changed && errors.Is(err, keyring.ErrRollback) && after == before:
		return older
	}
	return wrong
}

// crash stops a host, and starts it again at once or after a while.
func (f *fleet) crash(h *host, start func()) {
	if !h.up {
		return
	}
	h.up = false
	f.tally["restarts"]++
	if f.oneIn(2) {
		h.clock = f.newClock()
	}
	f.after(f.upTo(20*time.Second), start)
}

// gateway is a host with a guard.
type gateway struct {
	*host
	index    int
	guard    *replay.Guard
	opener   token.Opener
	session  token.Session
	started  time.Time // when the guard was made, by this clock
	latest   time.Time // that the guard has seen of it
	accepted []*chatToken
}

func (g *gateway) start() {
	g.host.start()
	f := g.fleet
	g.started, g.latest = g.now(), g.now()
	var err error
	g.guard, err = replay.New(replay.Config{
		Limits:                  g.ring.Limits(),
		Rate:                    10,
		Now:                     func() time.Time { return g.started },
		AcceptIssuedBeforeStart: f.forgetfulGuards,
	})
	require.NoError(f.t, err)
	g.opener = token.Opener{Ring: g.ring, Guard: g.guard, Now: g.now}
	g.prune()
	g.replayAll()
	f.at(g.when(g.guard.ReadyAt()), g.replayAll)
	for _, tok := range g.accepted {
		f.at(g.when(tok.expiration.Add(-1)), func() { f.present(tok, g) })
	}
}

func (g *gateway) replayAll() {
	for _, tok := range slices.Clone(g.accepted) {
		g.fleet.present(tok, g)
	}
}

// prune forgets the tokens that have expired by any clock.
func (g *gateway) prune() {
	over := time.Now().Add(-4 * g.fleet.spread)
	g.accepted = slices.DeleteFunc(g.accepted, func(tok *chatToken) bool { return tok.expiration.Before(over) })
}

// crashGateway crashes a gateway after a burst of tokens, so that there is
// something to replay.
func (f *fleet) crashGateway(g *gateway) {
	f.burst(g, 4)
	f.after(f.upTo(2*time.Second), func() { f.crash(g.host, g.start) })
}

// setClock sets the clock of a running gateway when some tokens have just
// expired by it, and shows that to all of its guard. They must not come back to
// life.
func (f *fleet) setClock(g *gateway) {
	f.burst(g, 8)
	if len(g.accepted) == 0 {
		return
	}
	tok := pick(f, g.accepted)
	f.at(g.when(tok.expiration).Add(f.upTo(f.spread)), func() {
		f.tally["clocks set"]++
		f.burst(g, 64)
		g.clock = f.newClock()
		g.prune()
		g.replayAll()
	})
}

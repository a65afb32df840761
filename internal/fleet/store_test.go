package fleet_test

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// version is a ring as stored.
type version struct {
	serial uint64
	sealed []byte
}

// key is what the simulation knows of one.
type key struct {
	id        keyring.ID
	serial    uint64    // of the first version that has it
	published time.Time // the true time of the change that made it
	expires   time.Time // or zero
	revoked   uint64    // the serial of the version that revokes it, or 0
	hurried   bool      // a revocation lets it seal before all know it
}

// settled reports whether every host must know the key. A key that follows a
// revoked one seals before that.
func (f *fleet) settled(k *key) bool {
	return !k.hurried || !time.Now().Before(k.published.Add(longestDelay(f.policy)))
}

// rotator is a job that cron starts on a host of its own.
type rotator struct{ clock }

func (f *fleet) latest() *version { return f.versions[len(f.versions)-1] }

func (f *fleet) loadLatest() *keyring.Ring {
	r, err := keyring.Load(ctx, f.kek, f.latest().sealed, keyring.Config{})
	require.NoError(f.t, err)
	return r
}

func (f *fleet) firstVersion() *version {
	r, err := keyring.New(time.Now(), keyring.Config{Policy: f.policy})
	require.NoError(f.t, err)
	return f.store(r, change{made: time.Now()})
}

// cron rotates at every full minute, give or take a second.
func (f *fleet) cron(r *rotator) {
	next := r.now().Round(time.Minute).Add(time.Minute)
	f.at(r.when(next.Add(f.upTo(2*time.Second)-time.Second)), func() { f.cron(r) })
	if time.Now().Before(f.idle) {
		f.tally["ring: nobody rotates"]++
		return
	}
	f.rotate(r)
	if f.oneIn(10) {
		r.clock = f.newClock()
	}
}

func (f *fleet) rotate(r *rotator) {
	ring := f.loadLatest()
	changed, err := ring.Rotate(r.now())
	require.NoError(f.t, err)
	if changed {
		f.save(ring, change{what: "ring: rotations"})
	}
}

func (f *fleet) rotateNow(r *rotator) {
	ring := f.loadLatest()
	err := ring.RotateNow(r.now())
	if errors.Is(err, keyring.ErrTooSoon) {
		f.tally["ring: too soon to rotate now"]++
		return
	}
	require.NoError(f.t, err)
	f.save(ring, change{what: "ring: rotated now"})
}

// revoke revokes a key, even if others change the ring meanwhile.
func (f *fleet) revoke(r *rotator, id keyring.ID) {
	ring := f.loadLatest()
	err := ring.Revoke(r.now(), id)
	if errors.Is(err, keyring.ErrUnknownKey) {
		return // it has expired since
	}
	require.NoError(f.t, err)
	f.save(ring, change{what: "ring: revocations", revokes: f.keys[id], lost: func() { f.revoke(r, id) }})
}

// emergency is somebody who lets the next key seal now, or revokes a stolen
// one.
func (f *fleet) emergency() {
	r := pick(f, f.rotators)
	if f.oneIn(3) {
		f.rotateNow(r)
		return
	}
	ring := f.loadLatest()
	keys := slices.DeleteFunc(slices.Collect(ring.Keys(r.now())), func(k keyring.Key) bool {
		return k.State == keyring.Revoked
	})
	k := pick(f, keys)
	f.steal(ring, k, r.now())
	f.revoke(r, k.ID)
}

// change is one to the ring.
type change struct {
	what    string
	made    time.Time // the true time
	revokes *key
	lost    func() // if another change comes first
}

// save stores a changed ring, by compare-and-swap.
func (f *fleet) save(ring *keyring.Ring, c change) {
	base := f.latest()
	c.made = time.Now()
	f.after(f.upTo(time.Second), func() {
		if base == f.latest() {
			f.tally[c.what]++
			f.distribute(f.store(ring, c), c.made)
			return
		}
		f.tally["ring: lost a race"]++
		if c.lost != nil {
			c.lost()
		}
	})
}

func (f *fleet) store(ring *keyring.Ring, c change) *version {
	sealed, err := ring.Marshal(ctx, f.kek)
	require.NoError(f.t, err)
	v := &version{ring.Serial(), sealed}
	f.versions = append(f.versions, v)
	if c.revokes != nil {
		c.revokes.revoked = v.serial
	}
	for k := range ring.Keys(c.made) {
		f.learn(k, v, c)
	}
	return v
}

// learn records a key of a version, and schedules its edges: clients when it
// starts to seal, and a rotator when it may be dropped.
func (f *fleet) learn(k keyring.Key, v *version, c change) {
	known := f.keys[k.ID]
	if known == nil {
		known = &key{id: k.ID, serial: v.serial, published: c.made}
		f.keys[k.ID] = known
		f.mintAround(k.Activates)
	}
	if c.revokes != nil && k.Activates.Before(k.Created.Add(f.policy.Lead)) {
		known.hurried = true
	}
	if !known.expires.Equal(k.Expires) {
		known.expires = k.Expires
		if r := pick(f, f.rotators); f.oneIn(8) {
			f.at(r.when(k.Expires), func() { f.rotate(r) })
		}
	}
}

const waves = 8

// distribute sends a version to all hosts, in waves: the first at once, the
// last as late as possible. It draws who is in which, so that versions overtake
// each other.
func (f *fleet) distribute(v *version, changed time.Time) {
	var to [waves][]*host
	for _, h := range f.hosts {
		i := f.rng.IntN(waves)
		to[i] = append(to[i], h)
	}
	for i, hosts := range to {
		delay := f.upTo(f.delay)
		switch i {
		case 0:
			delay = 0
		case waves - 1:
			delay = f.delay
		}
		f.at(changed.Add(delay), func() { f.deliver(v, hosts) })
		if f.oneIn(20) {
			f.at(changed.Add(delay+f.upTo(time.Hour)), func() { f.deliver(v, hosts) })
		}
	}
}

// deliver hands a version to hosts, sometimes after a damaged one. Two halves
// of them read it concurrently. Hosts are independent, so the order of events
// stays fixed.
func (f *fleet) deliver(v *version, hosts []*host) {
	if len(hosts) > 0 && f.oneIn(20) {
		f.deliverDamaged(v, pick(f, hosts))
	}
	outcomes := make([]string, len(hosts))
	receive := func(from, to int) {
		for i := from; i < to; i++ {
			outcomes[i] = hosts[i].receive(v)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { receive(0, len(hosts)/2) })
	receive(len(hosts)/2, len(hosts))
	wg.Wait()
	for i, outcome := range outcomes {
		f.tally["ring arrived: "+outcome]++
		if outcome == wrong {
			f.violated(ringWentBack, "serial %d arrived, serial %d is in force", v.serial, hosts[i].ring.Serial())
		}
	}
}

func (f *fleet) deliverDamaged(v *version, h *host) {
	if !h.up {
		return
	}
	f.tally["ring arrived: damaged"]++
	sealed := slices.Clone(v.sealed)
	sealed[f.rng.IntN(len(sealed))] ^= 1 << f.rng.IntN(8)
	before := h.ring.Serial()
	changed, err := h.ring.Update(ctx, f.kek, sealed[:len(sealed)-f.rng.IntN(2)])
	if changed || err == nil || h.ring.Serial() != before {
		f.violated(ringWentBack, "a damaged ring was adopted: %v", err)
	}
}

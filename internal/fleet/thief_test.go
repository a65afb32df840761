package fleet_test

import (
	"encoding/base64"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/payload"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// thief has a copy of the ring, and wants to use one key of it.
type thief struct {
	ring *keyring.Ring
	when time.Time // that key seals
}

// steal gives a thief a key at now, by the clock of whoever found out. He tries
// gateways until the last token of that key would have expired, and they
// restart meanwhile.
func (f *fleet) steal(ring *keyring.Ring, k keyring.Key, now time.Time) {
	th := thief{ring, now}
	switch k.State {
	case keyring.Pending:
		th.when = k.Activates
	case keyring.Retired, keyring.Expired:
		th.when = k.Retires.Add(-time.Second)
	}
	for range 8 {
		g := pick(f, f.gateways)
		for range 4 {
			f.after(f.upTo(f.delay+f.policy.MaxTTL), func() { f.present(f.forge(th), g) })
		}
		f.after(f.upTo(f.delay), func() {
			f.crash(g.host, func() {
				g.start()
				// For a token of any clock.
				ready := g.when(g.guard.ReadyAt()).Add(f.spread)
				for range 4 {
					f.at(ready.Add(f.upTo(f.delay)), func() { f.present(f.forge(th), g) })
				}
			})
		})
	}
}

// forge makes a fresh token under the stolen key, even if that seals no more.
func (f *fleet) forge(th thief) *chatToken {
	f.tally["tokens forged"]++
	now, ttl := time.Now().Truncate(time.Second), f.ttl()
	var e payload.Encoder
	plaintext, err := e.Append(nil, user, nil, now.Unix(), int64(ttl/time.Second))
	require.NoError(f.t, err)
	sealed, err := th.ring.SealBox(box.Inside(), nil, plaintext, th.when)
	require.NoError(f.t, err)
	text := box.Magic + base64.RawURLEncoding.EncodeToString(sealed[len(box.Magic):])
	return &chatToken{text: text, key: f.keyOf(text), issuedAt: now, expiration: now.Add(ttl), forged: true}
}

package keyring

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// State is what a key may do at a given time. The zero State is invalid.
type State uint8

const (
	_       State = iota
	Pending       // opens, and will seal from its activation on
	Primary       // seals and opens
	Retired       // opens until it expires
	Expired       // neither seals nor opens
	Revoked       // neither seals nor opens, whatever its times say
)

// String returns the name of the state in lower case.
func (s State) String() string {
	names := [...]string{Pending: "pending", Primary: "primary", Retired: "retired", Expired: "expired", Revoked: "revoked"}
	if s == 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return names[s]
}

const (
	maxKeys   = 4096
	maxSerial = math.MaxInt64
	maxFirst  = 1 << 62
	maxStep   = 1 << 32
)

// ceiling returns the highest serial that may follow a known one, or come first
// if known is 0. The steps are so small that it takes billions of them to use
// up the serials. They are so large that changes alone never need one.
func ceiling(known uint64) uint64 {
	if known == 0 {
		return maxFirst
	}
	return min(min(known, maxSerial)+maxStep, maxSerial)
}

var (
	errSerial   = errors.New("keyring: serial is 0 or too large")
	errStep     = errors.New("keyring: a serial is raised by at most 4294967296 at a time; save the ring first")
	errHeadroom = errors.New("keyring: the lowest serial, or the high-water mark, leaves too few above it; see KEYS.md")
	errAhead    = errors.New("keyring: sealed ring has a serial that is too far ahead; see KEYS.md")
	errKeyCount = errors.New("keyring: no key, or more than 4096")
	errTimes    = errors.New("keyring: the times of a key are out of range")
	errChain    = errors.New("keyring: the keys do not follow each other")
)

// slot is the public part of a key: its ID and its times, in Unix seconds. Zero
// is a time that is not set. An activation of zero means that it was always
// active.
type slot struct {
	id                                              ID
	created, activates, retires, expires, revokedAt int64
}

// state depends only on the key's own times and now, so hosts that hold the
// same ring agree without talking.
func (k *slot) state(now int64) State {
	switch {
	case k.revokedAt != 0:
		return Revoked
	case k.expires != 0 && now >= k.expires:
		return Expired
	case k.activates != 0 && now < k.activates:
		return Pending
	case k.retires != 0 && now >= k.retires:
		return Retired
	}
	return Primary
}

// schedule says which key does what and when. It is a plain value, without
// secrets.
//
// The chain holds the keys that are not revoked, in order of activation. The
// first one was always active, each retires when the next one activates, and
// the last one never retires. So exactly one key is primary at every moment,
// whatever a clock says. A clock that is set back finds a key to seal with. If
// nobody rotates any more, the last key goes on.
type schedule struct {
	serial  uint64
	policy  Policy
	chain   []slot
	revoked []slot // in order of revocation
}

func newSchedule(serial uint64, p Policy, now int64, fresh func() ID) schedule {
	s := schedule{serial: serial, policy: p}
	s.chain = []slot{{id: fresh(), created: now}}
	s.publish(now, fresh)
	return s
}

func (s *schedule) clone() schedule {
	c := *s
	c.chain, c.revoked = slices.Clone(s.chain), slices.Clone(s.revoked)
	return c
}

// primary returns the index in the chain of the key that seals: the one before
// the first pending key.
func (s *schedule) primary(now int64) int {
	return sort.Search(len(s.chain)-1, func(i int) bool { return now < s.chain[i+1].activates })
}

// rotate publishes the next key if there is none, and drops expired ones.
func (s *schedule) rotate(now int64, fresh func() ID) (changed bool, err error) {
	published := s.publish(now, fresh)
	return s.prune(now) || published, nil
}

// publish appends a pending key to the chain, unless it has one.
func (s *schedule) publish(now int64, fresh func() ID) bool {
	last := &s.chain[len(s.chain)-1]
	if last.state(now) == Pending {
		return false
	}
	// A key from the future counts as one of now.
	next := max(min(s.due(), now)+seconds(s.policy.Period), now+seconds(s.policy.Lead))
	last.retires, last.expires = next, next+s.policy.overlap()
	s.chain = append(s.chain, slot{id: fresh(), created: now, activates: next})
	return true
}

// due returns when the next key is due: when the last one starts to seal.
func (s *schedule) due() int64 {
	last := &s.chain[len(s.chain)-1]
	if last.activates == 0 {
		return last.created
	}
	return last.activates
}

// prune drops expired keys, in the chain only from the front. The first one
// that is left becomes always active. Otherwise, if a clock was ahead for a
// moment, the ring could not seal until that time.
func (s *schedule) prune(now int64) bool {
	before := len(s.chain) + len(s.revoked)
	for s.chain[0].state(now) == Expired {
		s.dropFirst(1)
	}
	s.revoked = slices.DeleteFunc(s.revoked, func(k slot) bool { return now >= k.expires })
	return len(s.chain)+len(s.revoked) < before
}

// dropFirst drops the first n keys of the chain. At least one must remain.
func (s *schedule) dropFirst(n int) {
	s.chain = s.chain[n:]
	s.chain[0].activates = 0
}

// limitKeys keeps the ring within maxKeys. Only a ring of somebody else's
// making exceeds that, and nothing in such a ring may keep it from being
// changed. It first drops the keys revoked longest ago, because unknown keys
// are refused as well. It then drops the oldest keys of the chain.
func (s *schedule) limitKeys() {
	if n := len(s.chain) - maxKeys; n > 0 {
		s.dropFirst(n)
	}
	if n := len(s.chain) + len(s.revoked) - maxKeys; n > 0 {
		s.revoked = s.revoked[n:]
	}
}

// rotateNow lets the next key seal from now on, ahead of its time.
func (s *schedule) rotateNow(now int64, fresh func() ID) (changed bool, err error) {
	i := s.primary(now)
	if i+1 == len(s.chain) || now < s.chain[i+1].created+seconds(s.policy.Lead) {
		return false, ErrTooSoon
	}
	if now <= s.chain[i].activates {
		return false, ErrTooSoon // clock set back: not sealed yet
	}
	s.chain[i].retires = now
	// A host that does not know that yet seals under the old key until the
	// new version reaches it.
	s.chain[i].expires = min(s.chain[i].expires, now+seconds(s.policy.Lead)+s.policy.overlap())
	s.chain[i+1].activates = now
	_, err = s.rotate(now, fresh)
	return true, err
}

// setPolicy replaces the policy, prolongs keys that must open for longer, and
// rotates. An expired key stays expired. It publishes before it prunes: pruning
// may leave one key, which loses its activation.
func (s *schedule) setPolicy(now int64, p Policy, fresh func() ID) (changed bool, err error) {
	if p.MaxTTL < s.policy.MaxTTL || p.ClockSkew < s.policy.ClockSkew {
		return false, errLowered
	}
	if p.MaxTTL != s.policy.MaxTTL || p.ClockSkew != s.policy.ClockSkew {
		if err := p.checkNew(); err != nil {
			return false, err
		}
	}
	longer := p.overlap() > s.policy.overlap()
	changed = p != s.policy
	s.policy = p
	rotated, _ := s.rotate(now, fresh)
	for i := range s.chain[:len(s.chain)-1] {
		k := &s.chain[i]
		if longer && k.expires < now+seconds(p.Lead) {
			return false, ErrTooSoon
		}
		k.expires = max(k.expires, k.retires+p.overlap())
	}
	return changed || rotated, nil
}

// revoke takes a key out of the chain. Its successor takes over its times as
// well, so it seals at once on hosts with any clock. If there is no successor,
// or if the key was itself pending, a fresh key takes its place, because
// retirement is never postponed.
func (s *schedule) revoke(now int64, id ID, fresh func() ID) (changed bool, err error) {
	named := func(k slot) bool { return k.id == id }
	if slices.ContainsFunc(s.revoked, named) {
		return false, nil
	}
	i := slices.IndexFunc(s.chain, named)
	if i < 0 {
		return false, ErrUnknownKey
	}
	k := s.chain[i]
	if i+1 == len(s.chain) || k.state(now) == Pending {
		s.chain[i].id, s.chain[i].created = fresh(), now
	} else {
		s.chain[i+1].activates = k.activates
		s.chain = slices.Delete(s.chain, i, i+1)
	}
	k.revokedAt = max(now, 1)
	if k.expires == 0 {
		k.expires = k.revokedAt + s.policy.overlap()
	}
	s.revoked = append(s.revoked, k)
	_, err = s.rotate(now, fresh)
	return true, err
}

// check returns an error unless this package could have made the schedule.
func (s *schedule) check() error {
	if len(s.chain) == 0 || len(s.chain)+len(s.revoked) > maxKeys {
		return errKeyCount
	}
	if s.serial == 0 || s.serial > maxSerial {
		return errSerial
	}
	if err := s.policy.check(); err != nil {
		return err
	}
	for _, k := range slices.Concat(s.chain, s.revoked) {
		if !k.inRange() {
			return errTimes
		}
	}
	return s.checkOrder()
}

func (k *slot) inRange() bool {
	return min(k.created, k.activates, k.retires, k.expires, k.revokedAt) >= 0 &&
		max(k.created, k.activates, k.retires, k.expires, k.revokedAt) <= limits.MaxUnix
}

func (s *schedule) checkOrder() error {
	if s.chain[0].activates != 0 {
		return errChain
	}
	for i := range s.chain {
		if s.chain[i].revokedAt != 0 || !s.follows(i) {
			return errChain
		}
	}
	for i := range s.revoked {
		if s.revoked[i].revokedAt == 0 || s.revoked[i].expires == 0 {
			return errChain
		}
	}
	return nil
}

// follows reports whether key i retires when the next one activates, and opens
// for long enough after that. The last key must never retire.
func (s *schedule) follows(i int) bool {
	k := &s.chain[i]
	if i+1 == len(s.chain) {
		return k.retires == 0 && k.expires == 0
	}
	return k.retires > k.activates && k.retires == s.chain[i+1].activates &&
		k.expires >= k.retires+s.policy.overlap()
}

// Key describes a key of a ring. It holds no secret. A zero time is not set.
type Key struct {
	ID    ID
	State State

	// Created is when the key was made and published.
	Created time.Time
	// Activates is when the key starts to seal. Zero means that it was
	// always active, as for the oldest key.
	Activates time.Time
	// Retires is when the key stops sealing. Zero means that no next key
	// exists yet.
	Retires time.Time
	// Expires is when the key stops opening. Zero means as for Retires.
	Expires time.Time
	// Revoked is when the key was revoked, by the revoking host's clock.
	Revoked time.Time
}

func (k *slot) describe(now int64) Key {
	return Key{
		ID:        k.id,
		State:     k.state(now),
		Created:   unixTime(k.created),
		Activates: unixTime(k.activates),
		Retires:   unixTime(k.retires),
		Expires:   unixTime(k.expires),
		Revoked:   unixTime(k.revokedAt),
	}
}

func unixTime(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// all yields the keys: the chain, then the revoked ones.
func (s *schedule) all() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for _, list := range [][]slot{s.chain, s.revoked} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

func (s *schedule) ids() []string {
	var ids []string
	for k := range s.all() {
		ids = append(ids, k.id.String())
	}
	return ids
}

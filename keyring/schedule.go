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

// State is what a key may do at some moment. The zero State is invalid.
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

// ceiling returns the highest serial that may follow a known one, or be the
// first one if that is 0. The steps are so small that it takes billions of them
// to use the serials up, and so large that changes alone never take one.
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

// slot is the public part of a key: its name and its times, in Unix seconds.
// Zero means that a time is not set; an activation of zero is "since ever".
type slot struct {
	id                                              ID
	created, activates, retires, expires, revokedAt int64
}

// state is a function of nothing but the key's own times and now, so that
// hosts that hold the same ring need not talk to agree.
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

// schedule is which key does what and when: a plain value, without secrets.
//
// The chain holds the keys that were not revoked, in order of activation. The
// first one has been active since ever, each retires when the next one
// activates, and the last one never does. So there is exactly one primary at
// every moment, whatever a clock says: one that is set back finds a key to seal
// with, and if nobody rotates any more, nobody is refused for it.
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
// the first that is pending.
func (s *schedule) primary(now int64) int {
	return sort.Search(len(s.chain)-1, func(i int) bool { return now < s.chain[i+1].activates })
}

// rotate publishes a spare where there is none and drops what has expired.
func (s *schedule) rotate(now int64, fresh func() ID) (changed bool, err error) {
	published := s.publish(now, fresh)
	return s.prune(now) || published, nil
}

// publish appends a spare to the chain, unless it has one.
func (s *schedule) publish(now int64, fresh func() ID) bool {
	last := &s.chain[len(s.chain)-1]
	if last.state(now) == Pending {
		return false
	}
	// A key that claims to be of the future counts as one of now.
	next := max(min(s.due(), now)+seconds(s.policy.Period), now+seconds(s.policy.Lead))
	last.retires, last.expires = next, next+s.policy.overlap()
	s.chain = append(s.chain, slot{id: fresh(), created: now, activates: next})
	return true
}

// due returns when publish has something to do: when the last key starts to
// seal.
func (s *schedule) due() int64 {
	last := &s.chain[len(s.chain)-1]
	if last.activates == 0 {
		return last.created
	}
	return last.activates
}

// prune drops keys that have expired. In the chain it does so from the front
// only, and the rest must still be one. Without that, a clock that was ahead
// for a moment would leave a ring that cannot seal until it is there again.
func (s *schedule) prune(now int64) bool {
	before := len(s.chain) + len(s.revoked)
	for s.chain[0].state(now) == Expired {
		s.behead(1)
	}
	s.revoked = slices.DeleteFunc(s.revoked, func(k slot) bool { return now >= k.expires })
	return len(s.chain)+len(s.revoked) < before
}

// behead drops the first n keys of the chain, of which more are left.
func (s *schedule) behead(n int) {
	s.chain = s.chain[n:]
	s.chain[0].activates = 0
}

// fit keeps the ring within maxKeys, which only one of somebody else's making
// exceeds: nothing that such a ring holds may keep it from being changed. First
// the keys go that were revoked longest ago, as they are refused as unknown,
// too; then the oldest of the chain.
func (s *schedule) fit() {
	if n := len(s.chain) - maxKeys; n > 0 {
		s.behead(n)
	}
	if n := len(s.chain) + len(s.revoked) - maxKeys; n > 0 {
		s.revoked = s.revoked[n:]
	}
}

// advance lets the spare seal from now on, ahead of its time.
func (s *schedule) advance(now int64, fresh func() ID) (changed bool, err error) {
	i := s.primary(now)
	if i+1 == len(s.chain) || now < s.chain[i+1].created+seconds(s.policy.Lead) {
		return false, ErrTooSoon
	}
	if now <= s.chain[i].activates {
		return false, ErrTooSoon // it has not sealed yet: the clock was set back
	}
	s.chain[i].retires = now
	// A host that has not heard of it yet goes on sealing under the old key,
	// for as long as the new version takes to reach it.
	s.chain[i].expires = min(s.chain[i].expires, now+seconds(s.policy.Lead)+s.policy.overlap())
	s.chain[i+1].activates = now
	_, err = s.rotate(now, fresh)
	return true, err
}

// amend replaces the policy, prolongs what it wants to open for longer, and
// rotates. A key that has expired stays so. It publishes before it prunes: that
// may leave one key alone, whose activation is then no longer known.
func (s *schedule) amend(now int64, p Policy, fresh func() ID) (changed bool, err error) {
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

// revoke takes a key out of the chain. Its successor takes over its time as
// well, so that it seals at once on hosts with any clock. Where there is none,
// or where the key was to be the successor itself, a fresh key takes its place,
// because retirement is never postponed.
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

// check returns an error unless the schedule is one that this package would
// have made, or could have.
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

// follows reports whether key i ends when the next one starts and opens for
// long enough after that; or, for the last one, never ends.
func (s *schedule) follows(i int) bool {
	k := &s.chain[i]
	if i+1 == len(s.chain) {
		return k.retires == 0 && k.expires == 0
	}
	return k.retires > k.activates && k.retires == s.chain[i+1].activates &&
		k.expires >= k.retires+s.policy.overlap()
}

// Key describes a key of a ring. It holds no secret. A zero time is one that
// is not set.
type Key struct {
	ID    ID
	State State

	// Created is when the key was made and published.
	Created time.Time
	// Activates is when the key starts to seal. The oldest key of a ring may
	// seal whatever the clock says: this is then zero.
	Activates time.Time
	// Retires is when the key stops to seal. Zero means that nobody is to
	// follow it yet.
	Retires time.Time
	// Expires is when the key stops to open. Zero means as Retires does.
	Expires time.Time
	// Revoked is when the key was revoked, by the clock of who did.
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

// Package keyring holds the keys under which chat tokens are sealed. [New]
// makes a ring that needs no configuration. Give it to a
// [github.com/seed17cb2b26/chattoken/token.Sealer] and a
// [github.com/seed17cb2b26/chattoken/token.Opener].
//
// A ring lives in one of three places:
//
//   - in memory only: [NewInMemory];
//   - in a sealed file that one process rotates ([Ring.Rotate], [File.Save])
//     and many follow ([File.Follow], with a [KEKFile]);
//   - in the caller's store ([Ring.Marshal], [Load], [Ring.Update]).
//
// KEYS.md, in the root of the module, says what to do when something goes
// wrong.
//
// # Keys
//
// A ring seals with XChaCha20-Poly1305 and random nonces. Only package token
// can seal, so nothing bypasses a Sealer's validation. The key and its ID are
// derived from a secret of 32 random bytes and the context of the [Config],
// with HKDF-SHA256 and an empty salt:
//
//	key    = HKDF(secret, info = "chattoken/v1 key"    ‖ 0x00 ‖ context)  32 bytes
//	key ID = HKDF(secret, info = "chattoken/v1 key-id" ‖ 0x00 ‖ context)   4 bytes
//
// # Schedule
//
// Each key has fixed times. Its [State] depends only on them and the clock, so
// hosts that hold the same ring need not talk, and nothing runs in the
// background. At every moment exactly one key seals. The next key is already
// published, so all hosts can open what it seals before the first one seals
// with it. A key opens until the longest possible token has expired. A revoked
// key opens nothing. [Ring.Rotate] applies the [Policy]. [Ring.Overdue] tells
// if nobody calls it.
//
// # Sealed form
//
// Form 2, with a byte for n1 and two bytes, big-endian, for n2:
//
//	"chattoken-keyring" ‖ 0x02 ‖ n1 ‖ KEK ID [n1] ‖ n2 ‖ wrapped data key [n2]
//	‖ nonce [24] ‖ ciphertext ‖ tag [16]
//
// The cipher is XChaCha20-Poly1305 under a fresh data key of 32 bytes. All that
// is before the nonce is additional data. A KEK ID has 1 to 255 bytes, a
// wrapped data key 1 to 65,535, the whole at most 1 MiB. The plaintext is
//
//	SHA-256("chattoken/v1 context" ‖ 0x00 ‖ context) [32] ‖ document
//
// The digest is how a ring of another context is refused. It is encrypted, so
// without a KEK nobody learns anything about the context.
//
// Form 1 has 0x01 in place of 0x02, and the document alone. It is read unless
// [Config] refuses it, and never written. The document is deterministic CBOR
// (RFC 8949, section 4.2.1), and nothing else is read:
//
//	[ serial uint (from 1 to 2^63-1),
//	  [ maxTTL uint, clockSkew uint, period uint, lead uint ],   seconds
//	  [ key, ... ],                                   in order of activation
//	  [ key, ... ] ]                                                 revoked
//	key = [ secret bstr (32 bytes), created uint, activates uint,
//	        retires uint, expires uint, revoked uint ]
//
// Times are Unix seconds up to 253402300799. 0 is a time that is not set. The
// rules for keys:
//
//   - First list: the first key has activates 0. Each key but the last retires
//     when the next one activates, which is later than its own activation, and
//     expires at least maxTTL + 2·clockSkew after that. The last has neither
//     retires nor expires. None has revoked.
//   - Second list: all have expires and revoked.
//   - There are 1 to 4096 keys in all, at least one in the first list. No two
//     have the same ID, and no secret is all zero.
//
// Neither IDs nor the context are stored.
//
// A serial is accepted if it is at most 2^32 above the known one, or at most
// 2^62 if none is known. So nobody, not even with the KEK, can use up the
// serials in a few steps. One step is more than a rotation every second for a
// century.
//
// A [LocalKEK] is 32 random bytes. Its text is "chattoken-kek1_" and their
// base64url form without padding. As above,
//
//	key    = HKDF(KEK, info = "chattoken/v1 kek"    ‖ 0x00)  32 bytes
//	KEK ID = "local-" ‖ hex(HKDF(KEK, info = "chattoken/v1 kek-id" ‖ 0x00)  8 bytes)
//
// The wrapped data key is nonce [24] ‖ ciphertext [32] ‖ tag [16] of
// XChaCha20-Poly1305, with the KEK ID as additional data.
//
// Later versions of this package read the tokens and both sealed forms.
//
// # Limits
//
// The keys are symmetric: whoever can open a token can mint one. No printer,
// encoder or dumper shows a key, a secret or a KEK. But Go cannot erase memory
// for certain: copies may stay until the memory is reused.
package keyring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// The errors of changing, loading and saving a ring. Some are wrapped.
var (
	// ErrUnknownKey says that the ring has no key of that ID.
	ErrUnknownKey = box.ErrUnknownKey

	// ErrTooSoon says that another host may not have learned of a change in
	// time: the next key was published less than Policy.Lead ago, or a key
	// that is to open for longer expires within Policy.Lead.
	ErrTooSoon = errors.New("keyring: too soon for another host to have heard of it")

	// ErrRollback says that the sealed ring is older than the one in force,
	// or below Config.MinSerial.
	ErrRollback = errors.New("keyring: sealed ring has a lower serial")

	// ErrConflict says that somebody else changed the ring at the same
	// time: the same serial has other content, or the file is not the one
	// that this ring was loaded from. Load it again and repeat the change.
	ErrConflict = errors.New("keyring: changed by another writer")

	// ErrContext says that the sealed ring was made with another
	// Config.Context: it belongs to another deployment.
	ErrContext = errors.New("keyring: sealed ring of another context")
)

var (
	errContext  = errors.New("keyring: Config.Context is longer than 255 bytes")
	errClock    = errors.New("keyring: the clock is before 1970 or after 9999")
	errFarAhead = errors.New("keyring: far ahead: the last key seals later than a period from now, and nobody rotates until then")
	errNoKeys   = errors.New("keyring: this ring was made neither by New nor by Load")
	errMarshal  = errors.New("keyring: keys are not marshalled in clear; use Ring.Marshal with a KEK")
)

// Config configures a ring. The zero value is a safe default.
type Config struct {
	// Context names the deployment, such as "chat.example.com production".
	// It has at most 255 bytes of any kind. It is bound into every key and
	// key ID: with the same secrets but another context, nothing opens. So
	// if a ring is copied from staging to production by mistake, production
	// refuses it with [ErrContext]. That is no protection from whoever has
	// both KEKs: give each deployment its own. The sealed form has an
	// encrypted digest of it.
	Context string

	// MinSerial is the lowest serial that Load and Update accept, and the
	// first one that New gives. Raise it so that a restart does not load an
	// old backup. Load also refuses a serial that is more than 2^32 higher.
	// Zero means that none is known: New starts with 1, and Load accepts up
	// to 2^62.
	MinSerial uint64

	// Policy is for New. A sealed ring has its own.
	Policy Policy

	// RefuseForm1 refuses sealed rings of form 1 with [ErrContext]. That
	// form names no context, so it may be another deployment's. Saving
	// writes form 2. Once form 2 is in force, form 1 is always refused.
	// After the migration in KEYS.md, set it on every host.
	RefuseForm1 bool
}

const maxContext = 255

// Ring is a set of keys: one seals and several open. It is safe for concurrent
// use, and minting and opening never block. [New] and [Load] make it, and it
// must not be copied. The zero Ring has no keys: it seals, opens and changes
// nothing.
//
// Times are arguments. Fractions of a second do not matter, because all times
// of keys are whole seconds.
type Ring struct {
	context   string
	minSerial uint64
	lowest    uint8 // form that is read
	current   atomic.Pointer[snapshot]

	mu    sync.Mutex  // held by writers
	base  fingerprint // of the sealed form that was last loaded or saved
	form  uint8       // its form; 2 for a new ring
	known uint64      // serial last loaded, saved or marshalled, or 0
}

// snapshot is one version of the ring. It is immutable.
type snapshot struct {
	schedule
	entries []*entry // those of schedule.all
	index   []*entry // the same, by ID: see find
}

type entry struct {
	slot
	key key
}

var noKeys = snapshot{index: make([]*entry, 1)}

func (r *Ring) load() *snapshot {
	if s := r.current.Load(); s != nil {
		return s
	}
	return &noKeys
}

func newSnapshot(s schedule, keys map[ID]key) *snapshot {
	size := uint32(1) << bits.Len(uint(2*len(keys)))
	snap := &snapshot{schedule: s, index: make([]*entry, size)}
	for k := range s.all() {
		e := &entry{*k, keys[k.id]}
		snap.entries = append(snap.entries, e)
		i := k.id.hash() % size
		for snap.index[i] != nil {
			i = (i + 1) % size
		}
		snap.index[i] = e
	}
	return snap
}

// find returns the key of that ID, or nil. IDs are the output of a hash. To
// hash them again, as a map does, costs 4 % of opening a small box. At least
// half of the index is empty, so every search is short.
func (s *snapshot) find(id ID) *entry {
	size := uint32(len(s.index)) // a power of two
	for i := id.hash(); ; i++ {
		if e := s.index[i&(size-1)]; e == nil || e.id == id {
			return e
		}
	}
}

// New makes a ring of two fresh keys: the primary, and the next key. It is in
// memory only, until it is saved.
func New(now time.Time, c Config) (*Ring, error) {
	r, err := newRing(c)
	if err != nil {
		return nil, err
	}
	if !validClock(now) {
		return nil, errClock
	}
	if c.MinSerial > ceiling(0) {
		return nil, errHeadroom
	}
	g := generator{context: c.Context, keys: make(map[ID]key)}
	s := newSchedule(max(c.MinSerial, 1), c.Policy.or(defaultPolicy), now.Unix(), g.fresh)
	if g.err != nil {
		return nil, g.err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := s.policy.checkNew(); err != nil {
		return nil, err
	}
	r.form = sealedForm2
	r.current.Store(newSnapshot(s, g.keys))
	return r, nil
}

func newRing(c Config) (*Ring, error) {
	if len(c.Context) > maxContext {
		return nil, errContext
	}
	r := &Ring{context: c.Context, minSerial: c.MinSerial, lowest: sealedForm1}
	if c.RefuseForm1 {
		r.lowest = sealedForm2
	}
	return r, nil
}

func validClock(now time.Time) bool {
	return now.Unix() >= 0 && now.Unix() <= limits.MaxUnix
}

// Rotate applies the policy: it publishes the next key if there is none, and
// drops expired ones. It reports whether that changed the ring. Each change
// raises the serial by one. Call it as often as you like, for instance every
// minute: it does nothing until it is due. If nobody calls it, the last key
// goes on sealing.
//
// If several processes hold one ring, one rotates and saves, and the others
// update theirs. Whoever else rotates a copy gets [ErrConflict] from then on.
func (r *Ring) Rotate(now time.Time) (changed bool, err error) {
	return r.change(now, (*schedule).rotate)
}

// RotateNow lets the next key seal from now on, ahead of its time, and
// publishes another one. If the next key was published less than Policy.Lead
// ago, as the policy is now, the error is [ErrTooSoon].
func (r *Ring) RotateNow(now time.Time) error {
	_, err := r.change(now, (*schedule).rotateNow)
	return err
}

// Revoke makes a key open nothing from now on:
//
//   - the primary: the next key seals at once, and another one is published;
//   - the next key: a fresh key takes its place, to seal at the same time.
//
// No older key seals again.
//
// If the ring has no such ID, the error is [ErrUnknownKey]. To revoke a key
// twice is no error.
func (r *Ring) Revoke(now time.Time, id ID) error {
	_, err := r.change(now, func(s *schedule, now int64, fresh func() ID) (bool, error) {
		return s.revoke(now, id, fresh)
	})
	return err
}

// SetPolicy changes the policy, and rotates. Zero fields of p keep their value.
// Period and Lead count from the next key on: the times at which the existing
// keys activate and retire stay.
//
// MaxTTL and ClockSkew can only be raised. Then all keys open for longer, and
// every host must learn of that before one of them expires. If one expires
// within Lead, the error is [ErrTooSoon]. First restart every gateway with an
// in-memory guard of the new limits, because a guard keeps its own.
func (r *Ring) SetPolicy(now time.Time, p Policy) error {
	_, err := r.change(now, func(s *schedule, now int64, fresh func() ID) (bool, error) {
		return s.setPolicy(now, p.or(s.policy), fresh)
	})
	return err
}

// RaiseSerial raises the serial to the given one, and does nothing if that is
// not higher. One step is at most 2^32 above the serial last loaded or saved,
// and followers go no further. Use it for a ring from a backup: its followers
// have seen higher serials, and would refuse it.
func (r *Ring) RaiseSerial(serial uint64) error {
	anyTime := time.Unix(0, 0)
	_, err := r.change(anyTime, func(s *schedule, _ int64, _ func() ID) (bool, error) {
		if serial <= s.serial {
			return false, nil
		}
		s.serial = serial - 1 // change adds one
		return true, nil
	})
	return err
}

// change applies f to a copy of the schedule, and puts a valid result in force.
func (r *Ring) change(now time.Time, f func(*schedule, int64, func() ID) (bool, error)) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.current.Load()
	if old == nil {
		return false, errNoKeys
	}
	if !validClock(now) {
		return false, errClock
	}
	g := generator{context: r.context, keys: old.material()}
	s := old.schedule.clone()
	changed, err := f(&s, now.Unix(), g.fresh)
	if err != nil || !changed {
		return false, err
	}
	s.serial++
	if s.serial > ceiling(cmp.Or(r.known, old.serial)) {
		return false, errStep
	}
	s.limitKeys()
	if err := s.check(); err != nil {
		return false, err
	}
	if g.err != nil {
		return false, g.err
	}
	r.current.Store(newSnapshot(s, g.keys))
	return true, nil
}

func (s *snapshot) material() map[ID]key {
	m := make(map[ID]key, len(s.entries))
	for _, e := range s.entries {
		m[e.id] = e.key
	}
	return m
}

// Keys describes the keys at a time: first those that are not revoked, in order
// of activation, then the revoked ones.
func (r *Ring) Keys(now time.Time) iter.Seq[Key] {
	s := r.load()
	return func(yield func(Key) bool) {
		for k := range s.all() {
			if !yield(k.describe(now.Unix())) {
				return
			}
		}
	}
}

// Overdue returns for how long the next key has been due, or zero if that is no
// cause for alarm. It uses only the times in the ring. So it sees whatever
// keeps new versions from this process: a dead rotator, a mount that never
// changes, or a file that nobody copies any more. The zero Ring is never
// overdue.
//
// The next key is due when the last one starts to seal. Overdue is above zero
// once twice Policy.Lead has passed since, or half of Period if that is less.
// That is enough for a rotator that runs once in a Lead, and for the ring to
// reach every host within a Lead. If Lead is more than a quarter of Period,
// there is less time, and Overdue may be a false alarm.
//
// If the policy has not changed, no token is refused until a whole Period has
// passed. From then on hosts that have the next key may mint under it, and this
// ring does not open that. Overdue comes too late for a host that no longer
// gets new versions if one of those shortens the Period, revokes a key, or
// rotates ahead of time. Compare the serials of hosts for that.
func (r *Ring) Overdue(now time.Time) time.Duration {
	s := r.load()
	if len(s.chain) == 0 {
		return 0
	}
	late := now.Sub(time.Unix(s.due(), 0))
	if late <= min(2*s.policy.Lead, s.policy.Period/2) {
		return 0
	}
	return late
}

// FarAhead reports whether the last key starts to seal later than Period and
// ClockSkew from now. Then rotation is later than the policy says: the
// rotator's clock was ahead, or the Period was longer. To fix it, see "The
// rotator's clock was ahead" in KEYS.md.
func (r *Ring) FarAhead(now time.Time) bool {
	s := r.load()
	return len(s.chain) > 0 && s.chain[len(s.chain)-1].activates > now.Unix()+seconds(s.policy.Period+s.policy.ClockSkew)
}

func (r *Ring) health(now time.Time) error {
	if d := r.Overdue(now); d > 0 {
		return fmt.Errorf("keyring: overdue: the next key has been due for %v", d.Truncate(time.Second))
	}
	if r.FarAhead(now) {
		return errFarAhead
	}
	return nil
}

// Serial returns the number of the ring's version. Every change adds one.
func (r *Ring) Serial() uint64 { return r.load().serial }

// Form returns the form of the sealed ring that was last loaded or saved: 2, or
// 1, which names no context. It is 2 for a ring made by New, and 0 for the zero
// Ring.
func (r *Ring) Form() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.form)
}

// Policy returns the policy. Its fields are not zero, except for the zero Ring.
func (r *Ring) Policy() Policy { return r.load().policy }

// Limits returns the policy's limits on tokens. They are zero for the zero
// Ring.
func (r *Ring) Limits() Limits {
	p := &r.load().policy
	return Limits{MaxTTL: p.MaxTTL, ClockSkew: p.ClockSkew}
}

// String returns the serial and the IDs of the keys.
func (r *Ring) String() string {
	s := r.load()
	return fmt.Sprintf("keyring(serial %d, keys %s)", s.serial, strings.Join(s.ids(), " "))
}

// Format writes what String returns, whatever the verb.
func (r *Ring) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// LogValue returns the serial and the IDs of the keys.
func (r *Ring) LogValue() slog.Value {
	s := r.load()
	return slog.GroupValue(slog.Uint64("serial", s.serial), slog.Any("keys", s.ids()))
}

// MarshalJSON returns an error: see [Ring.Marshal].
func (r *Ring) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// MarshalText returns an error: see [Ring.Marshal].
func (r *Ring) MarshalText() ([]byte, error) { return nil, errMarshal }

// GobEncode returns an error: see [Ring.Marshal].
func (r *Ring) GobEncode() ([]byte, error) { return nil, errMarshal }

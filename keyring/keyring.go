// Package keyring holds the keys under which chat tokens are sealed. [New]
// makes a ring that needs no configuration; a token.Sealer and a token.Opener
// use it.
//
// A ring lives in one of three places: in memory only; in a sealed file that
// one process rotates ([Ring.Rotate], [File.Save]) and many follow
// ([File.Follow], with a [KEKFile]); or in a store of the caller's
// ([Ring.Marshal], [Load], [Ring.Update]). KEYS.md, in the root of the module,
// says what to do when something goes wrong.
//
// # Keys
//
// A ring seals with XChaCha20-Poly1305 and random nonces, for package token
// only: there is no way past the validation of a token.Sealer. The key and its
// ID are derived from a secret of 32 random bytes and the context of the
// [Config], with HKDF-SHA256 and an empty salt:
//
//	key    = HKDF(secret, info = "chattoken/v1 key"    ‖ 0x00 ‖ context)  32 bytes
//	key ID = HKDF(secret, info = "chattoken/v1 key-id" ‖ 0x00 ‖ context)   4 bytes
//
// # Schedule
//
// Each key has fixed times, and its [State] is a function of them and the clock
// alone: hosts that hold the same ring need not talk, and nothing runs in the
// background. At every moment exactly one key seals. The key that will be next
// is already there, so that all hosts open what it seals before the first one
// seals with it. A key opens until the longest possible token has expired, and
// a revoked one not at all. [Ring.Rotate] applies the [Policy], and
// [Ring.Overdue] tells when nobody seems to call it.
//
// # Sealed form
//
// Form 2, in which n1 is a byte and n2 two bytes, big-endian:
//
//	"chattoken-keyring" ‖ 0x02 ‖ n1 ‖ KEK ID [n1] ‖ n2 ‖ wrapped data key [n2]
//	‖ nonce [24] ‖ ciphertext ‖ tag [16]
//
// of XChaCha20-Poly1305 under a data key of 32 bytes, fresh each time, with all
// that is before the nonce as additional data. A KEK ID has 1 to 255 bytes, a
// wrapped data key 1 to 65,535, the whole at most 1 MiB. The plaintext is
//
//	SHA-256("chattoken/v1 context" ‖ 0x00 ‖ context) [32] ‖ document
//
// so that a ring of another context is told from this one and is refused. The
// digest is encrypted: whoever has no KEK learns nothing about the context.
//
// Form 1, with 0x01 in place of 0x02, has the document alone. It is read if
// [Config] says so, and never written. The document is deterministic CBOR (RFC
// 8949, section 4.2.1), and nothing but that is read:
//
//	[ serial uint (from 1 to 2^63-1),
//	  [ maxTTL uint, clockSkew uint, period uint, lead uint ],   seconds
//	  [ key, ... ],                                   in order of activation
//	  [ key, ... ] ]                                                 revoked
//	key = [ secret bstr (32 bytes), created uint, activates uint,
//	        retires uint, expires uint, revoked uint ]
//
// Times are Unix seconds up to 253402300799; 0 is a time that is not set. Of
// the first list, the first key has activates 0, each retires when the next one
// activates, which is later than its own activation, and expires at least
// maxTTL + 2·clockSkew after that; the last one has neither retires nor
// expires; none has revoked. In the second one all have expires and revoked.
// There are 1 to 4096 keys in all, one at least in the first list, no two of
// the same ID, and no secret is all zero. Neither IDs nor the context itself
// are stored.
//
// A serial is adopted if it is at most 2^32 above the one that is known, and at
// most 2^62 if none is known. So nobody, not even with the KEK, can use the
// serials up in a few steps: a ring could rotate every second for a century and
// take a single such step.
//
// A [LocalKEK] is 32 random bytes, in text "chattoken-kek1_" and their
// base64url form without padding. From them follow, as above,
//
//	key    = HKDF(KEK, info = "chattoken/v1 kek"    ‖ 0x00)  32 bytes
//	KEK ID = "local-" ‖ hex(HKDF(KEK, info = "chattoken/v1 kek-id" ‖ 0x00)  8 bytes)
//
// and the wrapped data key is nonce [24] ‖ ciphertext [32] ‖ tag [16] of
// XChaCha20-Poly1305, with the KEK ID as additional data.
//
// Boxes and both sealed forms are a promise: later versions of this package
// read them.
//
// # Limits
//
// The keys are symmetric: who can open a token can mint one. No printer,
// encoder or dumper shows a key, a secret or a KEK, but Go cannot erase memory
// for certain: copies may stay in it until it is reused.
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

	// ErrTooSoon says that another host may not have heard in time: the spare
	// was published less than Policy.Lead ago, or a key that is to open for
	// longer expires within Policy.Lead.
	ErrTooSoon = errors.New("keyring: too soon for another host to have heard of it")

	// ErrRollback says that the sealed ring is older than the one in force, or
	// than Config.MinSerial.
	ErrRollback = errors.New("keyring: sealed ring has a lower serial")

	// ErrConflict says that somebody else has changed the ring at the same
	// time: the same serial with other content, or a file that is not what this
	// ring was loaded from. Load it again and repeat the change.
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

// Config is what the embedder decides. The zero value is a safe default.
type Config struct {
	// Context is bound into every key and key ID: rings of the same secrets but
	// another context open nothing of each other. Name the deployment in it
	// ("chat.example.com production"), and a ring that is copied from staging
	// to production by mistake is refused there, with [ErrContext]. That is no
	// protection from who has the KEK of both: give each deployment its own. At
	// most 255 bytes of any kind. The sealed form has a digest of it,
	// encrypted.
	Context string

	// MinSerial is the lowest serial that Load and Update accept, and the one
	// that New starts with. Raise it to keep a restart from loading an old
	// backup. Load also refuses a serial that is more than 2^32 higher. Zero
	// means that none is known: New starts with 1, and Load accepts up to 2^62.
	MinSerial uint64

	// Policy is that of a ring made by New. A sealed ring has its own.
	Policy Policy

	// RefuseForm1 refuses sealed rings of form 1 with [ErrContext]. That form
	// names no context, so it may be another deployment's. What is saved is form
	// 2, and once a version of form 2 is in force, form 1 is refused in any case.
	// Set it on every host once a fleet has gone over, as KEYS.md says.
	RefuseForm1 bool
}

const maxContext = 255

// Ring is a set of keys, of which one seals and several open. It is safe for
// concurrent use; minting and opening tokens never wait. It is made by [New] or
// [Load] and must not be copied. The zero Ring has no keys: it seals, opens and
// changes nothing.
//
// Times are arguments. Of them whole seconds count, which loses nothing since
// all times of keys are whole seconds.
type Ring struct {
	context   string
	minSerial uint64
	lowest    uint8 // form that is read
	current   atomic.Pointer[snapshot]

	mu    sync.Mutex  // held by writers
	base  fingerprint // of the sealed form that was last loaded or saved
	form  uint8       // its form; 2 for a new ring
	known uint64      // the serial last loaded, saved or marshalled; 0 if none was
}

// snapshot is one version of the ring. It is never changed.
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

// find returns the key of that ID, or nil. The IDs of the ring are the output
// of a hash: to hash them again, as a map would, costs 4 % of opening a small
// box. At least half of the index is empty, so that the search for any ID is
// short.
func (s *snapshot) find(id ID) *entry {
	size := uint32(len(s.index)) // a power of two
	for i := id.hash(); ; i++ {
		if e := s.index[i&(size-1)]; e == nil || e.id == id {
			return e
		}
	}
}

// New makes a ring of two fresh keys: a primary, and the spare that follows it.
// It lives in memory only, unless it is saved.
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

// Rotate applies the policy: it publishes the next key where there is none, and
// drops expired ones. It reports whether that changed the ring; if so, the
// serial is higher by one. Call it as often as you like, for instance every
// minute: it does nothing until it is due. If nobody calls it, the last key
// goes on sealing.
//
// Of several processes that hold one ring, one rotates and saves, and the
// others update theirs. One that rotates for itself gets [ErrConflict] from
// then on.
func (r *Ring) Rotate(now time.Time) (changed bool, err error) {
	return r.change(now, (*schedule).rotate)
}

// RotateNow lets the next key seal from now on, ahead of its time, and
// publishes another one. It refuses with [ErrTooSoon] where the next key was
// published less than Policy.Lead ago, as the policy is now.
func (r *Ring) RotateNow(now time.Time) error {
	_, err := r.change(now, (*schedule).advance)
	return err
}

// Revoke makes a key open nothing from now on. If it is the primary, the spare
// seals at once, and a new spare is published; an older key never seals again.
// If it is the spare, a fresh key takes its place at the same time. The error
// is [ErrUnknownKey] for an ID that the ring does not have; revoking a key
// twice is none.
func (r *Ring) Revoke(now time.Time, id ID) error {
	_, err := r.change(now, func(s *schedule, now int64, fresh func() ID) (bool, error) {
		return s.revoke(now, id, fresh)
	})
	return err
}

// SetPolicy changes the policy, and rotates; zero fields of p leave it as it
// is. Period and Lead count from the next key on: the times at which keys
// activate and retire stay.
//
// MaxTTL and ClockSkew can only be raised. Then all keys open for longer, and
// every host must have heard of that before one of them expires: if one expires
// within Lead, the error is [ErrTooSoon]. First restart every gateway with an
// in-memory guard of the new limits, because a guard keeps its own.
func (r *Ring) SetPolicy(now time.Time, p Policy) error {
	_, err := r.change(now, func(s *schedule, now int64, fresh func() ID) (bool, error) {
		return s.amend(now, p.or(s.policy), fresh)
	})
	return err
}

// RaiseSerial raises the serial to the given one, by at most 2^32 above the one
// that was last loaded or saved, which is also as far as followers go in a
// step. If it is not higher, RaiseSerial does nothing. A ring that was restored
// from a backup needs that: its followers have seen higher serials, and would
// refuse it.
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

// change applies f to a copy of the schedule and puts it in force if it is
// valid.
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
	s.fit()
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

// Keys describes the keys as they are at now: first those that were not
// revoked, in order of activation, then the revoked ones.
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

// Overdue returns for how long the next key has been due, or zero as long as
// that is no cause for alarm. It is judged by the times in the ring alone, so
// it sees whatever keeps new versions from this process: a dead rotator, a
// mount that never changes, or a file that nobody copies any more.
//
// The next key is due from when the last one starts to seal. There is cause for
// alarm once twice the Policy.Lead has gone by since, or half of the Period if
// that is less: time for a rotator that runs once in a Lead, and for the ring
// to reach every host. If Lead is more than a quarter of Period, there is less
// time than that, and so a false alarm if both take as long as they may.
//
// With an unchanged policy nobody is refused until a whole Period has gone by.
// From then on hosts that have the next key may mint under it, and this ring
// does not open that. Overdue comes too late for a host that no longer gets new
// versions if the others have one that shortens the Period, or in which a key
// was revoked or rotated ahead of its time: compare serials for that.
//
// The zero Ring is never overdue.
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
// ClockSkew from now, so that the keys are not rotated as often as the policy
// says: the clock of who rotated was ahead, or the Period was longer then. To
// mend it, see "The rotator's clock was ahead" in KEYS.md.
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
// 1, which names no context. A ring made by New has 2, the zero Ring 0.
func (r *Ring) Form() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.form)
}

// Policy returns the policy, without zero fields.
func (r *Ring) Policy() Policy { return r.load().policy }

// Limits returns what the policy says of tokens. Of the zero Ring they are
// zero.
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

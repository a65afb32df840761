package replay

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// DefaultMaxRevocations is the [Revocations].MaxEntries where none is stated.
const DefaultMaxRevocations = 1 << 16

// kept is for how many seconds a revocation can matter: the last session that it
// applies to may begin by a clock that is ahead, and lasts three hours.
const kept = claims.MaxSessionMinutes*60 + int64(limits.MaxClockSkew/time.Second)

// Revocations takes tokens back: those of a user, of a room, of a user in a
// room, or all, as far as they were issued before some moment. It answers for
// tokens that are about to be spent ([Revocations.Check], for token.Opener) and
// for sessions that are live ([Revocations.Revoked]). The zero value has none
// and is ready for use. It is safe for concurrent use, and must not be copied.
//
// Tokens that were issued up to the ring's ClockSkew after that moment are revoked
// too, and later ones are not: a user who may come back has to wait that long. To
// give a banned user no more tokens is up to the application, or to an admission
// rule of its own.
//
// A gateway that drops the connections of a revoked user must not miss the one
// that is just being opened. Open the token, register the connection where the
// code that revokes will find it, then ask Revoked, and close the connection if
// it says so. Whoever revokes does it in the other order: revoke, then close
// what is registered.
//
// # Limits
//
// A revocation is kept for as long as a session it applies to can last: three
// hours and a minute. Rooms and users are kept as 64-bit keyed hashes: with n revocations,
// the chance that a user or room shares a hash with one of them, and is taken
// for it, is n in 2^64. Asking takes no lock, does not allocate, and costs the
// same for any number of revocations.
//
// With the default MaxEntries the memory is at most 3 MiB, and twice that for
// a moment. When there is no room left, the older half of the revocations is
// replaced by one of everything issued up to the latest of that half. That
// fails closed: it refuses tokens, and ends sessions, that nobody revoked.
// Revocations whose time is over are replaced in the same way. That is harmless, as
// all sessions from before their moment are over too, unless the clock is then set
// back by hours.
//
// The moment may be in the future. So a revocation that was made while the clock
// was far ahead applies to everything that is issued until the clock gets there.
//
// Revocations are of one process, and end with it. So do its sessions; its
// unused tokens are refused by the next [Guard].
type Revocations struct {
	// MaxEntries is how many revocations there may be at a time, apart from
	// that of everyone. Zero means DefaultMaxRevocations. It is not to be
	// changed after first use.
	MaxEntries int

	mu      sync.Mutex // held by writers
	current atomic.Pointer[revocations]
	merged  uint64
}

// RevokeUser revokes the tokens and sessions of a user, in all rooms, that were
// issued before the moment issuedBefore, by the rule in the package
// documentation. Of several calls the latest moment counts. now is used to
// discard what is over. When RevokeUser returns, whoever asks is told.
func (r *Revocations) RevokeUser(now time.Time, userID string, issuedBefore time.Time) {
	seed := r.load().seed
	r.revoke(now, issuedBefore, target{user: nonzero(maphash.String(seed, userID))})
}

// RevokeRoom is [Revocations.RevokeUser] for all users of a room.
func (r *Revocations) RevokeRoom(now time.Time, roomIdentifier string, issuedBefore time.Time) {
	seed := r.load().seed
	r.revoke(now, issuedBefore, target{room: nonzero(maphash.String(seed, roomIdentifier))})
}

// RevokeUserInRoom is [Revocations.RevokeUser] for one room.
func (r *Revocations) RevokeUserInRoom(now time.Time, roomIdentifier, userID string, issuedBefore time.Time) {
	seed := r.load().seed
	r.revoke(now, issuedBefore, target{
		room: nonzero(maphash.String(seed, roomIdentifier)),
		user: nonzero(maphash.String(seed, userID)),
	})
}

// RevokeAll is [Revocations.RevokeUser] for everyone everywhere. Users may come
// back: [ErrAllRevoked] has token.Action tell clients to wait and fetch a new token,
// which is accepted if it was issued ClockSkew and a second after issuedBefore.
func (r *Revocations) RevokeAll(issuedBefore time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	raise(&r.load().all, markOf(issuedBefore))
}

// Revoked reports whether the token, or the session that was opened with it, is
// revoked. Ask it for live sessions with token.Session.Summary.
func (r *Revocations) Revoked(t claims.Summary) bool { return r.Check(t) != nil }

// Check is for token.Opener.Revoked: it returns [ErrRevoked] for a token of a
// user or a room that was revoked, [ErrAllRevoked] for one that was only revoked
// with everyone's, and nil for all others.
func (r *Revocations) Check(t claims.Summary) error {
	c := r.current.Load()
	if c == nil {
		return nil
	}
	room := nonzero(maphash.Bytes(c.seed, t.RoomIdentifier))
	user := nonzero(maphash.Bytes(c.seed, t.UserID))
	own := max(
		c.mark(target{room: room}),
		c.mark(target{user: user}),
		c.mark(target{room: room, user: user}))
	issued := t.IssuedAt.Add(-cmp.Or(t.ClockSkew, limits.DefaultClockSkew)).Unix()
	if own > 0 && issued < own {
		return ErrRevoked
	}
	if all := c.all.Load(); all > 0 && issued < all {
		return ErrAllRevoked
	}
	return nil
}

// RevocationStats is the state of [Revocations] for those who operate it.
type RevocationStats struct {
	Entries    int       `json:"entries"`      // revocations kept, some of which may be over
	MaxEntries int       `json:"maxEntries"`   // as configured
	All        time.Time `json:"all,omitzero"` // everything issued before is revoked; whole seconds; or zero
	Merged     uint64    `json:"merged"`       // revocations that lack of room made into one of everything
}

// Stats returns the state. It does not disturb those who ask.
func (r *Revocations) Stats() RevocationStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.load()
	st := RevocationStats{Entries: c.taken, MaxEntries: r.maxEntries(), Merged: r.merged}
	if all := c.all.Load(); all > 0 {
		st.All = time.Unix(all-1, 0).UTC()
	}
	return st
}

func (r *Revocations) maxEntries() int {
	if r.MaxEntries <= 0 {
		return DefaultMaxRevocations
	}
	return r.MaxEntries
}

// markOf is the first second that a clock without skew has to show for a token not
// to count as issued before t. It is not above 0 where every token is issued later.
// Tokens are issued from 1970 to 9999, so a t after that is as good as its end, where
// the sum does not overflow, and one that is up to a skew before 1970 is taken for
// 1970, which refuses a little more.
func markOf(t time.Time) int64 {
	mark := min(t.Unix(), limits.MaxUnix) + 1
	if mark > -int64(limits.MaxClockSkew/time.Second) {
		mark = max(mark, 1)
	}
	return mark
}

func (r *Revocations) load() *revocations {
	if r.current.Load() == nil {
		r.current.CompareAndSwap(nil, newRevocations(maphash.MakeSeed(), 0))
	}
	return r.current.Load()
}

func (r *Revocations) revoke(now, issuedBefore time.Time, t target) {
	mark := markOf(issuedBefore)
	if mark <= 0 {
		return // nothing was issued yet
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.load()
	if c.find(t).mark.Load() == 0 && c.taken >= min(len(c.entries)/2, r.maxEntries()) {
		c = r.rebuild(c, now)
		r.current.Store(c)
	}
	c.raise(t, mark)
}

// rebuild copies c to a table with room for more, without what is over. If that
// leaves too much, it drops the older half too. One in eight has to be free, or
// each new entry would be as much work as all of them.
//
// What is dropped is still revoked, with everything else of its time.
func (r *Revocations) rebuild(c *revocations, now time.Time) *revocations {
	over := now.Unix() - kept
	dropped := over
	marks, room := c.marksAfter(over), r.maxEntries()
	if len(marks) > room-max(room/8, 1) {
		slices.Sort(marks)
		dropped = marks[(len(marks)-1)/2]
	}
	next := newRevocations(c.seed, 2*min(2*len(marks), room)) // room may be the largest int
	next.all.Store(c.all.Load())
	for i := range c.entries {
		e := &c.entries[i]
		switch mark := e.mark.Load(); {
		case mark == 0:
		case mark <= dropped:
			raise(&next.all, mark)
			if mark > over {
				r.merged++
			}
		default:
			next.raise(target{e.room.Load(), e.user.Load()}, mark)
		}
	}
	return next
}

// target is whose tokens are revoked: the hash of a room and that of a user, 0
// standing for any. As they are two, no part of one name can be taken for a
// part of the other.
type target struct{ room, user uint64 }

// revocations is a hash table with linear probing. Entries are added and marks
// raised, nothing else, so that readers need no lock. Any other change makes a
// new table: it takes the place of the old one with everything in it, so that
// no reader finds a revocation in neither.
type revocations struct {
	seed    maphash.Seed
	all     atomic.Int64 // the mark of everyone
	entries []revocation // a power of two, at most half of them in use
	taken   int          // for writers
}

// revocation says that the tokens of a target are revoked that were issued before
// the second mark, by a clock without skew. While the mark is 0 the entry is free, whatever the target: readers
// look at the mark first, and it is written last.
type revocation struct {
	room, user atomic.Uint64
	mark       atomic.Int64
}

func newRevocations(seed maphash.Seed, size int) *revocations {
	return &revocations{seed: seed, entries: make([]revocation, ceilPowerOfTwo(max(size, 16)))}
}

// mark returns the mark of a target, or 0, for readers. It loads the mark of an
// entry once: what is free at one moment may be another target's at the next.
func (c *revocations) mark(t target) int64 {
	mask := uint64(len(c.entries) - 1)
	for i := t.room ^ bits.RotateLeft64(t.user, 32); ; i++ {
		e := &c.entries[i&mask]
		mark := e.mark.Load()
		if mark == 0 || e.room.Load() == t.room && e.user.Load() == t.user {
			return mark
		}
	}
}

// find returns the entry of a target, or the free one where it belongs, for
// writers.
func (c *revocations) find(t target) *revocation {
	mask := uint64(len(c.entries) - 1)
	// Rotated, for room and user may be the same text.
	for i := t.room ^ bits.RotateLeft64(t.user, 32); ; i++ {
		e := &c.entries[i&mask]
		if e.mark.Load() == 0 || e.room.Load() == t.room && e.user.Load() == t.user {
			return e
		}
	}
}

// raise is for writers.
func (c *revocations) raise(t target, mark int64) {
	e := c.find(t)
	if e.mark.Load() == 0 {
		e.room.Store(t.room)
		e.user.Store(t.user)
		c.taken++
	}
	raise(&e.mark, mark)
}

// raise makes *mark at least m. Only writers, one at a time, call it.
func raise(mark *atomic.Int64, m int64) { mark.Store(max(mark.Load(), m)) }

// marksAfter returns the marks of the entries that are later than second.
func (c *revocations) marksAfter(second int64) []int64 {
	marks := make([]int64, 0, c.taken)
	for i := range c.entries {
		if mark := c.entries[i].mark.Load(); mark > max(second, 0) {
			marks = append(marks, mark)
		}
	}
	return marks
}

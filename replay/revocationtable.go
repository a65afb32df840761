package replay

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/seed17cb2b26/chattoken/token"
)

// hashed is a revoked target: the hash of a room and that of a user, where 0
// stands for any; or two hashes of a token. With two hashes, no part of one
// name can be taken for a part of the other.
type hashed struct{ room, user uint64 }

func (c *revocationTable) hash(t token.Target) (h hashed) {
	if t.Token != (token.ID{}) {
		return c.hashToken(t.Token)
	}
	if t.Room != "" {
		h.room = nonzero(maphash.String(c.seed, t.Room))
	}
	if t.User != "" {
		h.user = nonzero(maphash.String(c.seed, t.User))
	}
	return h
}

// hashToken keeps half of the ID as it is: whoever can choose token IDs holds
// the keys.
func (c *revocationTable) hashToken(id token.ID) hashed {
	return hashed{nonzero(maphash.Bytes(c.seed, id[:])), nonzero(binary.LittleEndian.Uint64(id[:8]))}
}

// revocationTable is a hash table with linear probing. Entries are only added
// and marks only raised, so readers need no lock. Any other change makes a new
// table, which replaces the old one when it has everything in it. So no reader
// misses a revocation.
type revocationTable struct {
	seed    maphash.Seed
	all     atomic.Int64 // the mark of everyone
	entries []entry      // a power of two, at most half of them in use

	// For writers.
	taken  int   // entries in use
	tokens int   // those of single tokens
	oldest int64 // the smallest absolute value of a mark
}

// entry revokes the tokens of a target that were issued before the second mark,
// by a clock without skew. With a negative mark, it says that a single token
// was revoked in the second before -mark. While the mark is 0 the entry is
// free, whatever the target. Readers look at the mark first, and writers write
// it last.
type entry struct {
	room, user atomic.Uint64
	mark       atomic.Int64
}

func newRevocationTable(seed maphash.Seed, size int) *revocationTable {
	return &revocationTable{
		seed:    seed,
		entries: make([]entry, ceilPowerOfTwo(max(size, 16))),
		oldest:  math.MaxInt64,
	}
}

// mark returns the mark of a target, or 0, for readers. It loads an entry's
// mark once: a free entry may be another target's at the next load.
func (c *revocationTable) mark(t hashed) int64 {
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
func (c *revocationTable) find(t hashed) *entry {
	mask := uint64(len(c.entries) - 1)
	// Rotated, because room and user may be the same text.
	for i := t.room ^ bits.RotateLeft64(t.user, 32); ; i++ {
		e := &c.entries[i&mask]
		if e.mark.Load() == 0 || e.room.Load() == t.room && e.user.Load() == t.user {
			return e
		}
	}
}

// raise is for writers. It reports whether this revokes more of the target than
// before.
func (c *revocationTable) raise(t hashed, mark int64) bool {
	e := c.find(t)
	old := e.mark.Load()
	if old == 0 {
		e.room.Store(t.room)
		e.user.Store(t.user)
		c.taken++
		c.oldest = min(c.oldest, abs(mark))
		if mark < 0 {
			c.tokens++
		}
	}
	if abs(mark) <= abs(old) {
		return false
	}
	e.mark.Store(mark)
	return mark > 0 || old == 0
}

// marksAfter returns the marks after second, except those of single tokens, and
// how many entries are later in all.
func (c *revocationTable) marksAfter(second int64) (marks []int64, live int) {
	for i := range c.entries {
		mark := c.entries[i].mark.Load()
		if abs(mark) <= max(second, 0) {
			continue
		}
		live++
		if mark > 0 {
			marks = append(marks, mark)
		}
	}
	return marks, live
}

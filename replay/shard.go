package replay

import "sync"

// outcome is the result of one call of Spend. The zero value is no permission.
type outcome uint8

const (
	isSpent outcome = iota
	isFresh
	isFull
	isBeforeStart
	isForgotten
	isTooLong
	outcomes
)

var outcomeErrors = [outcomes]error{
	isFull:        ErrFull,
	isBeforeStart: ErrBeforeStart,
	isForgotten:   ErrForgotten,
	isTooLong:     ErrTooLong,
}

// shard is the part of a guard for the tokens whose ID has certain bits. Every
// token belongs to one shard and, by its expiration, to one bucket of it. One
// lock covers everything about a token.
//
// Why no token is fresh twice: from when it is fresh, its key is in its bucket
// until drop empties that, and drop adds the bucket's second to forgotten. No
// clock comes into it. Everything else is there to forget no more than
// necessary.
type shard struct {
	mu      sync.Mutex
	swept   int64 // no bucket in use expires in this second or before
	tokens  int   // in all buckets
	buckets []bucket
	count   [outcomes]uint64

	forgotten forgotten
	pool      pool

	_ [64]byte // the next shard's lock is on another cache line
}

// bucket holds the tokens that expire in one second. Its index is that second
// modulo the number of buckets.
type bucket struct {
	expiration int64 // Unix seconds; meaningless while the bucket is empty
	tokens     int
	table      table   // to which tokens are added
	older      []table // full tables of maxTable
}

// find reports whether key is there, and if not, where in b.table it belongs.
func (b *bucket) find(key uint64) (place int, found bool) {
	place, found = b.table.find(key)
	for i := 0; i < len(b.older) && !found; i++ {
		_, found = b.older[i].find(key)
	}
	return place, found
}

// spend does the work of Guard.Spend. Times are Unix seconds, rounded down.
// beforeStart says that the token was issued before the guard was made.
func (s *shard) spend(g *Guard, key uint64, now, issued, expiration int64, beforeStart bool) outcome {
	s.mu.Lock()
	o := s.decide(g, key, now, issued, expiration, beforeStart)
	s.count[o]++
	s.mu.Unlock()
	return o
}

func (s *shard) decide(g *Guard, key uint64, now, issued, expiration int64, beforeStart bool) outcome {
	switch {
	case beforeStart:
		return isBeforeStart
	case expiration > now+g.lifetime, issued > now+g.skew:
		return isTooLong
	}
	s.sweep(now)
	// Under the lock, and after the sweep: if the caller stood still after
	// it read the clock, others may have dropped its bucket.
	if expiration <= now || s.forgotten.contains(expiration) {
		return isForgotten
	}
	b := s.bucket(expiration)
	place, found := b.find(key)
	if found {
		return isSpent
	}
	if s.tokens >= g.shardCapacity && !s.makeRoom(g.shardCapacity, now+g.lifetime) {
		return isFull
	}
	s.insert(b, place, key)
	return isFresh
}

// bucket returns the bucket of one second, which is after s.swept.
//
// If another second has the place, it is a later one. An earlier one would be
// at least as many seconds earlier as there are buckets. That is more than a
// token's life before expiration, so it would be past and swept. The other
// second is so much later that the clock was set back since, or the caller
// stood still. To wait for it could take years, so the guard forgets it.
func (s *shard) bucket(expiration int64) *bucket {
	b := s.place(expiration)
	if b.expiration != expiration {
		s.drop(b)
		b.expiration = expiration
	}
	return b
}

func (s *shard) place(second int64) *bucket {
	return &s.buckets[second&int64(len(s.buckets)-1)]
}

// insert adds key at its place in the bucket's table. At most three quarters of
// a table are used, so find follows short runs. A table of maxTable is put
// aside instead of moved. If much of the capacity expires in one second,
// several lookups are better than a pause for everyone while millions of keys
// move.
func (s *shard) insert(b *bucket, place int, key uint64) {
	inTable := b.tokens - len(b.older)*maxTable/4*3
	if 4*inTable >= 3*len(b.table) {
		if len(b.table) == maxTable {
			b.older = append(b.older, b.table)
			b.table = nil
		}
		b.table = s.pool.grow(b.table)
		place, _ = b.table.find(key)
	}
	b.table[place] = key
	b.tokens++
	s.tokens++
}

// sweep drops what has expired since the last sweep. If the clock was set back
// it only notes that: the seconds in between will be swept once more.
func (s *shard) sweep(now int64) {
	for i := range min(now-s.swept, int64(len(s.buckets))) {
		if b := s.place(now - i); b.expiration <= now {
			s.drop(b)
		}
	}
	s.swept = now
}

// makeRoom drops what expires after limit, which is there only because the
// clock was set back. It reports whether the shard now has room.
func (s *shard) makeRoom(capacity int, limit int64) bool {
	for i := range s.buckets {
		if b := &s.buckets[i]; b.expiration > limit {
			s.drop(b)
		}
	}
	return s.tokens < capacity
}

// drop empties a bucket, and remembers that it did.
func (s *shard) drop(b *bucket) {
	if b.tokens == 0 {
		return
	}
	s.forgotten.add(b.expiration)
	s.pool.put(b.table)
	for _, t := range b.older {
		s.pool.put(t)
	}
	s.tokens -= b.tokens
	clear(b.older)
	*b = bucket{older: b.older[:0]}
}

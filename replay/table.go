package replay

import (
	"math"
	"math/bits"
)

// table is a set of keys: a hash table with open addressing and linear probing,
// where 0 marks a free place. Keys are random, so they are their own hash. The
// nil table is empty and full.
//
// Its size is 8 or 12 words times a power of two. It grows by a half or a
// third, so it is at least half full afterwards.
type table []uint64

const (
	minTable = 8       // words; a cache line
	maxTable = 1 << 15 // words; 256 KiB, the most that one insertion moves
)

// nonzero maps 0, which cannot be stored, to another key.
func nonzero(key uint64) uint64 { return max(key, 1) }

// home returns the place where key should be. Ascending keys have ascending
// homes, so a table is moved into a larger one from front to back.
func (t table) home(key uint64) int {
	high, _ := bits.Mul64(key, uint64(len(t)))
	return int(high)
}

// find returns the place of key, or the free one where it belongs.
func (t table) find(key uint64) (place int, found bool) {
	if len(t) == 0 {
		return 0, false
	}
	for i := t.home(key); ; i++ {
		if i == len(t) {
			i = 0
		}
		switch t[i] {
		case key:
			return i, true
		case 0:
			return i, false
		}
	}
}

// nextSize returns the size of the table that replaces a full one.
func nextSize(words int) int {
	if words&(words-1) == 0 {
		return words / 2 * 3
	}
	return words / 3 * 4
}

// tableFor returns the size of the first table of a bucket that is expected to
// hold n tokens, with room for four standard deviations more. While tokens are
// spread evenly, no table has to grow even if the guard is full, and all have
// one size.
func tableFor(n int) int {
	room := n + 4*int(math.Ceil(math.Sqrt(float64(n))))
	size := minTable
	for size < maxTable && size/4*3 < room {
		size = nextSize(size)
	}
	return size
}

// pool recycles the tables of one shard, and never holds more than were once in
// use. While all buckets get by with their first table, it stops allocating
// after a minute of full load.
type pool struct {
	first int     // size of a bucket's first table
	idle  []table // cleared
	words int     // in all tables, in use and idle
	inUse int     // words
	peak  int     // most words that were ever in use
}

// grow moves t into a larger table and returns that.
func (p *pool) grow(t table) table {
	size := p.first
	if len(t) > 0 {
		size = nextSize(len(t))
	}
	larger := p.get(size)
	for _, key := range t {
		if key != 0 {
			place, _ := larger.find(key)
			larger[place] = key
		}
	}
	p.put(t)
	p.peak = max(p.peak, p.inUse)
	return larger
}

func (p *pool) get(size int) table {
	p.inUse += size
	for i, t := range p.idle {
		if len(t) == size {
			p.remove(i)
			return t
		}
	}
	p.words += size
	for len(p.idle) > 0 && p.words > p.peak {
		p.words -= len(p.idle[0])
		p.remove(0)
	}
	return make(table, size)
}

func (p *pool) remove(i int) {
	last := len(p.idle) - 1
	p.idle[i] = p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
}

// put takes back a table that is no longer in use.
func (p *pool) put(t table) {
	p.inUse -= len(t)
	switch {
	case len(t) == 0:
	case p.words > p.peak:
		p.words -= len(t)
	default:
		clear(t)
		p.idle = append(p.idle, t)
	}
}

package replay

import "time"

// Stats is the state of a [Guard] for operators. Counts are since the guard was
// made.
type Stats struct {
	Live     int `json:"live"`     // unexpired tokens
	Capacity int `json:"capacity"` // the most that Live can be
	Bytes    int `json:"bytes"`    // memory held

	Fresh uint64 `json:"fresh"` // tokens accepted

	// Refused tokens, by reason.
	Spent       uint64 `json:"spent"`       // not fresh
	Full        uint64 `json:"full"`        // ErrFull
	BeforeStart uint64 `json:"beforeStart"` // ErrBeforeStart
	Forgotten   uint64 `json:"forgotten"`   // ErrForgotten
	TooLong     uint64 `json:"tooLong"`     // ErrTooLong

	Revocations RevocationStats `json:"revocations"`
}

// The sizes of shard and bucket on 64-bit machines.
const (
	shardBytes  = 360
	bucketBytes = 64
)

// Stats returns the state at now. It holds the lock of one shard at a time, for
// about a microsecond, so a scraper may call it as often as it likes. For a
// zero or nil Guard all is zero.
func (g *Guard) Stats(now time.Time) Stats {
	if g.isZero() {
		return Stats{}
	}
	st := Stats{Capacity: g.capacity, Revocations: g.revocations.Stats()}
	for i := range g.shards {
		g.shards[i].addTo(&st, now.Unix())
	}
	return st
}

func (s *shard) addTo(st *Stats, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Bytes += shardBytes + bucketBytes*len(s.buckets) + 8*s.pool.words
	for i := range s.buckets {
		if b := &s.buckets[i]; b.expiration > now {
			st.Live += b.tokens
		}
	}
	st.Fresh += s.count[isFresh]
	st.Spent += s.count[isSpent]
	st.Full += s.count[isFull]
	st.BeforeStart += s.count[isBeforeStart]
	st.Forgotten += s.count[isForgotten]
	st.TooLong += s.count[isTooLong]
}

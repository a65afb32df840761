package gateway

import (
	"hash/maphash"
	"iter"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// The indexes of a shard. Each is a hash table of lists of participants.
const (
	byUser = iota
	byRoom
	byToken
	byDeadline
	indexes
)

const (
	shardCount = 64 // a power of two

	// A shard with more than perHead participants for each list head grows
	// to four times as many heads. So the heads of the four indexes take 4
	// to 16 bytes for each participant.
	perHead = 8
)

// registry holds the participants. All of a user's are in one shard, under one
// lock.
type registry struct {
	seed    maphash.Seed
	start   int64 // Unix seconds
	credits credits
	shards  [shardCount]shard
}

// shard is one part of the registry. Its lists link the participants
// themselves, because a Go map for each index would take a hundred bytes more
// for each.
type shard struct {
	mu       sync.Mutex
	heads    [][indexes]*Participant // of the lists; a power of two
	stays    map[*Participant]*stay  // of those that have one
	earliest int32                   // no deadline is before this second
	pending  map[uint64]int          // places held, by user, if MaxLivePerUser is set
	entered  uint64                  // ever let in; per shard, because one counter would be contended
	live     int                     // registered
	present  int                     // not left, whether they have ended or not
	spare    int                     // credits taken and not used
	_        [64]byte
}

// link is a participant's place in a list.
type link struct {
	next *Participant
	at   **Participant // what points to the participant: a head, or another's next
}

// entry is what finds a participant. It is a copy, because the embedder may
// Reset a session. User, room and token are keyed hashes of 64 bits. With n
// participants, the chance of a collision is n in 2^64 for each lookup.
type entry struct {
	hashes   [byDeadline]uint64
	deadline int32 // by registry.second
}

// key is p's key in an index.
func (p *Participant) key(index int) uint64 {
	if index == byDeadline {
		return uint64(p.deadline)
	}
	return p.hashes[index]
}

func newRegistry(maxLive int, now time.Time) *registry {
	reg := &registry{seed: maphash.MakeSeed(), start: now.Unix()}
	reg.credits.init(maxLive)
	for i := range reg.shards {
		reg.shards[i].pending = make(map[uint64]int)
		reg.shards[i].heads = make([][indexes]*Participant, 1)
	}
	return reg
}

// second is a Unix time in 32 bits: seconds since the gateway was made, up to
// 68 years before or after. If the clock is further off, every session is over
// at once.
func (reg *registry) second(unix int64) int32 {
	return int32(min(max(unix-reg.start, math.MinInt32), math.MaxInt32-1))
}

func (reg *registry) entry(user uint64, s *token.Session) entry {
	id := s.TokenID()
	return entry{
		hashes: [...]uint64{
			byUser:  user,
			byRoom:  maphash.Bytes(reg.seed, s.RoomIdentifier()),
			byToken: maphash.Bytes(reg.seed, id[:]),
		},
		deadline: reg.second(s.SessionExpiration().Unix()),
	}
}

// shard returns a user's shard.
func (reg *registry) shard(user uint64) *shard { return &reg.shards[user&(shardCount-1)] }

// hold takes a place for a user whose token is about to be spent, or fails if
// there is none. Then call add or release.
func (reg *registry) hold(userID []byte, perUser int) (user uint64, err error) {
	user = maphash.Bytes(reg.seed, userID)
	s := reg.shard(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	if perUser > 0 && s.count(user, perUser)+s.pending[user] >= perUser {
		return user, errUserFull
	}
	if s.spare == 0 {
		if s.spare = reg.credits.take(); s.spare == 0 {
			return user, errFull
		}
	}
	s.spare--
	if perUser > 0 {
		s.pending[user]++
	}
	return user, nil
}

// release gives a held place back.
func (reg *registry) release(user uint64) {
	s := reg.shard(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhold(user)
	reg.giveBack(s)
}

func (s *shard) unhold(user uint64) {
	if n := s.pending[user]; n > 1 {
		s.pending[user] = n - 1
	} else {
		delete(s.pending, user)
	}
}

// add registers p in the place held for its user.
func (reg *registry) add(p *Participant) {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhold(p.hashes[byUser])
	s.live++
	s.present++
	if s.live > perHead*len(s.heads) {
		s.grow()
	}
	s.push(p)
}

// grow makes four times as many heads and links all participants anew.
// Meanwhile the shard, one of 64, is locked.
func (s *shard) grow() {
	old := s.heads
	s.heads = make([][indexes]*Participant, 4*len(old))
	for _, heads := range old {
		for i, p := range heads {
			for p != nil {
				next := p.links[i].next
				s.link(p, i)
				p = next
			}
		}
	}
}

// head returns the head of the list for a key. The list has other keys, too.
func (s *shard) head(index int, key uint64) **Participant {
	const golden = 0x9e3779b97f4a7c15 // spreads seconds over the upper bits, too
	return &s.heads[key*golden>>(64-bits.TrailingZeros(uint(len(s.heads))))][index]
}

// with yields the participants with that key.
func (s *shard) with(index int, key uint64) iter.Seq[*Participant] {
	return func(yield func(*Participant) bool) {
		for p := *s.head(index, key); p != nil; p = p.links[index].next {
			if p.key(index) == key && !yield(p) {
				return
			}
		}
	}
}

// count counts a user's participants, up to a limit.
func (s *shard) count(user uint64, limit int) (n int) {
	for range s.with(byUser, user) {
		if n++; n == limit {
			break
		}
	}
	return n
}

// move registers p under another entry, of the same user.
func (s *shard) move(p *Participant, e entry) {
	for i := range p.links {
		p.links[i].remove(i)
	}
	p.hashes, p.deadline = e.hashes, e.deadline
	s.push(p)
}

// remove takes p out. The shard is locked.
func (reg *registry) remove(s *shard, p *Participant) {
	for i := range p.links {
		p.links[i].remove(i)
	}
	s.live--
	reg.giveBack(s)
}

// giveBack returns a credit to the shard. It keeps a few and returns the
// others.
func (reg *registry) giveBack(s *shard) {
	s.spare++
	if extra := s.spare - reg.credits.keep; extra > 0 {
		s.spare -= extra
		reg.credits.give(extra)
	}
}

// push puts p in all lists.
func (s *shard) push(p *Participant) {
	for i := range p.links {
		s.link(p, i)
	}
	s.earliest = min(s.earliest, p.deadline)
}

func (s *shard) link(p *Participant, index int) {
	head := s.head(index, p.key(index))
	l := &p.links[index]
	l.next, l.at = *head, head
	if l.next != nil {
		l.next.links[index].at = &l.next
	}
	*head = p
}

// clear takes all participants of a shard out of the lists. It doesn't touch
// their neighbors, so it's faster than one by one if they outnumber the heads.
func (s *shard) clear(all []*Participant) {
	clear(s.heads)
	for _, p := range all {
		clear(p.links[:])
	}
}

// remove takes a participant out of the list of an index, if it is in there.
func (l *link) remove(index int) {
	if l.at == nil {
		return
	}
	*l.at = l.next
	if l.next != nil {
		l.next.links[index].at = l.at
	}
	*l = link{}
}

// of returns the shards where a target's participants may be.
func (reg *registry) of(t token.Target) []shard {
	if t.User == "" {
		return reg.shards[:]
	}
	i := maphash.String(reg.seed, t.User) & (shardCount - 1)
	return reg.shards[i : i+1]
}

// count locks all shards at once. One after the other, a participant that
// leaves an early shard and one that enters a late shard would both count.
func (reg *registry) count() (entered uint64, live, present int) {
	for i := range reg.shards {
		s := &reg.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		entered += s.entered
		live += s.live
		present += s.present
	}
	return entered, live, present
}

// everybody yields all of a shard, which is locked.
func (s *shard) everybody(yield func(*Participant) bool) {
	for i := range s.heads {
		for p := s.heads[i][byUser]; p != nil; p = p.links[byUser].next {
			if !yield(p) {
				return
			}
		}
	}
}

// all appends everybody in a shard, which is locked.
func (s *shard) all(found []*Participant) []*Participant {
	return slices.AppendSeq(found, s.everybody)
}

// find appends the participants that a revocation ends: those of the target
// whose token was issued before the moment, or the one token's. The shard is
// locked.
func (reg *registry) find(found []*Participant, s *shard, t token.Target, before time.Time) []*Participant {
	room := maphash.String(reg.seed, t.Room)
	take := func(those iter.Seq[*Participant]) []*Participant {
		for p := range those {
			if (t.Room == "" || p.hashes[byRoom] == room) && p.session.Load().Summary().IssuedBefore(before) {
				found = append(found, p)
			}
		}
		return found
	}
	switch {
	case t.User != "":
		return take(s.with(byUser, maphash.String(reg.seed, t.User)))
	case t.Room != "":
		return take(s.with(byRoom, room))
	case t.Everyone:
		return take(s.everybody)
	}
	return slices.AppendSeq(found, s.with(byToken, maphash.Bytes(reg.seed, t.Token[:])))
}

// due appends the participants whose deadline has come. The shard is locked.
func (s *shard) due(found []*Participant, now int32) []*Participant {
	if int64(now)-int64(s.earliest) > int64(len(s.heads)) { // after a jump of the clock
		for p := range s.everybody {
			if p.deadline <= now {
				found = append(found, p)
			}
		}
	} else {
		for second := s.earliest; second <= now; second++ {
			found = slices.AppendSeq(found, s.with(byDeadline, uint64(second)))
		}
	}
	s.earliest = max(s.earliest, now+1)
	return found
}

// credits limit the participants to MaxLive. A shard takes a few at a time and
// keeps a few that come back, so that processors don't contend for one counter.
type credits struct {
	left  atomic.Int64
	batch int // that a shard takes at a time
	keep  int // that a shard keeps unused
}

func (c *credits) init(maxLive int) {
	c.left.Store(int64(maxLive))
	c.keep = maxLive / 50 / shardCount // so at most one in fifty lies idle
	c.batch = max(c.keep, 1)
}

// take returns up to a batch of credits, or 0.
func (c *credits) take() int {
	for {
		left := c.left.Load()
		n := min(left, int64(c.batch))
		if n <= 0 || c.left.CompareAndSwap(left, left-n) {
			return int(max(n, 0))
		}
	}
}

func (c *credits) give(n int) { c.left.Add(int64(n)) }

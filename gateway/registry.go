package gateway

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// The indexes of a shard. Each is a map from a number to a list of
// participants.
const (
	byUser = iota
	byRoom
	byToken
	byDeadline
	indexes
)

const shardCount = 64 // a power of two

// registry holds the participants. A user's are all in one shard, so that one
// lock covers whatever is to be known of a user.
type registry struct {
	seed    maphash.Seed
	credits credits
	shards  [shardCount]shard
}

// shard is one part of the registry.
type shard struct {
	mu       sync.Mutex
	heads    [indexes]map[uint64]*Participant
	earliest int64          // no deadline is before this second
	pending  map[uint64]int // places held, by user, if there is a limit for each
	live     int            // registered
	present  int            // not left, whether they have ended or not
	spare    int            // credits that this shard has taken and not used
	_        [64]byte
}

// link is a participant's place in a list.
type link struct{ prev, next *Participant }

// entry is what a participant is found by. It is kept, because the embedder may
// Reset a session. User, room and token are keyed hashes of 64 bits: with n
// participants, the chance that one is taken for another is n in 2^64.
type entry [indexes]uint64

func newRegistry(maxLive int) *registry {
	reg := &registry{seed: maphash.MakeSeed()}
	reg.credits.init(maxLive)
	for i := range reg.shards {
		reg.shards[i].pending = make(map[uint64]int)
		for k := range reg.shards[i].heads {
			reg.shards[i].heads[k] = make(map[uint64]*Participant)
		}
	}
	return reg
}

func (reg *registry) entry(user uint64, s *token.Session) entry {
	id := s.TokenID()
	return entry{
		byUser:     user,
		byRoom:     maphash.Bytes(reg.seed, s.RoomIdentifier()),
		byToken:    maphash.Bytes(reg.seed, id[:]),
		byDeadline: uint64(s.SessionExpiration().Unix()),
	}
}

// shard returns the one of a user.
func (reg *registry) shard(user uint64) *shard { return &reg.shards[user&(shardCount-1)] }

// hold takes a place for a user whose token is about to be spent, or says that
// there is none. After it comes add or release.
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

// release gives up a place that was held.
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

// add registers p, in a place that was held for its user.
func (reg *registry) add(p *Participant) {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhold(p.entry[byUser])
	s.live++
	s.present++
	for i, key := range p.entry {
		s.push(p, i, key)
	}
	s.earliest = min(s.earliest, int64(p.entry[byDeadline]))
}

// count counts a user's participants, up to a limit.
func (s *shard) count(user uint64, limit int) (n int) {
	for q := s.heads[byUser][user]; q != nil && n < limit; q = q.links[byUser].next {
		n++
	}
	return n
}

// move registers p under another entry, of the same user.
func (s *shard) move(p *Participant, e entry) {
	for i := range e {
		if p.entry[i] != e[i] {
			s.unlink(p, i, p.entry[i])
			s.push(p, i, e[i])
			p.entry[i] = e[i]
		}
	}
	s.earliest = min(s.earliest, int64(e[byDeadline]))
}

// remove takes p out. The shard is locked.
func (reg *registry) remove(s *shard, p *Participant) {
	for i, key := range p.entry {
		s.unlink(p, i, key)
	}
	s.live--
	reg.giveBack(s)
}

// giveBack has a shard keep a credit, or return those that are too many.
func (reg *registry) giveBack(s *shard) {
	s.spare++
	if extra := s.spare - reg.credits.keep; extra > 0 {
		s.spare -= extra
		reg.credits.give(extra)
	}
}

func (s *shard) push(p *Participant, index int, key uint64) {
	head := s.heads[index][key]
	p.links[index] = link{next: head}
	if head != nil {
		head.links[index].prev = p
	}
	s.heads[index][key] = p
}

func (s *shard) unlink(p *Participant, index int, key uint64) {
	l := p.links[index]
	p.links[index] = link{}
	if l.next != nil {
		l.next.links[index].prev = l.prev
	}
	switch {
	case l.prev != nil:
		l.prev.links[index].next = l.next
	case l.next != nil:
		s.heads[index][key] = l.next
	default:
		delete(s.heads[index], key)
	}
}

// of returns the shards in which a target may be.
func (reg *registry) of(t token.Target) []shard {
	if t.User == "" {
		return reg.shards[:]
	}
	i := maphash.String(reg.seed, t.User) & (shardCount - 1)
	return reg.shards[i : i+1]
}

// present is how many have not left.
func (reg *registry) present() (n int) {
	for i := range reg.shards {
		s := &reg.shards[i]
		s.mu.Lock()
		n += s.present
		s.mu.Unlock()
	}
	return n
}

// all appends everybody in a shard, which is locked.
func (s *shard) all(found []*Participant) []*Participant {
	for _, p := range s.heads[byUser] {
		for ; p != nil; p = p.links[byUser].next {
			found = append(found, p)
		}
	}
	return found
}

// find appends those of a shard, which is locked, whom a revocation concerns:
// all of the target that were issued before the moment, or the one token.
func (reg *registry) find(found []*Participant, s *shard, t token.Target, before time.Time) []*Participant {
	room := maphash.String(reg.seed, t.Room)
	take := func(p *Participant, index int, issued bool) {
		for ; p != nil; p = p.links[index].next {
			if (t.Room == "" || p.entry[byRoom] == room) && (!issued || p.session.Load().Summary().IssuedBefore(before)) {
				found = append(found, p)
			}
		}
	}
	switch {
	case t.User != "":
		take(s.heads[byUser][maphash.String(reg.seed, t.User)], byUser, true)
	case t.Room != "":
		take(s.heads[byRoom][room], byRoom, true)
	case t.Everyone:
		for _, p := range s.heads[byUser] {
			take(p, byUser, true)
		}
	default:
		take(s.heads[byToken][maphash.Bytes(reg.seed, t.Token[:])], byToken, false)
	}
	return found
}

// due appends those of a shard, which is locked, whose deadline is not after
// now.
func (s *shard) due(found []*Participant, now int64) []*Participant {
	deadlines := s.heads[byDeadline]
	take := func(second int64) {
		for p := deadlines[uint64(second)]; p != nil; p = p.links[byDeadline].next {
			found = append(found, p)
		}
	}
	if now-s.earliest > int64(len(deadlines)) { // after a jump of the clock
		for second := range deadlines {
			if int64(second) <= now {
				take(int64(second))
			}
		}
	} else {
		for second := s.earliest; second <= now; second++ {
			take(second)
		}
	}
	s.earliest = max(s.earliest, now+1)
	return found
}

// credits bound how many participants there are. A shard takes a few at a time
// and keeps those that come back, so that processors do not wait for one
// counter.
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

package replay

import (
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/token"
)

// kept is for how many seconds a revocation can matter: the last session that
// it applies to may begin by a clock that is ahead, and lasts three hours.
const kept = claims.MaxSessionMinutes*60 + int64(limits.MaxClockSkew/time.Second)

var errMoment = errors.New("replay: issuedBefore is the zero time or before 1970")

// Revocations is whose tokens a process knows to be revoked: those of a user,
// of a room, of a user in a room, one token, or all. A [Guard] has one. It is
// public for guards of one's own. The zero value has none and is ready for use.
// It is safe for concurrent use, and must not be copied.
//
// # Limits
//
// A revocation is kept for as long as a session it applies to can last: three
// hours and a minute. Targets are kept as keyed hashes of 64 bits, and of 128
// bits for a token: with n revocations, the chance that a user or room shares a
// hash with one of them, and is taken for it, is n in 2^64. Asking takes no
// lock, does not allocate, and costs the same for any number of revocations.
//
// With the default MaxEntries the memory is at most 3 MiB, 6 MiB with as many
// single tokens as there may be, and twice that for a moment. News that nobody
// fetched adds up to 20 MiB, and the names.
//
// When there is no room left, the earlier half of the moments becomes one
// revocation of everyone, up to the latest of that half. That fails closed: it
// refuses tokens, and ends sessions, that nobody revoked. A single token's
// revocation is not merged while it matters, because that would end everybody's
// sessions. Single tokens have places of their own, half as many as MaxEntries;
// beyond that Revoke fails.
//
// Revocations whose time is over are merged, too. That is harmless, because all
// sessions from before their moment are over. It is not if the clock is set by
// hours: set back afterwards, more is refused; set forward after a single token
// was revoked while the clock was slow, that token may be let in again.
//
// The moment may be in the future. So a revocation that was made while the
// clock was far ahead applies to everything that is issued until the clock gets
// there.
type Revocations struct {
	// MaxEntries is how many revocations of users and rooms there may be at a
	// time, and half as many, rounded up, of single tokens. Zero means
	// DefaultMaxRevocations. It is not to be changed after first use.
	MaxEntries int

	mu      sync.Mutex // held by writers
	current atomic.Pointer[revocationTable]
	merged  uint64
	news    map[token.Target]moment
	over    int64 // what was revoked up to this second is over
}

// moment says up to when a target is revoked.
type moment struct {
	mark   int64     // as in the table
	before time.Time // as it was said
}

// Revoke revokes the tokens and sessions of t that were issued before the
// moment issuedBefore, as token.Summary.IssuedBefore has it. Of several calls
// the latest moment counts. For a Token the moment does not matter: that token,
// or its session, is over from now on. now dates the revocation, and is used to
// discard what is over. When Revoke returns, whoever asks is told.
//
// The errors, after which nothing is revoked: t is not valid; issuedBefore is
// the zero time or more than a minute before 1970, so that no token was issued
// before it; or [ErrFull], for a Token, when as many of them as half of
// MaxEntries are revoked.
func (r *Revocations) Revoke(now time.Time, t token.Target, issuedBefore time.Time) error {
	if err := t.Validate(); err != nil {
		return err
	}
	m := moment{markOf(issuedBefore), issuedBefore}
	if t.Token != (token.ID{}) {
		m = moment{mark: tokenMark(now)}
	} else if m.mark <= 0 {
		return errMoment
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = markOf(now) - 1 - kept
	c := r.load()
	if t.Everyone {
		r.revokeAll(c, m)
		return nil
	}
	h := c.hash(t)
	if c.find(h).mark.Load() == 0 {
		if c = r.roomFor(c, m); c == nil {
			return ErrFull
		}
	}
	if c.raise(h, m.mark) {
		r.announce(t, m)
	}
	return nil
}

// roomFor returns the table with room for one more, or nil if there is none for
// a single token. Such have places of their own, half as many as all others: for
// their sake nothing is merged, and they take no place from a user or a room.
func (r *Revocations) roomFor(c *revocationTable, m moment) *revocationTable {
	full := func() bool {
		if m.mark > 0 {
			return c.taken-c.tokens >= r.maxEntries()
		}
		return c.tokens >= r.maxEntries()-r.maxEntries()/2
	}
	if m.mark < 0 && full() && r.over < c.oldest {
		return nil // as long as nothing is over, there is no use in looking
	}
	if full() || c.taken >= len(c.entries)/2 {
		c = r.makeRoom(c, m.mark > 0 && full())
		r.current.Store(c)
	}
	if m.mark < 0 && full() {
		return nil
	}
	return c
}

// revokeAll is for writers.
func (r *Revocations) revokeAll(c *revocationTable, m moment) {
	if m.mark > c.all.Load() {
		c.all.Store(m.mark)
		r.announce(token.Target{Everyone: true}, m)
	}
	r.prune(c)
}

// prune drops the news that is told with everyone's, or is over, so that there
// is never more of it than there is room in the table.
func (r *Revocations) prune(c *revocationTable) {
	for t, n := range r.news {
		if !t.Everyone && (0 < n.mark && n.mark <= c.all.Load() || n.mark < 0 && -n.mark <= r.over) {
			delete(r.news, t)
		}
	}
}

// announce is for writers.
func (r *Revocations) announce(t token.Target, m moment) {
	if r.news == nil {
		r.news = map[token.Target]moment{}
	}
	if abs(m.mark) >= abs(r.news[t].mark) {
		r.news[t] = m
	}
}

// News calls news for every target that came into force since the last call,
// with its moment: the zero time for a Token. What lack of room merged is told
// as Everyone. It holds no lock, so that news may take its time and revoke. A
// target may be told twice, and is told again if news panics.
func (r *Revocations) News(news func(t token.Target, issuedBefore time.Time)) {
	r.mu.Lock()
	fresh := r.news
	r.news = nil
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for t, m := range fresh {
			r.announce(t, m)
		}
		r.prune(r.load())
	}()
	for t, m := range fresh {
		news(t, m.before)
		delete(fresh, t)
	}
}

// Revoked returns token.ErrRevoked if the token, or the session that was opened
// with it, was revoked by name, by its user or by its room;
// token.ErrAllRevoked if it was revoked only with everyone's; and else nil. It
// retains nothing of s.
func (r *Revocations) Revoked(s token.Summary) error {
	if c := r.current.Load(); c != nil {
		return c.revoked(&s)
	}
	return nil
}

func (c *revocationTable) revoked(s *token.Summary) error {
	room := nonzero(maphash.Bytes(c.seed, s.RoomIdentifier))
	user := nonzero(maphash.Bytes(c.seed, s.UserID))
	own := max(
		c.mark(hashed{room: room}),
		c.mark(hashed{user: user}),
		c.mark(hashed{room: room, user: user}))
	if own > 0 && before(s, own) || c.mark(c.hashToken(s.TokenID)) < 0 {
		return token.ErrRevoked
	}
	if all := c.all.Load(); all > 0 && before(s, all) {
		return token.ErrAllRevoked
	}
	return nil
}

// before is the rule of token.Summary.IssuedBefore for a mark.
func before(s *token.Summary, mark int64) bool {
	return s.IssuedBefore(time.Unix(mark-1, 0))
}

// RevocationStats is the state of [Revocations] for those who operate it.
type RevocationStats struct {
	Entries    int       `json:"entries"`      // revocations kept, some of which may be over
	MaxEntries int       `json:"maxEntries"`   // as configured
	All        time.Time `json:"all,omitzero"` // everything issued before is revoked; whole seconds; or zero
	Merged     uint64    `json:"merged"`       // revocations that lack of room made into one of everything
	News       int       `json:"news"`         // targets that nobody fetched yet
}

// Stats returns the state. It does not disturb those who ask.
func (r *Revocations) Stats() RevocationStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := RevocationStats{MaxEntries: r.maxEntries(), Merged: r.merged, News: len(r.news)}
	if c := r.current.Load(); c != nil {
		st.Entries = c.taken
		if all := c.all.Load(); all > 0 {
			st.All = time.Unix(all-1, 0).UTC()
		}
	}
	return st
}

func (r *Revocations) maxEntries() int {
	if r.MaxEntries <= 0 {
		return DefaultMaxRevocations
	}
	return r.MaxEntries
}

// markOf is the second that follows t. It is not above 0 where every token is
// issued later. Tokens are issued from 1970 to 9999, so a t after that is as
// good as its end, where the sum does not overflow, and one that is up to a
// skew before 1970 is taken for 1970, which refuses a little more.
func markOf(t time.Time) int64 {
	mark := min(t.Unix(), limits.MaxUnix) + 1
	if mark > -int64(limits.MaxClockSkew/time.Second) {
		mark = max(mark, 1)
	}
	return mark
}

// tokenMark is the mark of a single token that is revoked at now. It is below
// 0.
func tokenMark(now time.Time) int64 { return -max(markOf(now), 1) }

func abs(mark int64) int64 { return max(mark, -mark) }

func (r *Revocations) load() *revocationTable {
	if r.current.Load() == nil {
		r.current.CompareAndSwap(nil, newRevocationTable(maphash.MakeSeed(), 0))
	}
	return r.current.Load()
}

// makeRoom returns a table with room for more, without what is over. If it is to
// merge and that leaves too much, it drops the earlier half of the moments too.
// One in eight has to be free, or each new entry would be as much work as all of
// them.
//
// What is dropped is still revoked, with everything else of its time.
func (r *Revocations) makeRoom(c *revocationTable, merge bool) *revocationTable {
	over := r.over
	marks, live := c.marksAfter(over)
	room, dropped := r.maxEntries(), over
	if merge && len(marks) > room-max(room/8, 1) {
		slices.Sort(marks)
		dropped = marks[(len(marks)-1)/2]
	}
	// Twice as many as there are, or as there may be; room may be the largest int.
	names, tokens := min(2*len(marks), room), min(2*(live-len(marks)), room-room/2)
	next := newRevocationTable(c.seed, 2*(names+tokens))
	next.all.Store(c.all.Load())
	var all int64
	for i := range c.entries {
		e := &c.entries[i]
		switch mark := e.mark.Load(); {
		case mark == 0:
		case abs(mark) <= over, 0 < mark && mark <= dropped:
			all = max(all, abs(mark))
			if abs(mark) > over {
				r.merged++
			}
		default:
			next.raise(hashed{e.room.Load(), e.user.Load()}, mark)
		}
	}
	r.revokeAll(next, moment{all, time.Unix(all-1, 0).UTC()})
	return next
}

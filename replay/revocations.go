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
// it ends may begin by a clock that is ahead, and lasts three hours.
const kept = claims.MaxSessionMinutes*60 + int64(limits.MaxClockSkew/time.Second)

var errMoment = errors.New("replay: issuedBefore is the zero time or before 1970")

// Revocations records whose tokens are revoked: a user's, a room's, a user's in
// a room, one token, or all. A [Guard] has one; use it to write your own guard.
// The zero value is empty and ready for use. It is safe for concurrent use, and
// must not be copied.
//
// # Limits
//
// A revocation is kept for as long as a session that it ends can last: three
// hours and a minute. A target is kept as a keyed hash of 64 bits, a token as
// one of 128. With n revocations, a user or room shares a hash with one of
// them, and counts as revoked, with a probability of n in 2^64. A lookup takes
// no lock, does not allocate, and costs the same for any number of revocations.
//
// With the default MaxEntries the memory is at most 3 MiB, 6 MiB if there are
// also as many single tokens as possible, and twice that for a moment. News
// that nobody fetched adds up to 20 MiB, and the names.
//
// When there is no room left, the earlier half of the moments becomes one
// revocation of everyone, up to the latest of that half. That fails closed: it
// refuses tokens, and ends sessions, that nobody revoked. Single tokens are not
// merged while they matter, because that would end everybody's sessions. They
// have room of their own, half of MaxEntries; beyond that Revoke fails.
//
// Expired revocations are merged, too. All sessions from before their moment
// are over, so that does no harm unless the clock is set by hours. If it is set
// back afterwards, more is refused. If it is set forward after a single token
// was revoked while the clock was slow, that token may be accepted again.
//
// The moment may be in the future. So a revocation made while the clock was far
// ahead applies to everything issued until the clock gets there.
type Revocations struct {
	// MaxEntries is how many revocations of users and rooms there may be at
	// a time. Single tokens have room of their own, half as much, rounded
	// up. Zero means DefaultMaxRevocations. Don't change it after first
	// use.
	MaxEntries int

	mu      sync.Mutex // held by writers
	current atomic.Pointer[revocationTable]
	merged  uint64
	news    map[token.Target]moment
	over    int64 // revocations up to this second have expired
}

// moment says up to when a target is revoked.
type moment struct {
	mark   int64     // as in the table
	before time.Time // as the caller gave it
}

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore, by [token.Summary.IssuedBefore]. Of several calls the latest
// moment counts. For a Token the moment does not matter: that token, or its
// session, ends now. now dates the revocation, and tells which others have
// expired. Once Revoke returns nil, Revoked reports the revocation.
//
// If Revoke returns an error, nothing is revoked. Then t is not valid; or
// issuedBefore is the zero time or more than a minute before 1970, when no
// token was issued; or, with [ErrFull], half of MaxEntries tokens are revoked
// and t is another one.
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
// a single token. Single tokens have room of their own, half as much as all
// others. They cause no merge, and take no room from users and rooms.
func (r *Revocations) roomFor(c *revocationTable, m moment) *revocationTable {
	full := func() bool {
		if m.mark > 0 {
			return c.taken-c.tokens >= r.maxEntries()
		}
		return c.tokens >= r.maxEntries()-r.maxEntries()/2
	}
	if m.mark < 0 && full() && r.over < c.oldest {
		return nil // while nothing has expired, a search finds no room
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

// prune drops the news that is told with everyone's, or has expired, so that
// there is never more of it than the table has room for.
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

// News calls news for every target revoked since the last call, with its
// moment: the zero time for a Token. What was merged for lack of room is
// reported as Everyone. News holds no lock, so news may take its time and
// revoke. A target may be reported twice, and is reported again if news panics.
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

// Revoked returns [token.ErrRevoked] if the token, or the session that it
// opened, was revoked by its ID, user or room. It returns [token.ErrAllRevoked]
// if it was revoked only with everyone's, and otherwise nil. It retains nothing
// of s.
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

// before applies [token.Summary.IssuedBefore] to a mark.
func before(s *token.Summary, mark int64) bool {
	return s.IssuedBefore(time.Unix(mark-1, 0))
}

// RevocationStats is the state of [Revocations] for operators.
type RevocationStats struct {
	// Entries is how many revocations are kept. Some may have expired.
	Entries    int `json:"entries"`
	MaxEntries int `json:"maxEntries"` // as configured

	// All is the moment before which everything issued is revoked, in whole
	// seconds. Zero means none.
	All time.Time `json:"all,omitzero"`

	// Merged is how many revocations were merged into one of everyone for
	// lack of room.
	Merged uint64 `json:"merged"`

	News int `json:"news"` // targets that nobody has fetched
}

// Stats returns the state. It does not block Revoked.
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

// markOf returns the second after t. It is positive unless every token is
// issued later. Tokens are issued from 1970 to 9999. So a t after 9999 counts
// as its end, which avoids overflow, and a t up to a skew before 1970 counts as
// 1970, which refuses a little more.
func markOf(t time.Time) int64 {
	mark := min(t.Unix(), limits.MaxUnix) + 1
	if mark > -int64(limits.MaxClockSkew/time.Second) {
		mark = max(mark, 1)
	}
	return mark
}

// tokenMark returns the mark of a single token revoked at now. It is negative.
func tokenMark(now time.Time) int64 { return -max(markOf(now), 1) }

func abs(mark int64) int64 { return max(mark, -mark) }

func (r *Revocations) load() *revocationTable {
	if r.current.Load() == nil {
		r.current.CompareAndSwap(nil, newRevocationTable(maphash.MakeSeed(), 0))
	}
	return r.current.Load()
}

// makeRoom returns a table with more room, without what has expired. If merge
// is set and too much is left, it also drops the earlier half of the moments.
// It leaves one entry in eight free: otherwise each new entry would cost as
// much as all of them.
//
// Everything dropped stays revoked by a revocation of everyone.
func (r *Revocations) makeRoom(c *revocationTable, merge bool) *revocationTable {
	over := r.over
	marks, live := c.marksAfter(over)
	room, dropped := r.maxEntries(), over
	if merge && len(marks) > room-max(room/8, 1) {
		slices.Sort(marks)
		dropped = marks[(len(marks)-1)/2]
	}
	// Twice as many as there are, or the most there may be. room may be the
	// largest int.
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

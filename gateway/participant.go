package gateway

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// Participant is a user who is in: one connection. It is made by a [Gateway]
// and safe for concurrent use.
//
// Its stay ends once: at the session's deadline, by a revocation, in a drain,
// or when Run returns. Then it may do nothing more, and OnEnd and Context tell.
// The caller still calls Leave when the connection is gone.
type Participant struct {
	g       *Gateway
	session atomic.Pointer[token.Session] // replaced with the shard's lock held
	cause   atomic.Pointer[error]         // why the stay has ended; set once, with the lock held

	// The shard's lock is held for these, but not to read hashes[byUser], which
	// does not change. All in all they fill 128 bytes.
	links     [indexes]link
	onEnd     func(cause error)
	hashes    [byDeadline]uint64
	deadline  int32
	left      bool
	announced bool // the observer knows of it
}

// stay is what only some participants have.
type stay struct {
	ctx    context.Context // or nil: it was not asked for
	cancel context.CancelCauseFunc
	conn   net.Conn // or nil: what Handler and Accept cut off
}

// end ends what is there of it. If s has left, the connection is gone.
func (st *stay) end(cause error, left bool) {
	if st == nil {
		return
	}
	if st.ctx != nil {
		st.cancel(cause)
	}
	if st.conn != nil && !left {
		cutOff(st.conn)
	}
}

// takeStay returns the stay of p, if it has one, for the caller to end.
func (s *shard) takeStay(p *Participant) *stay {
	st := s.stays[p]
	delete(s.stays, p)
	return st
}

// stay returns the stay of p, which it makes if there is none.
func (s *shard) stay(p *Participant) *stay {
	if s.stays == nil {
		s.stays = make(map[*Participant]*stay)
	}
	st := s.stays[p]
	if st == nil {
		st = new(stay)
		s.stays[p] = st
	}
	return st
}

func (p *Participant) shard() *shard { return p.g.reg.shard(p.hashes[byUser]) }

// Session returns what the token says. It is not changed by
// [Participant.Renew], after which Session returns another one. It is lent: do
// not Reset it, or open another token into it, before Leave.
func (p *Participant) Session() *token.Session { return p.session.Load() }

// Authorize reports whether the participant may do all of want now: nil, the
// cause of the end if the stay has ended, the error of token.Session.Authorize,
// or that of the guard's Revoked. Ask it before whatever the user does. Unlike
// the ends, it is exact: to the moment of the deadline, and as soon as the
// guard knows of a revocation.
func (p *Participant) Authorize(want claims.Capabilities) error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	s := p.session.Load()
	if err := s.Authorize(p.g.config.Now(), want); err != nil {
		return err
	}
	return p.g.config.Guard.Revoked(s.Summary())
}

// over returns why p may not go on, or nil.
func (p *Participant) over(now time.Time) error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	if p.session.Load().Expired(now) {
		return token.ErrSessionExpired // and the next tick ends it
	}
	return nil
}

// OnEnd registers f, which is called once when the connection has to be closed:
// at the deadline, by a revocation, in a drain, or when Run returns. If that
// has happened already, f is called at once. Leave does not call it. f must not
// block, because others wait to be told: close the connection in a goroutine,
// with the code and reason of [CloseFrame]. If f panics or ends its goroutine,
// that goes no further. A second OnEnd replaces the first.
func (p *Participant) OnEnd(f func(cause error)) {
	s := p.shard()
	s.mu.Lock()
	cause, left := p.cause.Load(), p.left
	p.onEnd = f
	if cause != nil {
		p.onEnd = nil
	}
	s.mu.Unlock()
	if cause != nil && !left && f != nil {
		contain(func() { f(*cause) })
	}
}

// Context returns a context that is canceled when the stay ends, with the cause
// of the end as its cause, and when the participant leaves. It costs memory,
// and is made when it is first asked for.
func (p *Participant) Context() context.Context {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stay(p)
	if st.ctx == nil {
		st.ctx, st.cancel = context.WithCancelCause(context.Background())
	}
	if cause := p.cause.Load(); cause != nil {
		s.takeStay(p).end(*cause, p.left)
	}
	return st.ctx
}

// took says that conn is the participant's, to be cut off after the end.
func (p *Participant) took(conn net.Conn) {
	if conn == nil {
		return
	}
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stay(p).conn = conn
	if cause := p.cause.Load(); cause != nil {
		s.takeStay(p).end(*cause, p.left)
	}
}

// Renew opens another token of the same user and room, and its session takes
// the place of the old one, with its deadline and capabilities. The error is a
// [*Refusal]. After it the session goes on as it was, and the token is not
// spent, unless it was good and the stay ended meanwhile.
func (p *Participant) Renew(ctx context.Context, text string) error {
	v := p.g.visit()
	defer v.end()
	if err := p.renew(ctx, v, text); err != nil {
		return v.refused(err)
	}
	p.g.observe(Event{Kind: Renewed, TokenID: v.id}, v.began)
	return nil
}

func (p *Participant) renew(ctx context.Context, v *visit, text string) error {
	if err := p.over(v.now()); err != nil {
		return err
	}
	if err := v.stopped(); err != nil {
		return err
	}
	v.renews = p.session.Load()
	session, err := v.open(ctx, text)
	if err != nil {
		return err
	}
	if err := p.replace(session); err != nil {
		return err
	}
	if err := p.g.revoked(session); err != nil { // since it was opened
		p.end(err, session)
		return err
	}
	return nil
}

// replace registers p under another session.
func (p *Participant) replace(session *token.Session) error {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.over(p.g.config.Now()); err != nil {
		return err
	}
	s.move(p, p.g.reg.entry(p.hashes[byUser], session))
	p.session.Store(session)
	return nil
}

// End ends the stay, with the cause that [Gateway.Revoke] has for the reason.
// It concerns this connection and no other of the user's, who may come back
// with another token. The guard need not be told, because the token is spent.
func (p *Participant) End(reason string) { p.end(revocation(reason), nil) }

// Leave says that the connection is gone. It may be called more than once, also
// after the end.
func (p *Participant) Leave() {
	s := p.shard()
	s.mu.Lock()
	if !p.left {
		s.present--
	}
	p.left, p.onEnd = true, nil
	if p.cause.Load() == nil {
		p.cause.Store(&leftCause)
		p.g.reg.remove(s, p)
	}
	cause, stay := p.cause.Load(), s.takeStay(p)
	s.mu.Unlock()
	stay.end(*cause, true)
}

var leftCause error = ErrLeft

// ending is a stay that has ended, and whose embedder has not been told yet.
type ending struct {
	p  *Participant
	id token.ID
}

// mark ends stays in a shard, which is locked, and appends those of whose ends
// somebody is to be told. From then on they may do nothing more.
func (g *Gateway) mark(ends []ending, s *shard, found []*Participant, cause *error) []ending {
	if n := len(found); n == s.live && n > len(s.heads) {
		s.clear(found)
	}
	for _, p := range found {
		p.cause.Store(cause)
		g.reg.remove(s, p)
		if p.announced {
			ends = append(ends, ending{p, p.session.Load().TokenID()})
		}
	}
	return ends
}

// end ends one stay, unless it has ended, or goes on by another session than
// that which is meant, if one is.
func (p *Participant) end(cause error, meant *token.Session) {
	s := p.shard()
	s.mu.Lock()
	var ends []ending
	if p.cause.Load() == nil && (meant == nil || meant == p.session.Load()) {
		ends = p.g.mark(nil, s, []*Participant{p}, &cause)
	}
	s.mu.Unlock()
	tell(ends)
}

// announce says that p is in, and that the observer knows it. It returns the
// cause if the stay has ended before that, of which the caller has to tell.
func (p *Participant) announce() *error {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.announced = true
	s.entered++
	return p.cause.Load()
}

// tell tells of ends and waits until all are told. The embedder's functions run
// in a goroutine that is none of the gateway's: one of them may end it
// (runtime.Goexit), and then another one goes on.
func tell(ends []ending) {
	for next := 0; next < len(ends); {
		var wg sync.WaitGroup
		wg.Go(func() {
			for next < len(ends) {
				e := ends[next]
				next++
				e.tell()
			}
		})
		wg.Wait()
	}
}

func (e ending) tell() {
	p := e.p
	s := p.shard()
	s.mu.Lock()
	cause, f, stay := *p.cause.Load(), p.onEnd, s.takeStay(p)
	p.onEnd = nil
	s.mu.Unlock()
	defer p.g.ended(e.id, cause)
	stay.end(cause, false)
	if f != nil {
		contain(func() { f(cause) })
	}
}

// contain calls an embedder's function, whose panic must not stop others from
// being ended.
func contain(f func()) {
	defer func() { _ = recover() }()
	f()
}

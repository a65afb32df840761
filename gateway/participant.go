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

// Participant is a connected user: one connection. A [Gateway] makes it. It is
// safe for concurrent use.
//
// It ends once: at the session's deadline, by a revocation or End, in a drain,
// or when Run returns. Then Authorize fails, and OnEnd and Context tell. The
// caller still calls Leave when the connection is gone.
type Participant struct {
	g       *Gateway
	session atomic.Pointer[token.Session] // replaced with the shard's lock held
	cause   atomic.Pointer[error]         // why p has ended; set once, with the lock held

	// The shard's lock guards these, except hashes[byUser], which never
	// changes. A Participant has 128 bytes.
	links     [indexes]link
	onEnd     func(cause error)
	hashes    [byDeadline]uint64
	deadline  int32
	left      bool
	announced bool // the observer knows of it
}

// stay is what only some participants need, so it's kept apart from them.
type stay struct {
	ctx    context.Context // nil if it wasn't asked for
	cancel context.CancelCauseFunc
	conn   net.Conn // what Handler and Accept cut off, or nil
}

// end cancels the context. Unless the participant has left, it cuts the
// connection off.
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

// takeStay removes the stay of p, for the caller to end. It may be nil.
func (s *shard) takeStay(p *Participant) *stay {
	st := s.stays[p]
	delete(s.stays, p)
	return st
}

// stay returns the stay of p. It makes one if there is none.
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

// Session returns what the token says. [Participant.Renew] doesn't change it:
// from then on Session returns another one. Before Leave, don't Reset it or
// open another token into it.
func (p *Participant) Session() *token.Session { return p.session.Load() }

// Authorize returns nil if the participant may do all of want now. Call it
// before whatever the user does. Otherwise it returns the cause of the end if
// there was one, or the error of [token.Session.Authorize] or of the guard's
// Revoked. Unlike the ends, it is exact: it knows the deadline to the moment,
// and a revocation as soon as the guard does.
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

// over returns why p has ended or must end now, or nil.
func (p *Participant) over(now time.Time) error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	if p.session.Load().Expired(now) {
		return token.ErrSessionExpired // and the next tick ends it
	}
	return nil
}

// OnEnd registers f, which is called once, when the participant ends. If it has
// ended already, f is called at once. Leave doesn't call f. f must not block,
// because other participants wait for their turn: close the connection in a
// goroutine, with the code and reason of [CloseFrame]. If f panics or ends its
// goroutine, the gateway goes on. A second OnEnd replaces the first.
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

// Context returns a context that is canceled when the participant ends, with
// the same cause, or leaves. It costs memory, so the first call makes it.
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

// took keeps conn, to cut it off after the end.
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

// Renew opens another token of the same user and room. Its session replaces the
// old one, with its deadline and capabilities. The error is a [*Refusal]. After
// an error the session goes on as it was, and the token isn't spent, unless it
// was good and the participant ended meanwhile.
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

// End ends this participant, with the cause that [Gateway.Revoke] has for the
// reason. The user's other connections go on, and the user may come back with
// another token. The guard isn't told, because the token is spent.
func (p *Participant) End(reason string) { p.end(revocation(reason), nil) }

// Leave says that the connection is gone. Call it after the end, too. More
// calls do no harm.
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

// ending is a participant that has ended, of which the embedder doesn't know
// yet.
type ending struct {
	p  *Participant
	id token.ID
}

// mark ends participants of a shard, which is locked. From then on they may do
// nothing more. It appends those that the caller must tell.
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

// end ends p, unless it has ended already. If meant isn't nil, it ends p only
// while that is its session.
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

// announce counts p as entered; the observer knows that. If p has ended
// already, it returns the cause, and the caller tells the observer.
func (p *Participant) announce() *error {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.announced = true
	s.entered++
	return p.cause.Load()
}

// tell calls the embedder's functions for each end, and waits for them. They
// run in a goroutine apart, because one may end it (runtime.Goexit). Then
// another goroutine goes on.
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

// contain calls an embedder's function and recovers from its panic, so that
// others still end.
func contain(f func()) {
	defer func() { _ = recover() }()
	f()
}

package gateway

import (
	"context"
	"hash/maphash"
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
	cause   atomic.Pointer[error]         // why the stay has ended

	// The shard's lock is held for these.
	links [indexes]link
	onEnd func(cause error)
	stay  *stay
	left  bool
}

// stay is the context of a Participant whose embedder asked for one.
type stay struct {
	context.Context
	cancel context.CancelCauseFunc
}

func (p *Participant) shard() *shard {
	return p.g.reg.shard(maphash.Bytes(p.g.reg.seed, p.session.Load().UserID()))
}

// Session returns what the token says. It is not changed by
// [Participant.Renew], after which Session returns another one.
func (p *Participant) Session() *token.Session { return p.session.Load() }

// Authorize reports whether the participant may do all of want now: nil, the
// cause of the end if the stay has ended, or the error of
// token.Session.Authorize. Ask it before whatever the user does.
func (p *Participant) Authorize(want claims.Capabilities) error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	return p.session.Load().Authorize(p.g.config.Now(), want)
}

// OnEnd has f called once with the cause when the stay ends, or at once if it
// has ended, but never because of Leave. [CloseFrame] has what goes with the
// cause. f must not block: others wait to be ended, so it starts a goroutine if
// it has to write. If it panics, that goes no further. A second OnEnd replaces
// the first.
func (p *Participant) OnEnd(f func(cause error)) {
	s := p.shard()
	s.mu.Lock()
	cause, left := p.cause.Load(), p.left
	if cause == nil {
		p.onEnd = f
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
	if p.stay == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		p.stay = &stay{ctx, cancel}
		if cause := p.cause.Load(); cause != nil {
			cancel(*cause)
		}
	}
	return p.stay
}

// Renew opens another token of the same user and room, and its session takes
// the place of the old one, with its deadline and capabilities. The error is a
// [*Refusal]. After it the session goes on as it was, and the token is not
// spent, unless it was good and the stay ended meanwhile.
func (p *Participant) Renew(ctx context.Context, text string) error {
	began := p.g.began()
	err := p.renew(ctx, text)
	if err != nil {
		return p.g.refused(err, began)
	}
	p.g.observe(Event{Kind: Renewed, TokenID: p.Session().TokenID()}, began)
	return nil
}

func (p *Participant) renew(ctx context.Context, text string) error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	if p.g.state.draining.Load() {
		return ErrDraining
	}
	old := p.session.Load()
	opener := p.g.opener
	opener.Admit = func(ctx context.Context, now time.Time, s token.Summary) error {
		if string(s.UserID) != string(old.UserID()) || string(s.RoomIdentifier) != string(old.RoomIdentifier()) {
			return errAnother
		}
		if p.g.config.Admit == nil {
			return nil
		}
		return p.g.config.Admit(ctx, now, s)
	}
	session := new(token.Session)
	if err := opener.Open(ctx, session, text); err != nil {
		return err
	}
	if err := p.replace(session); err != nil {
		return err
	}
	err := p.g.config.Guard.Revoked(session.Summary()) // since it was opened
	if err != nil {
		p.g.end(p, err, nil)
	}
	return err
}

// replace registers p under another session.
func (p *Participant) replace(session *token.Session) error {
	s := p.shard()
	s.mu.Lock()
	defer s.mu.Unlock()
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	reg := p.g.reg
	s.move(p, reg.entry(p.session.Load()), reg.entry(session))
	p.session.Store(session)
	return nil
}

// Leave says that the connection is gone. It may be called more than once, also
// after the end.
func (p *Participant) Leave() {
	s := p.shard()
	s.mu.Lock()
	left := p.left
	p.left, p.onEnd = true, nil
	if !left {
		s.present--
	}
	if p.cause.Load() == nil {
		p.cause.Store(&leftCause)
		p.g.reg.remove(s, p, p.g.reg.entry(p.session.Load()))
	}
	stay := p.stay
	s.mu.Unlock()
	if stay != nil {
		stay.cancel(ErrLeft)
	}
}

var leftCause error = ErrLeft

// end ends a stay, unless it has ended or the session is no longer one that is
// meant. It reports whether it did.
func (g *Gateway) end(p *Participant, cause error, meant func(*token.Session) bool) bool {
	s := p.shard()
	s.mu.Lock()
	session := p.session.Load()
	if p.cause.Load() != nil || meant != nil && !meant(session) {
		s.mu.Unlock()
		return false
	}
	p.cause.Store(&cause)
	g.reg.remove(s, p, g.reg.entry(session))
	f, stay := p.onEnd, p.stay
	p.onEnd = nil
	s.mu.Unlock()
	if stay != nil {
		stay.cancel(cause)
	}
	if f != nil {
		contain(func() { f(cause) })
	}
	g.ended(session, cause)
	return true
}

// contain calls an embedder's function, whose panic must not stop others from
// being ended.
func contain(f func()) {
	defer func() { _ = recover() }()
	f()
}

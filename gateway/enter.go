package gateway

import (
	"context"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Handler calls f for each request with a good token, and answers all others
// itself. f upgrades the connection and serves it. When f returns or panics,
// Handler calls Leave. Ten seconds after the participant's end, the gateway
// cuts the connection off if it's still there. Turn off the library's own check
// of the Origin. If it disagreed with the gateway's, a token would be spent for
// nothing. Test with an httptest.Server. An httptest.ResponseRecorder gets 500,
// because it has no connection to take over.
//
//	github.com/gorilla/websocket  Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
//	                              and Upgrade(w, r, w.Header())
//	github.com/coder/websocket    Accept(w, r, &AcceptOptions{InsecureSkipVerify: true})
func (g *Gateway) Handler(f func(w http.ResponseWriter, r *http.Request, p *Participant)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := g.Enter(w, r)
		if err != nil {
			return
		}
		defer p.Leave()
		f(take(w, p.took), r, p)
	})
}

// Conn is a WebSocket of any library, as [Gateway.Accept] uses it.
type Conn interface {
	// Serve reads and writes until the connection is gone, or closes it and
	// returns.
	Serve(p *Participant)

	// End closes the connection with the code and reason of [CloseFrame].
	// Serve must then return. The gateway calls End at most once, in a
	// goroutine of its own or instead of Serve. End may wait for the other
	// side: ten seconds later the gateway cuts the connection off.
	End(cause error)
}

// Accept is [Gateway.Handler] for browsers, which can't see the status of a
// refused upgrade. It checks the handshake and the Origin, calls upgrade, and
// only then opens the token. If the token is good, it calls Serve, and End with
// the cause when the participant ends. If not, it calls only End, with the
// [*Refusal]. If upgrade fails, Accept does nothing more, and the token isn't
// spent.
func (g *Gateway) Accept(upgrade func(http.ResponseWriter, *http.Request) (Conn, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		enter, err := g.Arrive(w, r)
		if err != nil {
			return
		}
		var below net.Conn
		conn, err := upgrade(take(w, func(c net.Conn) { below = c }), r)
		if err != nil {
			return
		}
		p := enterOrEnd(r.Context(), enter, conn, below)
		if p == nil {
			return
		}
		defer p.Leave()
		p.took(below)
		p.OnEnd(func(cause error) { go contain(func() { conn.End(cause) }) })
		conn.Serve(p)
	})
}

// enterOrEnd ends conn unless its user is let in, also after a panic. below is
// conn's network connection.
func enterOrEnd(ctx context.Context, enter func(context.Context) (*Participant, error), conn Conn, below net.Conn) (p *Participant) {
	err := token.ErrUnavailable
	defer func() {
		if p == nil {
			if below != nil {
				cutOff(below)
			}
			conn.End(err)
		}
	}()
	p, err = enter(ctx)
	return p
}

// Enter is for connections that outlive the request's handler. If the token is
// good, it returns its participant, and the header of w has the subprotocol to
// echo. The caller calls Leave when the connection is gone. Otherwise Enter has
// answered the request, and the error is a [*Refusal]. It retains nothing of r,
// except a foreign Origin in the error.
//
// If a middleware has wrapped w, some libraries can't take the connection over.
// gorilla/websocket is one. With Handler and Accept they can.
func (g *Gateway) Enter(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, r, false)
}

// EnterStream is [Gateway.Enter] for server-sent events: a GET that isn't
// upgraded. Without an Origin, the request may come from another site's page,
// so its cookies count only with Sec-Fetch-Site: same-origin. After a break an
// EventSource asks again with the same URL. If its token is spent or expired by
// then, the answer is 204, which makes it stop.
func (g *Gateway) EnterStream(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, r, true)
}

// answer lets the user in, or answers with the Refusal.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, stream bool) (*Participant, error) {
	v := g.visit()
	defer v.end()
	p, err := v.enterRequest(w, r, stream)
	if err != nil {
		return nil, v.answer(w, r, err, stream)
	}
	return p, nil
}

// answer refuses the request.
func (v *visit) answer(w http.ResponseWriter, r *http.Request, err error, stream bool) error {
	refusal := v.refused(err)
	if err == errOrigin {
		refusal.Err = v.g.originError(r)
	}
	refusal.write(w, stream)
	return refusal
}

func (v *visit) enterRequest(w http.ResponseWriter, r *http.Request, stream bool) (*Participant, error) {
	if err := v.g.check(w, r, stream); err != nil {
		return nil, err
	}
	if err := v.closed(); err != nil {
		return nil, err
	}
	f, err := find(v.g.config.Sources, r)
	if err != nil {
		return nil, err
	}
	v.room = v.g.roomOf(r)
	p, err := v.enter(r.Context(), f.text)
	if err == nil && f.echo != "" {
		w.Header()["Sec-Websocket-Protocol"] = []string{f.echo}
	}
	return p, err
}

// check judges the request itself.
func (g *Gateway) check(w http.ResponseWriter, r *http.Request, stream bool) error {
	judge := checkHandshake
	if stream {
		judge = checkStream
	}
	if err := judge(w, r, g.config.ExtendedConnect); err != nil {
		return err
	}
	return g.checkOrigin(r)
}

// Arrive is the first half of [Gateway.Accept], for browsers, which can't see
// the status of a refused upgrade. It checks the handshake and the Origin. If
// they are wrong, it has answered the request, and the error is a [*Refusal].
// Otherwise the caller upgrades with the header of w and calls enter, which
// opens the token. Its error is a *Refusal too: close the connection with its
// [CloseFrame].
//
// Arrive reserves nothing, spends nothing, and retains only the token of r.
func (g *Gateway) Arrive(w http.ResponseWriter, r *http.Request) (enter func(context.Context) (*Participant, error), err error) {
	v := g.visit()
	defer v.end()
	if err := g.check(w, r, false); err != nil {
		return nil, v.answer(w, r, err, false)
	}
	a := &arrival{g: g, room: g.roomOf(r)}
	if a.found, a.err = find(g.config.Sources, r); a.err != nil {
		a.found.echo = firstSubprotocol(r) // without an echo a browser sees no close code
	}
	if a.found.echo != "" {
		w.Header()["Sec-Websocket-Protocol"] = []string{a.found.echo}
	}
	return a.enter, nil
}

// arrival is a request that may be upgraded. Its token isn't open yet.
type arrival struct {
	g     *Gateway
	found found
	room  room
	err   error // of finding the token
}

func (a *arrival) enter(ctx context.Context) (*Participant, error) {
	v := a.g.visit()
	defer v.end()
	v.room = a.room
	err := v.closed()
	if err == nil {
		err = a.err
	}
	var p *Participant
	if err == nil {
		p, err = v.enter(ctx, a.found.text)
	}
	if err != nil {
		return nil, v.refused(err)
	}
	return p, nil
}

// firstSubprotocol returns the first one that is offered.
func firstSubprotocol(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ",")
	return textproto.TrimString(first)
}

// room is what the address names, if addresses name rooms.
type room struct {
	name  string
	named bool
}

func (g *Gateway) roomOf(r *http.Request) room {
	if g.config.Room == nil {
		return room{}
	}
	return room{g.config.Room(r), true}
}

// closed returns why the gateway lets nobody in now, or nil.
func (v *visit) closed() error {
	if err := v.stopped(); err != nil {
		return err
	}
	if v.g.reg.credits.left.Load() <= 0 {
		return errFull
	}
	return nil
}

func (v *visit) stopped() error {
	if v.g.state.draining.Load() {
		return ErrDraining
	}
	if !v.g.alive(v.read) {
		return errNotRunning
	}
	return nil
}

// revoked asks the guard about a session. It also knows single tokens'
// revocations that the guard has no room for yet.
func (g *Gateway) revoked(session *token.Session) error {
	if g.unsent.has(token.Target{Token: session.TokenID()}) {
		return token.ErrRevoked
	}
	return g.config.Guard.Revoked(session.Summary())
}

// visit is one attempt to enter or to renew, and what to give back if it fails.
// Visits are pooled, so Enter doesn't allocate them.
type visit struct {
	Admit func(ctx context.Context, now time.Time, s token.Summary) error // is admit
	Now   func() time.Time                                                // is now

	g      *Gateway
	began  time.Time
	read   time.Time // of the system's clock; one reading does for several checks
	room   room
	renews *token.Session // the token must have its user and room; nil to enter
	id     token.ID       // known once the token is authentic and timely
	user   uint64         // whose place is held
	held   bool
	p      *Participant // registered, but not in yet
}

func (g *Gateway) newVisit() any {
	v := &visit{g: g}
	v.Admit, v.Now = v.admit, v.now
	return v
}

func (g *Gateway) visit() *visit {
	v := g.visits.Get().(*visit)
	v.read = time.Now()
	v.began = v.read
	return v
}

// now is the clock for tokens and sessions.
func (v *visit) now() time.Time {
	if now := v.g.opener.Now; now != nil {
		return now()
	}
	return v.read
}

// end gives back what is left, also after a panic.
func (v *visit) end() {
	if v.held {
		v.g.reg.release(v.user)
	}
	if v.p != nil {
		v.p.Leave()
	}
	*v = visit{Admit: v.Admit, Now: v.Now, g: v.g}
	v.g.visits.Put(v)
}

// enter opens the token and registers its user. It takes the place before it
// spends the token.
func (v *visit) enter(ctx context.Context, text string) (*Participant, error) {
	session, err := v.open(ctx, text)
	if err != nil {
		return nil, err
	}
	e := v.g.reg.entry(v.user, session)
	p := &Participant{g: v.g, hashes: e.hashes, deadline: e.deadline}
	p.session.Store(session)
	v.g.reg.add(p)
	v.held, v.p = false, p
	// From here on, a revocation or a drain finds p. Look for those before
	// that.
	v.read = time.Now() // the guard may have been slow
	err = v.stopped()
	if err == nil {
		err = v.g.revoked(session)
	}
	if err == nil {
		err = p.over(v.now())
	}
	if err != nil {
		return nil, err
	}
	v.entered()
	v.p = nil
	return p, nil
}

func (v *visit) open(ctx context.Context, text string) (*token.Session, error) {
	opener := v.g.opener
	opener.Admit, opener.Now = v.Admit, v.Now
	session := new(token.Session)
	return session, opener.Open(ctx, session, text)
}

// admit checks the room and Config.Admit, and holds a place for a newcomer.
func (v *visit) admit(ctx context.Context, now time.Time, s token.Summary) (err error) {
	v.id = s.TokenID
	if old := v.renews; old != nil && (string(s.UserID) != string(old.UserID()) || string(s.RoomIdentifier) != string(old.RoomIdentifier())) {
		return errAnother
	}
	if v.room.named && (v.room.name == "" || v.room.name != string(s.RoomIdentifier)) {
		return errRoom
	}
	if admit := v.g.config.Admit; admit != nil {
		if err := admit(ctx, now, s); err != nil {
			return err
		}
	}
	if v.renews != nil {
		return nil
	}
	v.user, err = v.g.reg.hold(s.UserID, v.g.config.MaxLivePerUser)
	v.held = err == nil
	return err
}

// entered tells the observer of the entry, and of the end if it came meanwhile.
func (v *visit) entered() {
	id := v.p.Session().TokenID()
	v.g.observe(Event{Kind: Entered, TokenID: id}, v.began)
	if cause := v.p.announce(); cause != nil {
		v.g.ended(id, *cause)
	}
}

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

// Handler lets whoever presents a good token in, calls f, and calls Leave when
// f returns or panics. Whoever is refused is answered. f upgrades the
// connection and serves it. If it is still there ten seconds after the end, the
// gateway cuts it off, whatever the client does. The Origin has been checked, so the library's own
// check is to be off: a token would be spent for nothing if it came to another
// result. A test needs an httptest.Server: an httptest.ResponseRecorder is
// answered with 500, because no connection can be taken over from it.
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

// Conn is a WebSocket of some library's, as [Gateway.Accept] uses it.
type Conn interface {
	// Serve reads and writes. It returns when the connection is gone, or closes
	// it.
	Serve(p *Participant)

	// End closes the connection: [CloseFrame] says with which code and reason.
	// It is called once at most, in a goroutine of its own or instead of Serve,
	// and may wait for the other side: ten seconds later the gateway cuts the
	// connection off. Serve has to notice it.
	End(cause error)
}

// Accept is [Gateway.Handler] for browsers, which cannot see the status of an
// upgrade that was refused. If handshake and Origin are in order, it calls
// upgrade, and only then looks at the token. Whoever is refused gets no Serve,
// but an End with the [*Refusal]; else Serve is called, and End with the cause
// when the stay ends. After an error of upgrade nothing more is done, and the
// token is not spent.
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

// enterOrEnd ends conn, which is on below, unless its user is let in, also after
// a panic.
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

// Enter is for those who serve a connection beyond the request's handler: it
// lets whoever presents a good token in, and the caller calls Leave when the
// connection is gone. Whoever is refused has been answered; the error is a
// [*Refusal]. On success the header of w has the subprotocol to echo. Nothing
// of r is retained, but a foreign Origin in the error.
//
// If a middleware has wrapped w, some libraries cannot take the connection
// over, as gorilla/websocket cannot. Handler and Accept see to that.
func (g *Gateway) Enter(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, r, false)
}

// EnterStream is [Gateway.Enter] for server-sent events, which are requested
// with GET and not upgraded. A request without an Origin may come from another
// site's page, so its cookies count only with Sec-Fetch-Site: same-origin. An
// EventSource asks again with the same URL after a break; if the token in it is
// spent or has expired, the answer is 204, which makes it stop.
func (g *Gateway) EnterStream(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, r, true)
}

// answer lets somebody in, or answers with the Refusal.
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

// Arrive is for browsers, which cannot see the status of an upgrade that was
// refused; [Gateway.Accept] is made of it. It judges the handshake and the
// Origin; if they are wrong, the request has been answered, and the error is a
// [*Refusal]. Else the caller upgrades with the header of w and calls enter,
// which opens the token and lets its user in. Its error is a *Refusal too:
// [CloseFrame] says what to close the connection with.
//
// Arrive reserves nothing and spends nothing, and retains nothing of r but the
// token.
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

// arrival is a request that may be upgraded, and whose token has not been
// opened yet.
type arrival struct {
	g     *Gateway
	found found
	room  room
	err   error // what is wrong already
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

// room is that which an address names, if addresses name any.
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

// closed returns why nobody is let in at present, whatever the token.
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

// revoked returns what the guard says of a session, and what it could not be
// told: a single token's revocation for which it has no room.
func (g *Gateway) revoked(session *token.Session) error {
	if g.unsent.has(token.Target{Token: session.TokenID()}) {
		return token.ErrRevoked
	}
	return g.config.Guard.Revoked(session.Summary())
}

// visit is one attempt to enter or to renew, and what has to be given back if
// it fails. It is used again and again, so that Enter need not allocate it.
type visit struct {
	Admit func(ctx context.Context, now time.Time, s token.Summary) error // is admit
	Now   func() time.Time                                                // is now

	g      *Gateway
	began  time.Time
	read   time.Time // of the system's clock; one reading does for several checks
	room   room
	renews *token.Session // whose user and room the token has to have, or nil
	id     token.ID       // of the token, once it has proved authentic and timely
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

// now is the time by which tokens and sessions are judged.
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

// enter opens the token and registers its user. The place is taken before the
// token is spent.
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
	// From here on whoever ends participants finds p. What they did before
	// counts, too.
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

// admit judges by what the token says, and holds a place for whoever enters.
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

// entered tells the observer that somebody is in, and of the end if there has
// been one meanwhile.
func (v *visit) entered() {
	id := v.p.Session().TokenID()
	v.g.observe(Event{Kind: Entered, TokenID: id}, v.began)
	if cause := v.p.announce(); cause != nil {
		v.g.ended(id, *cause)
	}
}

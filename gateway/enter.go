package gateway

import (
	"context"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Handler lets whoever presents a good token in, calls f, and calls Leave when
// f returns or panics. Whoever is refused is answered. f upgrades the
// connection and serves it: with gorilla/websocket by Upgrade(w, r,
// w.Header()), with coder/websocket by Accept. The Origin has been checked. A
// library that checks it once more, by other rules, may refuse it when the
// token is spent: have CheckOrigin return true, or set InsecureSkipVerify.
func (g *Gateway) Handler(f func(w http.ResponseWriter, r *http.Request, p *Participant)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := g.Enter(w, r)
		if err != nil {
			return
		}
		defer p.Leave()
		f(hijackable(w), r, p)
	})
}

// Conn is a WebSocket of some library's, as [Gateway.Accept] uses it.
type Conn interface {
	// Serve reads and writes. It returns when the connection is gone, or closes
	// it.
	Serve(p *Participant)

	// End closes the connection: [CloseFrame] says with which code and reason. It
	// is called once at most, in a goroutine of its own or instead of Serve, and
	// may wait for the other side. Serve has to notice it.
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
		conn, err := upgrade(hijackable(w), r)
		if err != nil {
			return
		}
		p, err := enter(r.Context())
		if err != nil {
			conn.End(err)
			return
		}
		defer p.Leave()
		p.OnEnd(func(cause error) { go contain(func() { conn.End(cause) }) })
		conn.Serve(p)
	})
}

// Enter is for those who serve a connection beyond the request's handler: it
// lets whoever presents a good token in, and the caller calls Leave when the
// connection is gone. Whoever is refused has been answered; the error is a
// [*Refusal]. On success the header of w has the subprotocol to echo. Nothing
// of r is retained.
func (g *Gateway) Enter(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, false, func() (*Participant, error) {
		if err := checkHandshake(w, r, g.config.ExtendedConnect); err != nil {
			return nil, err
		}
		if err := g.checkOrigin(r); err != nil {
			return nil, err
		}
		return g.enterRequest(w, r)
	})
}

// EnterStream is [Gateway.Enter] for server-sent events, which are requested
// with GET and not upgraded. A request without an Origin may come from another
// site's page, so its cookies count only with Sec-Fetch-Site: same-origin. An
// EventSource asks again with the same URL after a break; if the token in it is
// spent, the answer is 204, which makes it stop.
func (g *Gateway) EnterStream(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	return g.answer(w, true, func() (*Participant, error) {
		if r.Method != http.MethodGet {
			return nil, errMethod
		}
		if err := g.checkOrigin(r); err != nil {
			return nil, err
		}
		return g.enterRequest(w, r)
	})
}

// answer makes a Refusal of an error, answers with it, and tells the observer.
func (g *Gateway) answer(w http.ResponseWriter, stream bool, enter func() (*Participant, error)) (*Participant, error) {
	began := g.began()
	p, err := enter()
	if err != nil {
		refusal := g.refused(err, began)
		refusal.write(w, stream)
		return nil, refusal
	}
	g.entered(p, began)
	return p, nil
}

// enterRequest does what is left when the request itself is in order.
func (g *Gateway) enterRequest(w http.ResponseWriter, r *http.Request) (*Participant, error) {
	if err := g.closed(); err != nil {
		return nil, err
	}
	f, err := find(g.config.Sources, r)
	if err != nil {
		return nil, err
	}
	if f.byCookie && fromAnywhere(r) {
		return nil, errSite
	}
	p, err := g.open(r.Context(), f.text, g.roomOf(r))
	if err == nil && f.echo != "" {
		w.Header()["Sec-Websocket-Protocol"] = []string{f.echo}
	}
	return p, err
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
	began := g.began()
	err = checkHandshake(w, r, g.config.ExtendedConnect)
	if err == nil {
		err = g.checkOrigin(r)
	}
	if err != nil {
		refusal := g.refused(err, began)
		refusal.write(w, false)
		return nil, refusal
	}
	a := &arrival{g: g, room: g.roomOf(r)}
	if a.found, a.err = find(g.config.Sources, r); a.err == nil && a.found.byCookie && fromAnywhere(r) {
		a.err = errSite
	}
	if a.err != nil {
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
	began := a.g.began()
	p, err := a.open(ctx)
	if err != nil {
		return nil, a.g.refused(err, began)
	}
	a.g.entered(p, began)
	return p, nil
}

func (a *arrival) open(ctx context.Context) (*Participant, error) {
	if err := a.g.closed(); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	return a.g.open(ctx, a.found.text, a.room)
}

// fromAnywhere reports whether r may come from any site's page.
func fromAnywhere(r *http.Request) bool {
	return len(r.Header["Origin"]) == 0 && r.Header.Get("Sec-Fetch-Site") != "same-origin"
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
func (g *Gateway) closed() error {
	switch {
	case g.state.draining.Load():
		return ErrDraining
	case !g.alive():
		return errNotRunning
	case g.reg.credits.left.Load() <= 0:
		return errFull
	}
	return nil
}

// open opens the token and registers its user. The place is taken before the
// token is spent.
func (g *Gateway) open(ctx context.Context, text string, rm room) (*Participant, error) {
	v := g.visits.Get().(*visit)
	v.room = rm
	defer v.end()
	opener := g.opener
	opener.Admit = v.Admit
	session := new(token.Session)
	if err := opener.Open(ctx, session, text); err != nil {
		return nil, err
	}
	p := &Participant{g: g}
	p.session.Store(session)
	g.reg.add(p, g.reg.entry(session))
	v.held = false
	// From here on whoever ends participants finds p. What they did before counts,
	// too.
	if err := g.since(session); err != nil {
		p.Leave()
		return nil, err
	}
	return p, nil
}

// visit is an Admit that knows the room, and holds a place for the user. It is
// used again and again, so that Enter need not allocate it.
type visit struct {
	Admit func(ctx context.Context, now time.Time, s token.Summary) error // is admit

	g    *Gateway
	room room
	user uint64 // whose place is held
	held bool
}

func (g *Gateway) newVisit() any {
	v := &visit{g: g}
	v.Admit = v.admit
	return v
}

func (v *visit) admit(ctx context.Context, now time.Time, s token.Summary) (err error) {
	if v.room.named && (v.room.name == "" || v.room.name != string(s.RoomIdentifier)) {
		return errRoom
	}
	if admit := v.g.config.Admit; admit != nil {
		if err := admit(ctx, now, s); err != nil {
			return err
		}
	}
	v.user, err = v.g.reg.hold(s.UserID, v.g.config.MaxLivePerUser)
	v.held = err == nil
	return err
}

// end gives up a place that is still held, also after a panic.
func (v *visit) end() {
	if v.held {
		v.g.reg.release(v.user)
	}
	v.room, v.held = room{}, false
	v.g.visits.Put(v)
}

// since returns what has happened while a token was opened.
func (g *Gateway) since(session *token.Session) error {
	if g.state.draining.Load() {
		return ErrDraining
	}
	if !g.alive() {
		return errNotRunning
	}
	return g.config.Guard.Revoked(session.Summary())
}

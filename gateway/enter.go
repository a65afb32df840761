package gateway

import (
	"context"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Handler lets whoever presents a good token in, calls f, and calls Leave when f
// returns or panics. Whoever is refused is answered. f upgrades the connection
// and serves it: with gorilla/websocket by Upgrade(w, r, w.Header()), with
// coder/websocket by Accept(w, r, nil). The Origin has been checked; a library
// that checks it again must be told the same origins.
func (g *Gateway) Handler(f func(w http.ResponseWriter, r *http.Request, p *Participant)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := g.Enter(w, r)
		if err != nil {
			return
		}
		defer p.Leave()
		f(w, r, p)
	})
}

// Enter is for those who serve a connection beyond the request's handler: it lets
// whoever presents a good token in, and the caller calls Leave when the
// connection is gone. Whoever is refused has been answered; the error is a
// [*Refusal]. On success the header of w has the subprotocol to echo. Nothing of
// r is retained.
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

// EnterStream is [Gateway.Enter] for server-sent events, which are requested with
// GET and not upgraded. A request without an Origin may come from another site's
// page, so its cookies count only with Sec-Fetch-Site: same-origin. An EventSource
// asks again with the same URL after a break; if the token in it is spent, the
// answer is 204, which makes it stop.
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
	if f.byCookie && len(r.Header["Origin"]) == 0 && r.Header.Get("Sec-Fetch-Site") != "same-origin" {
		return nil, errSite
	}
	p, err := g.open(r.Context(), f.text, g.roomOf(r))
	if err == nil && f.echo != "" {
		w.Header()["Sec-Websocket-Protocol"] = []string{f.echo}
	}
	return p, err
}

// Arrival is a request that may be upgraded, and whose token has not been looked
// at yet. It is made by [Gateway.Arrive].
type Arrival struct {
	g     *Gateway
	found found
	room  room
	err   error // what is wrong already
}

// Arrive is for browsers, which cannot see the status of an upgrade that was
// refused. It judges the handshake and the Origin; if they are wrong, the request
// has been answered, and the error is a [*Refusal]. Else the caller upgrades with
// the header of w, calls [Arrival.Enter], and closes the connection with
// [CloseCode] if that fails. Arrive reserves nothing and spends nothing, and
// retains nothing of r but the token.
func (g *Gateway) Arrive(w http.ResponseWriter, r *http.Request) (*Arrival, error) {
	began := g.began()
	err := checkHandshake(w, r, g.config.ExtendedConnect)
	if err == nil {
		err = g.checkOrigin(r)
	}
	if err != nil {
		refusal := g.refused(err, began)
		refusal.write(w, false)
		return nil, refusal
	}
	a := &Arrival{g: g, room: g.roomOf(r)}
	if a.found, a.err = find(g.config.Sources, r); a.err == nil && a.found.byCookie && len(r.Header["Origin"]) == 0 {
		a.err = errSite
	}
	if a.err != nil {
		a.found.echo = firstSubprotocol(r) // without an echo a browser sees no close code
	}
	if a.found.echo != "" {
		w.Header()["Sec-Websocket-Protocol"] = []string{a.found.echo}
	}
	return a, nil
}

// Enter opens the token and lets its user in. The error is a [*Refusal].
func (a *Arrival) Enter(ctx context.Context) (*Participant, error) {
	began := a.g.began()
	p, err := a.enter(ctx)
	if err != nil {
		return nil, a.g.refused(err, began)
	}
	a.g.entered(p, began)
	return p, nil
}

func (a *Arrival) enter(ctx context.Context) (*Participant, error) {
	if err := a.g.closed(); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	return a.g.open(ctx, a.found.text, a.room)
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

// open opens the token and registers its user.
func (g *Gateway) open(ctx context.Context, text string, rm room) (*Participant, error) {
	opener := g.opener
	if rm.named || g.config.MaxLivePerUser > 0 {
		opener.Admit = func(ctx context.Context, now time.Time, s token.Summary) error {
			if rm.named && (rm.name == "" || rm.name != string(s.RoomIdentifier)) {
				return errRoom
			}
			if g.reg.userIsFull(s.UserID, g.config.MaxLivePerUser) {
				return errUserFull
			}
			if g.config.Admit == nil {
				return nil
			}
			return g.config.Admit(ctx, now, s)
		}
	}
	session := new(token.Session)
	if err := opener.Open(ctx, session, text); err != nil {
		return nil, err
	}
	p := &Participant{g: g}
	p.session.Store(session)
	if err := g.reg.add(p, g.reg.entry(session), g.config.MaxLivePerUser); err != nil {
		return nil, err
	}
	// From here on whoever ends participants finds p. What they did before counts,
	// too.
	if err := g.since(session); err != nil {
		p.Leave()
		return nil, err
	}
	return p, nil
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

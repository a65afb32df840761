package ivschat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

// openTimeout is how long a guard on another machine may take.
const openTimeout = 5 * time.Second

// errUnknownRoom refuses a token whose room is gone since it was minted.
var errUnknownRoom = errors.New("ivschat: unknown room")

// admit lets an authentic token in if its room exists.
func (s *Server) admit(_ context.Context, _ time.Time, t token.Summary) error {
	if _, ok := s.settings(string(t.RoomIdentifier)); !ok {
		return errUnknownRoom
	}
	return nil
}

// connect lets a client in that presents a token as the WebSocket's
// subprotocol. It refuses with an HTTP status, after which the messaging client
// tries again with a fresh token. A close frame after the upgrade would be
// final.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()
	p, err := s.gateway.Enter(w, r.WithContext(ctx))
	if err != nil {
		s.logRefusal(err)
		return
	}
	s.serve(w, r, p)
}

// serve upgrades the connection. The client joins the room before the upgrade,
// so that it misses nothing after it, not even the event of its own
// disconnection. A goroutine of its own serves it, so that the request's memory
// is freed.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
	c := s.newClient(p)
	running := false
	defer func() {
		if !running {
			c.leave()
		}
	}()
	p.OnEnd(c.stayEnded)
	if _, ok := s.settings(c.room.arn); !ok {
		p.End(roomDeleted) // deleted since admit asked
	}
	var err error
	m := &metered{budget: newBudget(s.config.MessageRate), onFlood: func() { c.end(flooding) }}
	c.below = m
	c.conn, err = websocket.Accept(meteredWriter{w, m}, r, &websocket.AcceptOptions{
		Subprotocols:       w.Header().Values("Sec-WebSocket-Protocol"), // the client insists on the echo
		InsecureSkipVerify: true,                                        // the gateway has checked the Origin
		OnPingReceived:     c.pinged,
		OnPongReceived:     c.ponged,
	})
	if err != nil {
		s.log.Debug("connection lost", "error", err)
		return
	}
	s.log.Debug("session opened", "session", p.Session())
	running = true
	go c.run()
}

// logRefusal logs the cause of a [gateway.Refusal], which strangers don't
// learn. A foreign Origin is usually a mistake in the operator's settings.
func (s *Server) logRefusal(err error) {
	level := slog.LevelDebug
	refusal, _ := errors.AsType[*gateway.Refusal](err)
	if refusal.Reason == "origin" {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "connection refused", "reason", refusal.Reason, "error", refusal.Err)
}

// observe counts what the gateway decides.
func (s *Server) observe(e gateway.Event) {
	if s.config.Observe != nil {
		s.config.Observe(e)
	}
	switch e.Kind {
	case gateway.Entered:
		s.counters.opened.Add(1)
	case gateway.Refused:
		s.counters.refused.Add(e.Reason, 1)
	}
}

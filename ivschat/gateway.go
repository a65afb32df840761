package ivschat

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/seed17cb2b26/chattoken/token"
)

// openTimeout is how long a guard on another machine may take.
const openTimeout = 5 * time.Second

// errUnknownRoom refuses a token whose room has gone since it was minted.
var errUnknownRoom = errors.New("ivschat: unknown room")

// connect lets a client in that presents a token as the WebSocket's
// subprotocol. All that can be refused without the token is refused before it
// is spent.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	if !isHandshake(r) {
		s.counters.refused.Add("handshake", 1)
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "not the handshake of a WebSocket", http.StatusBadRequest)
		return
	}
	if !s.isOriginAllowed(r) {
		s.counters.refused.Add("origin", 1)
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return
	}
	if !s.reserve() {
		s.counters.refused.Add("full", 1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "as many connections as there may be", http.StatusServiceUnavailable)
		return
	}
	c, err := s.accept(w, r)
	if err != nil {
		s.release()
		s.log.Debug("connection refused", "reason", token.Reason(err), "error", err)
		return
	}
	s.log.Debug("session opened", "session", c.session)
	// On its own, so that the request's memory, which has the token, is freed.
	go c.run()
}

// accept opens the token and the WebSocket. On an error it has written the
// reply. The client is in the room before it hears that it is in, so that it
// misses nothing after that, not even the event of its own disconnection.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (*client, error) {
	// A token is one subprotocol. Several, joined, are refused as malformed.
	text := strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ",")
	session := new(token.Session)
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()
	if err := s.opener.Open(ctx, session, text); err != nil {
		s.refuse(w, err)
		return nil, err
	}
	c := s.newClient(session)
	c.room.join(c)
	c.askAgain()
	var err error
	c.conn, err = websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{text}, // the client insists that it is echoed
		InsecureSkipVerify: true,           // the origin has been checked
		OnPingReceived:     c.pinged,
		OnPongReceived:     c.ponged,
	})
	if err != nil {
		c.room.leave(c)
		s.counters.refused.Add("handshake", 1)
		return nil, err
	}
	s.counters.opened.Add(1)
	return c, nil
}

// refuse answers an upgrade whose token was not accepted: 401 asks for another
// token, perhaps after a while, 403 is final, and 503 asks for patience. The
// text is the same for all that is not authentic.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	s.counters.refused.Add(token.Reason(err), 1)
	advice := token.Action(err)
	switch advice {
	case token.FetchNewTokenLater:
		w.Header().Set("Retry-After", strconv.Itoa(int(s.ring.Limits().ClockSkew/time.Second)+1))
	case token.TryLater:
		w.Header().Set("Retry-After", "1")
		err = token.ErrUnavailable // why is for the log: it tells about other servers
	}
	if advice.HTTPStatus() == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // as RFC 9110, section 15.5.2, demands
	}
	http.Error(w, err.Error(), advice.HTTPStatus())
}

// admit is the rule for tokens that are authentic: there is such a room.
func (s *Server) admit(_ context.Context, _ time.Time, t token.Summary) error {
	if s.rooms[string(t.RoomIdentifier)] == nil {
		return errUnknownRoom
	}
	return nil
}

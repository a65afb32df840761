package ivschat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// operation is what the service does for POST requests to a path.
type operation struct {
	// read returns the call that a body asks for.
	read func(body []byte) (call, error)

	// verified says that the account must be verified: the service model
	// has PendingVerification for the operation.
	verified bool

	// quota is how many calls a second there may be, as in the service. 0
	// is any number.
	quota int

	// level is the log level of a call. Info, the zero level, is for calls
	// that change something for others.
	level slog.Level
}

// call is a request that is valid by itself.
type call struct {
	// arn names the room, which must exist. "" is all rooms.
	arn string

	// do returns the reply. Nil means no body.
	do func(context.Context, *Server) (any, error)
}

// operations has all operations, by name.
var operations = map[string]operation{
	"CreateChatToken": {read: createChatToken, verified: true, level: slog.LevelDebug},
	"CreateRoom":      {read: createRoom, verified: true},
	"DeleteMessage":   {read: deleteMessage, verified: true, quota: 100},
	"DeleteRoom":      {read: deleteRoom, verified: true},
	"DisconnectUser":  {read: disconnectUser, verified: true}, // has the limit of the room's moderators
	"GetRoom":         {read: getRoom, level: slog.LevelDebug},
	"ListRooms":       {read: listRooms, level: slog.LevelDebug},
	"SendEvent":       {read: sendEvent, verified: true, quota: 100},
	"UpdateRoom":      {read: updateRoom, verified: true},
}

// newQuotas makes the limiters of the operations that have a quota, by name.
func newQuotas() map[string]*rate.Limiter {
	quotas := map[string]*rate.Limiter{}
	for name, o := range operations {
		if o.quota > 0 {
			quotas[name] = rate.NewLimiter(rate.Limit(o.quota), o.quota)
		}
	}
	return quotas
}

// serveOperation answers requests to all other paths.
func (s *Server) serveOperation(w http.ResponseWriter, r *http.Request) {
	requestID := newRequestID()
	reply, err := s.operate(r, requestID)
	switch {
	case err != nil:
		s.writeError(w, requestID, err)
	case reply == nil:
		w.Header().Set("x-amzn-RequestId", requestID)
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, requestID, http.StatusOK, reply)
	}
}

// operate returns the reply to a request. An error that is no *exception is an
// internal failure. It first settles who calls and what they may do, so that a
// stranger doesn't learn which rooms exist.
func (s *Server) operate(r *http.Request, requestID string) (any, error) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	o, ok := operations[name]
	if !ok || r.Method != http.MethodPost {
		return nil, validationException("UNKNOWN_OPERATION", "there is no such operation", nil)
	}
	caller, body, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	c, err := o.read(body)
	if err != nil {
		return nil, invalidRequest(err)
	}
	if err := caller.may(name, o.verified, c.arn); err != nil {
		return nil, err
	}
	if _, ok := s.settings(c.arn); !ok && c.arn != "" {
		return nil, roomNotFound(c.arn)
	}
	if quota := s.quotas[name]; quota != nil && !quota.Allow() {
		return nil, throttled(c.arn, o.quota)
	}
	s.log.Log(r.Context(), o.level, "operation", "name", name, "requestId", requestID, "by", caller.AccessKeyID, "room", c.arn)
	// Tell other hosts even if the caller goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), openTimeout)
	defer cancel()
	return c.do(ctx, s)
}

// authenticate returns who sent the request, and its body. With AllowUnsigned,
// it lets anybody call, except another site's page in a visitor's browser.
// Signatures go by the real time, not Config.Now, because the clients' clocks
// do.
func (s *Server) authenticate(r *http.Request) (Credential, []byte, error) {
	if s.config.AllowUnsigned && len(r.Header.Values("Authorization")) == 0 && s.crossOrigin.Check(r) == nil {
		body, err := readBody(r)
		return Credential{}, body, err
	}
	return s.directory.load().verify(r, time.Now())
}

// invalidRequest is the exception for an error of reading a request.
func invalidRequest(err error) error {
	var invalid *claims.ValidationError
	if errors.As(err, &invalid) {
		// The command line shows only the message.
		return validationException("FIELD_VALIDATION_FAILED", strings.TrimPrefix(err.Error(), "claims: "), invalid.Fields)
	}
	return validationException("OTHER", "the body is not one JSON object of valid UTF-8", nil)
}

// may returns why the credential doesn't allow an operation on a room, or nil.
// arn "" means all rooms.
func (c Credential) may(operation string, verified bool, arn string) error {
	switch {
	case c.Access == pending && verified:
		return pendingVerification()
	case c.Access == deny, c.Rooms != nil && !slices.Contains(c.Rooms, arn):
		return accessDenied(operation)
	}
	return nil
}

func createChatToken(body []byte) (call, error) {
	c, err := claims.ParseJSON(body, nil)
	return call{c.RoomIdentifier, func(_ context.Context, s *Server) (any, error) { return s.mint(c) }}, err
}

// mint makes a token for a room that exists.
func (s *Server) mint(c claims.Claims) (token.ChatToken, error) {
	minted, err := s.sealer.Create(c)
	if err == nil {
		s.counters.minted.Add(1)
		s.log.Debug("minted", "token", minted) // shows only its ID and deadlines
	}
	return minted, err
}

func createRoom(body []byte) (call, error) {
	q, err := read(body, readCreateRoom)
	return call{"", func(_ context.Context, s *Server) (any, error) { return s.createRoom(q) }}, err
}

func (s *Server) createRoom(q roomChanges) (room roomInfo, err error) {
	if err := findLogging(q.logging...); err != nil {
		return roomInfo{}, err
	}
	err = s.directory.change(func(c *catalog) (*catalog, error) {
		arn := strings.TrimSuffix(c.first, roomID(c.first)) + newRoomID()
		if len(c.rooms) >= maxRooms {
			return nil, quotaExceeded(arn, maxRooms)
		}
		now := s.now()
		room = newRoomInfo(arn, now).changed(q, now)
		return c.with(room), nil
	})
	return room, err
}

// findLogging looks for logging configurations. There are none.
func findLogging(arns ...string) error {
	if len(arns) == 0 {
		return nil
	}
	e := roomNotFound(arns[0])
	e.Message = "the logging configuration does not exist: there are none here"
	return e
}

func getRoom(body []byte) (call, error) {
	arn, err := read(body, readIdentifier)
	return call{arn, func(_ context.Context, s *Server) (any, error) {
		room, ok := s.settings(arn)
		if !ok {
			return nil, roomNotFound(arn)
		}
		return room, nil
	}}, err
}

func listRooms(body []byte) (call, error) {
	q, err := read(body, readListRooms)
	return call{"", func(_ context.Context, s *Server) (any, error) {
		if q.logging != nil {
			return nil, findLogging(*q.logging)
		}
		return s.directory.load().list(q), nil
	}}, err
}

func updateRoom(body []byte) (call, error) {
	q, err := read(body, readUpdateRoom)
	return call{q.arn, func(_ context.Context, s *Server) (any, error) { return s.updateRoom(q) }}, err
}

func (s *Server) updateRoom(q roomChanges) (room roomInfo, err error) {
	if err := findLogging(q.logging...); err != nil {
		return roomInfo{}, err
	}
	err = s.directory.change(func(c *catalog) (*catalog, error) {
		old, ok := c.rooms[q.arn]
		if !ok {
			return nil, roomNotFound(q.arn)
		}
		room = old.changed(q, s.now())
		return c.with(room), nil
	})
	return room, err
}

// deleteRoom deletes a room, ends the sessions in it and revokes its tokens.
// Other hosts end them, too, but keep the room if their registry has it.
func deleteRoom(body []byte) (call, error) {
	arn, err := read(body, readIdentifier)
	return call{arn, func(ctx context.Context, s *Server) (any, error) { return nil, s.deleteRoom(ctx, arn) }}, err
}

const roomDeleted = "room deleted"

func (s *Server) deleteRoom(ctx context.Context, arn string) error {
	var room roomInfo
	err := s.directory.change(func(c *catalog) (*catalog, error) {
		var ok bool
		if room, ok = c.rooms[arn]; !ok {
			return nil, roomNotFound(arn)
		}
		return c.without(arn), nil
	})
	if err != nil {
		return err
	}
	// From here on the room is gone. After an error nobody needs to try
	// again, because the gateway goes on telling the other hosts.
	if room.registered {
		if err := s.gateway.Revoke(ctx, token.Target{Room: arn}, roomDeleted); err != nil {
			s.log.Error("room not revoked on all hosts", "room", arn, "error", err)
		}
	}
	// No other host knows a room from CreateRoom, and no ARN comes twice.
	// If each deletion were a revocation, they would fill the guard until
	// it revokes everybody.
	for _, c := range s.hub.room(arn).all() {
		c.p.End(roomDeleted)
	}
	s.hub.forget(arn)
	return nil
}

func disconnectUser(body []byte) (call, error) {
	q, err := read(body, readDisconnectUser)
	return call{q.arn, func(ctx context.Context, s *Server) (any, error) {
		if !s.hub.room(q.arn).disconnects.Allow() {
			return nil, throttled(q.arn, disconnectRate)
		}
		return struct{}{}, s.disconnectUser(ctx, q.arn, q.id, q.reason)
	}}, err
}

// sent is the reply of SendEvent and DeleteMessage.
type sent struct {
	ID string `json:"id"` // of the event
}

func deleteMessage(body []byte) (call, error) {
	q, err := read(body, readDeleteMessage)
	return call{q.arn, func(_ context.Context, s *Server) (any, error) {
		e := s.deletion(q.id, q.reason)
		s.sendEvent(q.arn, e)
		return sent{e.ID}, nil
	}}, err
}

func sendEvent(body []byte) (call, error) {
	q, err := read(body, readSendEvent)
	return call{q.arn, func(_ context.Context, s *Server) (any, error) {
		e := s.newEvent(q.name, q.attributes, nil)
		s.sendEvent(q.arn, e)
		return sent{e.ID}, nil
	}}, err
}

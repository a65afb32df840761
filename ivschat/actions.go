package ivschat

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// action is something that a client can ask for.
type action struct {
	capability claims.Capabilities     // which the session must have; 0 is none
	check      func(*request) error    // whether the members are valid
	do         func(*client, *request) // called if both allow it
}

var actions = map[string]action{
	"SEND_MESSAGE":    {claims.SendMessage, (*request).checkMessage, (*client).sendMessage},
	"DELETE_MESSAGE":  {claims.DeleteMessage, (*request).checkDelete, (*client).deleteMessage},
	"DISCONNECT_USER": {claims.DisconnectUser, (*request).checkDisconnect, (*client).disconnectUser},
	renewAction:       {0, (*request).checkRenew, (*client).renew},
}

// handle does what a message asks if the session may do that. Otherwise it
// sends an error.
func (c *client) handle(data []byte) {
	q, a, err := parseRequest(data)
	if !c.limit.Allow() {
		c.refuse(429, "too many messages", q.RequestID)
		c.pause()
		return
	}
	switch {
	case err == errTooLong:
		c.refuse(413, err.Error(), "")
		return
	case err != nil:
		c.refuse(400, err.Error(), q.RequestID)
		return
	}
	switch err := c.authorize(a.capability); err {
	case nil:
		a.do(c, &q)
	case token.ErrNotPermitted:
		c.refuse(403, "not permitted", q.RequestID)
	default: // the participant has ended, and the close is on its way
	}
}

// authorize asks the gateway, unless the action needs no capability. Such an
// action asks for itself.
func (c *client) authorize(want claims.Capabilities) error {
	if want == 0 {
		return nil
	}
	return c.p.Authorize(want)
}

// pause stops reading for as long as the limit allows one message. So a client
// that sends too many isn't refused faster than others are served.
func (c *client) pause() {
	timer := time.NewTimer(time.Second / time.Duration(c.server.config.MessageRate))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// sendMessage sends a message, if the room's settings allow it. A room no
// longer in the registry has the default settings.
func (c *client) sendMessage(q *request) {
	room, _ := c.server.settings(c.room.arn)
	if length := cmp.Or(room.MaxLength, maxContent); !isWithin(q.Content, length) {
		c.refuse(400, fmt.Sprintf("Content must have 1 to %d characters in this room", length), q.RequestID)
		return
	}
	if !c.room.takes(cmp.Or(room.Rate, defaultRate)) {
		c.refuse(429, "too many messages in this room", q.RequestID)
		return
	}
	c.server.counters.messages.Add(1)
	c.room.broadcast(c, encode(message{
		Type: "MESSAGE", ID: newMessageID(), RequestID: q.RequestID, Sender: c.sender,
		Content: *q.Content, SendTime: c.server.sendTime(), Attributes: q.Attributes,
	}))
}

// deleteMessage tells everyone to delete a message. Nobody keeps messages, here
// or in the service, so any ID will do.
func (c *client) deleteMessage(q *request) {
	c.server.log.Info("message deleted", "room", c.room.arn, "id", *q.ID, "by", c.p.Session())
	e := c.server.deletion(*q.ID, q.Reason)
	e.RequestID = q.RequestID
	c.room.broadcast(c, encode(e))
}

func (c *client) disconnectUser(q *request) {
	if !c.room.disconnects.Allow() {
		c.refuse(429, "too many users disconnected", q.RequestID)
		return
	}
	c.server.log.Info("user disconnected", "room", c.room.arn, "by", c.p.Session())
	// Tell others even if the moderator's connection ends meanwhile.
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	c.room.disconnect(*q.UserID, c, func() []byte {
		e := c.server.disconnection(*q.UserID, q.Reason)
		if err := c.server.revoke(ctx, c.room.arn, *q.UserID, q.Reason); err != nil {
			c.refuse(500, "disconnected here, but perhaps not elsewhere yet", q.RequestID)
		} else {
			e.RequestID = q.RequestID
		}
		return encode(e)
	})
}

// revoke revokes the tokens minted for a user in a room until now, and ends the
// user's connections there. An error means that other hosts don't know yet. The
// gateway tells them as soon as it can.
func (s *Server) revoke(ctx context.Context, arn, userID string, reason *string) error {
	text := ""
	if reason != nil {
		text = *reason
	}
	err := s.gateway.Revoke(ctx, token.Target{Room: arn, User: userID}, text)
	if err != nil {
		s.log.Error("user not revoked on all hosts", "room", arn, "error", err)
	}
	return err
}

// What a backend does in a room, in place of a moderator.

// disconnectUser does what DISCONNECT_USER does. After an error it's done here,
// and other hosts follow.
func (s *Server) disconnectUser(ctx context.Context, arn, userID string, reason *string) (err error) {
	s.hub.room(arn).disconnect(userID, nil, func() []byte {
		err = s.revoke(ctx, arn, userID, reason)
		return encode(s.disconnection(userID, reason))
	})
	return err
}

// sendEvent sends an event to everyone in a room.
func (s *Server) sendEvent(arn string, e event) { s.hub.room(arn).broadcast(nil, encode(e)) }

// deletion is the event that deletes a message.
func (s *Server) deletion(id string, reason *string) event {
	// The client has one spelling, the documentation another.
	return s.newEvent("aws:DELETE_MESSAGE", map[string]string{"MessageID": id, "MessageId": id}, reason)
}

// disconnection is the event that a user was disconnected.
func (s *Server) disconnection(userID string, reason *string) event {
	return s.newEvent("aws:DISCONNECT_USER", map[string]string{"UserId": userID}, reason)
}

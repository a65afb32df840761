package ivschat

import (
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// action is something that a client can ask for.
type action struct {
	capability claims.Capabilities     // which the session must have
	check      func(*request) error    // whether the members are valid
	do         func(*client, *request) // is called if both is so
}

var actions = map[string]action{
	"SEND_MESSAGE":    {claims.SendMessage, (*request).checkMessage, (*client).sendMessage},
	"DELETE_MESSAGE":  {claims.DeleteMessage, (*request).checkDelete, (*client).deleteMessage},
	"DISCONNECT_USER": {claims.DisconnectUser, (*request).checkDisconnect, (*client).disconnectUser},
}

// handle does what a message asks for, if the session is allowed to, and says so
// where it is not.
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
	switch err := c.session.Authorize(c.server.now(), a.capability); err {
	case nil:
		a.do(c, &q)
	case token.ErrSessionExpired:
		c.end(sessionExpired)
	default:
		c.refuse(403, "not permitted", q.RequestID)
	}
}

// pause stops reading for as long as the limit allows one message in, so that a client
// that sends too many is not refused faster than others are served.
func (c *client) pause() {
	timer := time.NewTimer(time.Second / time.Duration(c.server.config.MessageRate))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

func (c *client) sendMessage(q *request) {
	c.server.counters.messages.Add(1)
	f := message{
		Type: "MESSAGE", ID: newMessageID(), Sender: c.sender,
		Content: *q.Content, SendTime: c.sendTime(), Attributes: q.Attributes,
	}
	frame := encode(f)
	f.RequestID = q.RequestID
	c.room.broadcast(c, frame, encode(f))
}

// deleteMessage tells everyone to delete a message. Messages are not kept, here
// as in the service, so any ID will do.
func (c *client) deleteMessage(q *request) {
	c.server.log.Info("message deleted", "room", c.room.arn, "id", *q.ID, "by", c.session)
	f := c.newEvent("aws:DELETE_MESSAGE", q)
	// The client has one spelling, the documentation another.
	f.Attributes["MessageID"], f.Attributes["MessageId"] = *q.ID, *q.ID
	frame := encode(f)
	f.RequestID = q.RequestID
	c.room.broadcast(c, frame, encode(f))
}

// disconnectUser first revokes the user's tokens in this room, and then ends the
// connections that are in the room. One that is just being opened joins the room and
// then asks whether it was revoked, so that none is missed.
func (c *client) disconnectUser(q *request) {
	if !c.room.disconnects.Allow() {
		c.refuse(429, "too many users disconnected", q.RequestID)
		return
	}
	err := c.server.revoke(c.room.arn, *q.UserID)
	c.server.log.Info("user disconnected", "room", c.room.arn, "by", c.session)
	f := c.newEvent("aws:DISCONNECT_USER", q)
	f.Attributes["UserId"] = *q.UserID
	frame := encode(f)
	if err != nil {
		c.server.log.Error("user not revoked on all hosts", "error", err)
		c.refuse(500, "disconnected here, but perhaps not elsewhere: try again", q.RequestID)
	} else {
		f.RequestID = q.RequestID
	}
	c.room.disconnect(*q.UserID, c, frame, encode(f))
}

package chatserver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// The limits of a message, in Unicode code points, or bytes of all keys and
// values together.
const (
	maxContent           = 500
	maxReason            = 256
	maxMessageAttributes = 1024
	maxRequestID         = 128 // bytes
)

// request is a message from a client. Of members that an action does not have
// nothing is made.
type request struct {
	Action     string
	RequestID  string `json:"RequestId"`
	Content    *string
	ID         *string `json:"Id"`
	UserID     *string `json:"UserId"`
	Reason     *string
	Attributes map[string]*string
}

// action is what a client can ask for: what it takes, what may be wrong, and
// what is done.
type action struct {
	capability claims.Capabilities
	check      func(*request) error
	do         func(*client, *request)
}

var actions = map[string]action{
	"SEND_MESSAGE":    {claims.SendMessage, (*request).checkMessage, (*client).sendMessage},
	"DELETE_MESSAGE":  {claims.DeleteMessage, (*request).checkDelete, (*client).deleteMessage},
	"DISCONNECT_USER": {claims.DisconnectUser, (*request).checkDisconnect, (*client).disconnectUser},
}

// problem is what is wrong with a message, in the words of an ERROR frame.
type problem string

func (p problem) Error() string { return string(p) }

const (
	errTooLong    problem = "the message is longer than 16384 bytes"
	errNotJSON    problem = "the message is not one JSON object of valid UTF-8"
	errType       problem = "a member is of the wrong type"
	errAction     problem = "unknown Action"
	errRequestID  problem = "RequestId is longer than 128 bytes"
	errContent    problem = "Content must have 1 to 500 characters"
	errAttributes problem = "Attributes must be strings, of at most 1024 bytes in all keys and values together"
	errID         problem = "Id must be the ID of a message"
	errUserID     problem = "UserId must have 1 to 128 characters"
	errReason     problem = "Reason must have 1 to 256 characters"
)

// parseRequest reads a message, of which data may be the first maxFrame+1 bytes.
// On an error the request has the RequestID, if that could be read.
func parseRequest(data []byte) (request, action, error) {
	if len(data) > maxFrame {
		return request{}, action{}, errTooLong
	}
	var q request
	err := json.Unmarshal(data, &q)
	if len(q.RequestID) > maxRequestID {
		return request{}, action{}, errRequestID
	}
	var wrongType *json.UnmarshalTypeError
	a, known := actions[q.Action]
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return q, a, errType // the other members were read
	case err != nil, !utf8.Valid(data):
		return request{}, a, errNotJSON
	case !known:
		return q, a, errAction
	}
	return q, a, a.check(&q)
}

func (q *request) checkMessage() error {
	if !isWithin(q.Content, maxContent) {
		return errContent
	}
	size := 0
	for key, value := range q.Attributes {
		if value == nil {
			return errAttributes
		}
		size += len(key) + len(*value)
	}
	if size > maxMessageAttributes {
		return errAttributes
	}
	return nil
}

var messageID = regexp.MustCompile(`^[a-zA-Z0-9]{12}$`)

func (q *request) checkDelete() error {
	if q.ID == nil || !messageID.MatchString(*q.ID) {
		return errID
	}
	return q.checkReason()
}

func (q *request) checkDisconnect() error {
	if !isWithin(q.UserID, claims.MaxUserIDRunes) {
		return errUserID
	}
	return q.checkReason()
}

func (q *request) checkReason() error {
	if q.Reason != nil && !isWithin(q.Reason, maxReason) {
		return errReason
	}
	return nil
}

// isWithin reports whether the member is there and has 1 to limit code points.
func isWithin(member *string, limit int) bool {
	return member != nil && *member != "" && utf8.RuneCountInString(*member) <= limit
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

// pause stops reading for as long as one message takes, so that who sends too
// many is refused no faster than anyone else is served.
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

// disconnectUser takes back the user's tokens in this room, and then ends the
// connections that there are: one that is just being opened asks in the other
// order, so that none is missed.
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

// message is a frame for everyone in the room. It names the sender by what the
// token says, whatever the client may claim.
type message struct {
	Type       string
	ID         string `json:"Id"`
	RequestID  string `json:"RequestId,omitempty"`
	Sender     json.RawMessage
	Content    string
	SendTime   string
	Attributes map[string]*string `json:",omitempty"`
}

// event is a frame for everyone in the room about what a moderator did.
type event struct {
	Type       string
	ID         string `json:"Id"`
	RequestID  string `json:"RequestId,omitempty"`
	EventName  string
	SendTime   string
	Attributes map[string]string
}

func (c *client) newEvent(name string, q *request) event {
	f := event{Type: "EVENT", ID: newMessageID(), EventName: name, SendTime: c.sendTime(), Attributes: map[string]string{}}
	if q.Reason != nil {
		f.Attributes["Reason"] = *q.Reason
	}
	return f
}

func (c *client) sendTime() string {
	return c.server.now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// encodeSender returns who sends the messages of a session.
func encodeSender(s *token.Session) json.RawMessage {
	c := s.Claims()
	return encode(struct {
		UserID     string            `json:"UserId"`
		Attributes map[string]string `json:",omitempty"`
	}{c.UserID, c.Attributes})
}

// encodeError returns an ERROR frame for one client.
func encodeError(code int, message, requestID string) []byte {
	return encode(struct {
		Type         string
		ID           string `json:"Id"`
		RequestID    string `json:"RequestId,omitempty"`
		ErrorCode    int
		ErrorMessage string
	}{"ERROR", newMessageID(), requestID, code, message})
}

func encode(frame any) []byte {
	data, _ := json.Marshal(frame) // no error: strings and numbers always have a JSON form
	return data
}

// newMessageID returns 12 random characters, which have 60 bits: the client
// ignores a message whose ID it has seen.
func newMessageID() string { return rand.Text()[:12] }

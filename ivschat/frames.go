package ivschat

import (
	"crypto/rand"
	"encoding/json"

	"github.com/seed17cb2b26/chattoken/token"
)

// message is a frame for everyone in the room. It has the RequestId, as in the
// service, because the sender may have connected anew. The sender's name and
// attributes are the token's, not the client's.
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

// newEvent makes an event. It retains attributes, and adds the reason to them
// if there is one.
func (s *Server) newEvent(name string, attributes map[string]string, reason *string) event {
	if reason != nil {
		attributes["Reason"] = *reason
	}
	return event{Type: "EVENT", ID: newMessageID(), EventName: name, SendTime: s.sendTime(), Attributes: attributes}
}

func (s *Server) sendTime() string {
	return s.now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
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

// newMessageID returns 12 random characters, 60 bits, because the client
// ignores a message whose ID it has seen.
func newMessageID() string { return rand.Text()[:12] }

package ivschat

import (
	"maps"
	"net/http"
	"slices"

	"github.com/seed17cb2b26/chattoken/token"
)

// The limits, for tests at them and one past them.
const (
	MaxBody    = maxBody
	MaxRooms   = maxRooms
	MaxSkew    = maxSkew
	MaxFrame   = maxFrame
	MaxDiscard = maxDiscard
	QueueLen   = queueLen
	PingEvery  = pingEvery

	DisconnectRate  = disconnectRate
	DisconnectBurst = disconnectBurst
)

// Verify verifies the signature of a request of any operation.
func (s *Server) Verify(r *http.Request) error {
	_, _, err := s.directory.load().verify(r, s.now())
	return err
}

// Code is the code of an error that Verify returned.
func Code(err error) string {
	if e, ok := err.(*exception); ok {
		return e.code
	}
	return ""
}

// Message is the message of an error that Verify returned.
func Message(err error) string { return err.(*exception).Message }

// Sealer mints with the keys of s.
func (s *Server) Sealer() token.Sealer { return s.sealer }

// SetRate sets a room's rate, even above the service's limit.
func (s *Server) SetRate(arn string, perSecond int) {
	s.directory.change(func(c *catalog) (*catalog, error) {
		room := c.rooms[arn]
		room.Rate = perSecond
		return c.with(room), nil
	})
}

// Live is how many connections there are.
func (s *Server) Live() int { return s.gateway.Stats().Present }

// Request is a message from a client.
type Request = request

// ParseRequest reads a message.
func ParseRequest(data []byte) (Request, error) {
	q, _, err := parseRequest(data)
	return q, err
}

// SendAfterEnd has a client send to its room before and after its end, and
// returns how many frames another client got.
func SendAfterEnd() (before, after int) {
	s, r := new(Server), newRoom("")
	newClient := func() *client {
		c := &client{server: s, room: r, queue: make(chan []byte, queueLen), ending: make(chan ending, 1)}
		r.join(c)
		return c
	}
	from, to := newClient(), newClient()
	r.broadcast(from, []byte{})
	before = len(to.queue)
	from.end(disconnected)
	r.broadcast(from, []byte{})
	r.disconnect("", from, func() []byte { return []byte{} })
	return before, len(to.queue) - before
}

// NewFrameScanner returns a function that says how many frames begin in the
// next bytes of a stream.
func NewFrameScanner() func([]byte) int { return new(frames).scan }

// Operations are the names of the operations.
func Operations() []string { return slices.Sorted(maps.Keys(operations)) }

// Refused returns the members that an operation refuses in a body, or the
// reason if it refuses all of it.
func Refused(operation, body string) (names []string) {
	_, err := operations[operation].read([]byte(body))
	if err == nil {
		return nil
	}
	e := invalidRequest(err).(*exception)
	for _, f := range e.Fields {
		names = append(names, f.Name)
	}
	if names == nil {
		return []string{e.Reason}
	}
	return names
}

// IsVerified reports whether an operation is for verified accounts only.
func IsVerified(operation string) bool { return operations[operation].verified }

// Rule is what a string must be.
type Rule struct {
	Min, Max int
	Form     string
}

// Rules are those of the strings in requests, by the name of the shape.
func Rules() map[string]Rule {
	rules := map[string]Rule{}
	for shape, r := range map[string]rule{
		"RoomIdentifier": roomIdentifier, "LoggingConfigurationIdentifier": loggingIdentifier, "LambdaArn": lambda,
		"RoomName": roomName, "TagKey": tagKey, "TagValue": tagValue, "UserID": userID, "MessageID": messageIdentifier,
		"Reason": reason, "EventName": eventName, "PaginationToken": nextToken,
	} {
		rules[shape] = Rule{Min: r.min, Max: r.max}
		if r.form != nil {
			rules[shape] = Rule{r.min, r.max, r.form.String()}
		}
	}
	return rules
}

// EncodePage is the nextToken after a room.
var EncodePage = encodePage

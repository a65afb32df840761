package ivschat

import (
	"encoding/json"
	"errors"
	"regexp"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
)

// The limits of a message, in Unicode code points, or in bytes of all keys and
// values together.
const (
	maxContent           = 500
	maxReason            = 256
	maxMessageAttributes = 1024
	maxRequestID         = 128 // bytes
)

// request is a message from a client. It ignores members that its Action
// doesn't have.
type request struct {
	Action     string
	RequestID  string `json:"RequestId"`
	Content    *string
	ID         *string `json:"Id"`
	UserID     *string `json:"UserId"`
	Reason     *string
	Token      *string
	Attributes map[string]*string
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
	errToken      problem = "Token must be a token"
)

// parseRequest reads a message. If the message is too long, data is its first
// maxFrame+1 bytes. After an error the request has the RequestID, if that was
// readable.
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

// isWithin reports whether member has 1 to limit code points. Nil has none.
func isWithin(member *string, limit int) bool {
	return member != nil && *member != "" && utf8.RuneCountInString(*member) <= limit
}

package ivschat

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed17cb2b26/chattoken/claims"
)

// The functions of this file read the bodies of requests, with the limits of
// the service model. They see only the body, and name every invalid member. For
// CreateChatToken there is claims.ParseJSON.

// read reads a body. members takes the members out of it. As in
// claims.ParseJSON, null means an absent member, and an unknown member is an
// error. The error is claims.ErrJSON or a *claims.ValidationError.
func read[T any](body []byte, members func(*fields) T) (T, error) {
	var none T
	var f fields
	// This refuses invalid UTF-8, lone surrogates and repeated names.
	if json.Unmarshal(body, &f.members) != nil || f.members == nil {
		return none, claims.ErrJSON
	}
	in := members(&f)
	if len(f.members) > 0 {
		f.refuse("(unknown)", "not a member of this request; names are case-sensitive")
	}
	if f.wrong != nil {
		return none, &claims.ValidationError{Fields: f.wrong}
	}
	return in, nil
}

// fields are the unread members of an object, and the errors of those read.
type fields struct {
	members map[string]jsontext.Value
	wrong   []claims.FieldError
}

// refuse notes an error of a member. The first one counts.
func (f *fields) refuse(name, message string) {
	if !slices.ContainsFunc(f.wrong, func(e claims.FieldError) bool { return e.Name == name }) {
		f.wrong = append(f.wrong, claims.FieldError{Name: name, Message: message})
	}
}

// take reads a member into v, if it's there and of that kind.
func (f *fields) take(name, kind string, v any) bool {
	value := f.members[name]
	delete(f.members, name)
	if value == nil || value.Kind() == 'n' {
		return false
	}
	if json.Unmarshal(value, v) != nil {
		f.refuse(name, "not "+kind)
		return false
	}
	return true
}

// rule is what a string must be: its length in code points, and its form.
type rule struct {
	min, max int
	form     *regexp.Regexp // nil allows any
}

// The strings of the service model.
var (
	roomIdentifier    = rule{1, claims.MaxRoomIdentifierBytes, regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+$`)}
	loggingIdentifier = rule{1, 128, regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:logging-configuration/[a-zA-Z0-9-]+$`)}
	lambda            = rule{0, 170, regexp.MustCompile(`^$|^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:.+`)}
	fallbackResult    = rule{4, 5, regexp.MustCompile(`^(ALLOW|DENY)$`)}
	roomName          = rule{0, 128, regexp.MustCompile(`^[a-zA-Z0-9-_]*$`)}
	tagKey            = rule{1, 128, nil}
	tagValue          = rule{0, 256, nil}
	userID            = rule{1, claims.MaxUserIDRunes, nil}
	messageIdentifier = rule{12, 12, messageID}
	reason            = rule{1, maxReason, nil}
	eventName         = rule{1, 100, nil}
	nextToken         = rule{0, 1024, nil}
)

const (
	maxTags    = 50
	maxLogging = 3 // logging configurations of a room
	maxPage    = 50
)

// broken returns how s breaks the rule, or "".
func (r rule) broken(s string) string {
	if n := utf8.RuneCountInString(s); n < r.min || n > r.max {
		return fmt.Sprintf("%d code points used; %d–%d allowed", n, r.min, r.max)
	}
	if r.form != nil && !r.form.MatchString(s) {
		return "not in the form " + r.form.String()
	}
	return ""
}

// text reads a string, or returns nil.
func (f *fields) text(name string, r rule) *string {
	var s string
	if !f.take(name, "a string", &s) {
		return nil
	}
	if message := r.broken(s); message != "" {
		f.refuse(name, message)
	}
	return &s
}

// required reads a string that must be there.
func (f *fields) required(name string, r rule) string {
	s := f.text(name, r)
	if s == nil {
		f.refuse(name, "required")
	}
	return or(s, "")
}

// integer reads an integer, or returns nil.
func (f *fields) integer(name string, low, high int) *int {
	var n int
	if !f.take(name, "an integer", &n) {
		return nil
	}
	if n < low || n > high {
		f.refuse(name, fmt.Sprintf("out of range; %d–%d allowed", low, high))
	}
	return &n
}

// texts reads a map of strings, or returns nil.
func (f *fields) texts(name string) map[string]string {
	var values map[string]*string
	if !f.take(name, "an object of strings", &values) {
		return nil
	}
	m := make(map[string]string, len(values))
	for key, value := range values {
		if value == nil {
			f.refuse(name, "not an object of strings")
			return nil
		}
		m[key] = *value
	}
	return m
}

// roomChanges is the body of CreateRoom or UpdateRoom. Nil leaves a member as
// it is.
type roomChanges struct {
	arn     string // of UpdateRoom
	name    *string
	length  *int
	rate    *int
	tags    map[string]string // of CreateRoom
	logging []string
}

func readCreateRoom(f *fields) roomChanges {
	c := readRoomChanges(f)
	c.tags = f.texts("tags")
	if len(c.tags) > maxTags {
		f.refuse("tags", fmt.Sprintf("%d tags used; %d allowed", len(c.tags), maxTags))
	}
	for key, value := range c.tags {
		if tagKey.broken(key) != "" || tagValue.broken(value) != "" {
			f.refuse("tags", "a key has to have 1–128 code points, and a value at most 256")
			break
		}
	}
	return c
}

func readUpdateRoom(f *fields) roomChanges {
	arn := f.required("identifier", roomIdentifier)
	c := readRoomChanges(f)
	c.arn = arn
	return c
}

func readRoomChanges(f *fields) roomChanges {
	c := roomChanges{
		name:   f.text("name", roomName),
		length: f.integer("maximumMessageLength", 1, maxContent),
		rate:   f.integer("maximumMessageRatePerSecond", 1, maxRate),
	}
	f.reviewHandler("messageReviewHandler")
	f.take("loggingConfigurationIdentifiers", "an array of strings", &c.logging)
	if len(c.logging) > maxLogging {
		f.refuse("loggingConfigurationIdentifiers", fmt.Sprintf("%d used; %d allowed", len(c.logging), maxLogging))
	}
	for _, arn := range c.logging {
		if message := loggingIdentifier.broken(arn); message != "" {
			f.refuse("loggingConfigurationIdentifiers", message)
			break
		}
	}
	return c
}

// reviewHandler refuses a handler that reviews messages. If it accepted one,
// messages would pass that nobody reviewed. An empty URI removes a handler, so
// it's no error.
func (f *fields) reviewHandler(name string) {
	var handler fields
	if !f.take(name, "an object", &handler.members) {
		return
	}
	uri := handler.text("uri", lambda)
	handler.text("fallbackResult", fallbackResult)
	switch {
	case handler.wrong != nil:
		f.refuse(name, handler.wrong[0].Name+": "+handler.wrong[0].Message)
	case len(handler.members) > 0:
		f.refuse(name, "a member of it is not known")
	case uri != nil && *uri != "":
		f.refuse(name, "messages cannot be reviewed here: leave the handler out")
	}
}

func readIdentifier(f *fields) string { return f.required("identifier", roomIdentifier) }

// roomQuery is the body of ListRooms.
type roomQuery struct {
	after   string // the last ARN of the page before
	name    string // "" is any
	handler string // "" is any
	logging *string
	results int
}

func readListRooms(f *fields) roomQuery {
	q := roomQuery{
		after:   decodePage(f),
		name:    or(f.text("name", roomName), ""),
		handler: or(f.text("messageReviewHandlerUri", lambda), ""),
		logging: f.text("loggingConfigurationIdentifier", loggingIdentifier),
		results: or(f.integer("maxResults", 1, maxPage), maxPage),
	}
	return q
}

// A nextToken is the last ARN of a page. It isn't secret, and an invented one
// gives nothing that another call wouldn't.

func encodePage(arn string) string { return base64.RawURLEncoding.EncodeToString([]byte(arn)) }

func decodePage(f *fields) string {
	page := or(f.text("nextToken", nextToken), "")
	arn, err := base64.RawURLEncoding.DecodeString(page)
	if err != nil || page != "" && roomIdentifier.broken(string(arn)) != "" {
		f.refuse("nextToken", "not one that ListRooms returned")
	}
	return string(arn)
}

// or returns what p points to, or a default for nil.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// moderation is the body of DisconnectUser or DeleteMessage.
type moderation struct {
	arn    string
	id     string // of the user or the message
	reason *string
}

func readDisconnectUser(f *fields) moderation {
	return moderation{f.required("roomIdentifier", roomIdentifier), f.required("userId", userID), f.text("reason", reason)}
}

func readDeleteMessage(f *fields) moderation {
	return moderation{f.required("roomIdentifier", roomIdentifier), f.required("id", messageIdentifier), f.text("reason", reason)}
}

// eventRequest is the body of SendEvent.
type eventRequest struct {
	arn        string
	name       string
	attributes map[string]string
}

func readSendEvent(f *fields) eventRequest {
	q := eventRequest{f.required("roomIdentifier", roomIdentifier), f.required("eventName", eventName), f.texts("attributes")}
	size := 0
	for key, value := range q.attributes {
		size += len(key) + len(value)
	}
	if size > maxMessageAttributes {
		f.refuse("attributes", fmt.Sprintf("%d bytes used by keys and values; %d allowed", size, maxMessageAttributes))
	}
	return q
}

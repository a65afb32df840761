package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/shorthand"
	"github.com/seed17cb2b26/chattoken/token"
)

const createUsage = `Usage: chattoken create-chat-token --room-identifier ARN --user-id ID [flags]

Mints a token. Prints it and its deadlines, as "aws ivschat create-chat-token"
does. The token is a secret until it has been used or has expired.

  --room-identifier ARN   arn:aws:ivschat:REGION:ACCOUNT:room/ID, of at most 128
                          bytes
  --user-id ID            1-128 characters
  --capabilities A B ...  any of SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE;
                          with none the user may only read. Or JSON:
                          '["SEND_MESSAGE"]'
  --attributes K=V,K=V    1024 bytes at most, all keys and values together.
                          Quote a value that has a comma, quote, bracket or
                          brace: name='Doe, J.'. Or JSON: '{"name":"Doe, J."}'
  --session-duration-in-minutes N
                          1-180; 60 if not given
  --any-room              accept any room identifier of 1-128 bytes, not only
                          Amazon's
  --cli-input-json JSON   the whole request: JSON, file://PATH, or - for
                          standard input. Other flags replace its members.

` + keyUsage

// requestFlags are the flags for members of the request.
var requestFlags = []struct {
	name   string
	takes  arity
	member string
	encode func(words []string) (json.RawMessage, error)
}{
	{"room-identifier", one, "roomIdentifier", encodeText},
	{"user-id", one, "userId", encodeText},
	{"capabilities", many, "capabilities", encodeNames},
	{"attributes", one, "attributes", encodeMap},
	{"session-duration-in-minutes", one, "sessionDurationInMinutes", encodeInteger},
}

const (
	inputFlag   = "cli-input-json"
	anyRoomFlag = "any-room"
)

func createFlags() map[string]arity {
	flags := maps.Clone(keyFlags)
	flags[inputFlag], flags[anyRoomFlag] = one, none
	for _, f := range requestFlags {
		flags[f.name] = f.takes
	}
	return flags
}

// maxRequest is the maximum size of a request in JSON, in bytes. The longest
// valid request is shorter, even if all its characters are escapes.
const maxRequest = 64 << 10

func (p *process) createChatToken(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	request, err := p.request(a)
	if err != nil {
		return err
	}
	var room func(string) bool // nil means Amazon's grammar
	if a.has(anyRoomFlag) {
		room = func(string) bool { return true }
	}
	// Parse first: an invalid request makes no keyring.
	c, err := claims.ParseJSON(request, room)
	if err != nil {
		return err
	}
	ring, err := p.ring(a, true)
	if err != nil {
		return err
	}
	t, err := (&token.Sealer{Ring: ring, Room: room, Now: p.now}).Create(c)
	if err != nil {
		return err
	}
	return p.printJSON(struct {
		Token             string `json:"token"`
		TokenExpiration   string `json:"tokenExpirationTime"`
		SessionExpiration string `json:"sessionExpirationTime"`
	}{t.Token, timestamp(t.TokenExpiration), timestamp(t.SessionExpiration)})
}

// timestamp formats a time as the aws command line does: +00:00, not Z.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-07:00") }

// request returns the request in JSON. Flags become members of it, so one
// parser checks everything.
func (p *process) request(a *arguments) ([]byte, error) {
	object := []byte("{}")
	if a.has(inputFlag) {
		var err error
		if object, err = p.readInput(a.value(inputFlag, "")); err != nil {
			return nil, fmt.Errorf("--%s: %w", inputFlag, err)
		}
	}
	members, err := a.members()
	if err != nil {
		return nil, err
	}
	request, err := shorthand.Override(object, members)
	if err != nil || !utf8.Valid(request) {
		return nil, usageError("--" + inputFlag + ": not one JSON object of valid UTF-8")
	}
	return request, nil
}

// readInput returns the JSON that the value of --cli-input-json stands for.
func (p *process) readInput(value string) ([]byte, error) {
	if value == "-" {
		return readAll(p.stdin, maxRequest)
	}
	path, ok := strings.CutPrefix(value, "file://")
	if !ok {
		return []byte(value), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, maxRequest)
}

var errTooLong = errors.New("longer than any valid input")

// readAll reads r to its end. If that is more than limit bytes, it returns one
// more than limit, and errTooLong.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errTooLong
	}
	return data, err
}

// members returns the members of the request that the flags give.
func (a *arguments) members() ([]shorthand.Member, error) {
	var members []shorthand.Member
	for _, f := range requestFlags {
		words, ok := a.flags[f.name]
		if !ok {
			continue
		}
		value, err := f.encode(words)
		// The encoder would replace invalid UTF-8 by U+FFFD.
		if slices.ContainsFunc(words, func(s string) bool { return !utf8.ValidString(s) }) {
			err = errors.New("not valid UTF-8")
		}
		if err != nil {
			return nil, usageError(fmt.Sprintf("--%s: %v", f.name, err))
		}
		members = append(members, shorthand.Member{Name: f.member, Value: value})
	}
	return members, nil
}

func encodeText(words []string) (json.RawMessage, error) { return json.Marshal(words[0]) }

func encodeNames(words []string) (json.RawMessage, error) {
	if len(words) == 1 && strings.HasPrefix(words[0], "[") {
		return checkJSON(words[0])
	}
	return json.Marshal(append([]string{}, words...))
}

func encodeMap(words []string) (json.RawMessage, error) {
	if strings.HasPrefix(words[0], "{") {
		return checkJSON(words[0])
	}
	m, err := shorthand.Parse(words[0])
	if err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// encodeInteger makes a string of a word that is no integer. The parser refuses
// it and names the field. Unquoted, null would mean that the member is absent.
func encodeInteger(words []string) (json.RawMessage, error) {
	if n, err := strconv.Atoi(words[0]); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(words[0])
}

// checkJSON returns s if it is one JSON value. Anything behind that value could
// add members to the request.
func checkJSON(s string) (json.RawMessage, error) {
	if !json.Valid([]byte(s)) {
		return nil, errors.New("malformed JSON")
	}
	return json.RawMessage(s), nil
}

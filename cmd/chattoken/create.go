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

Mints a token and prints it with its deadlines, as "aws ivschat
create-chat-token" does. The token is a secret until it was used or has expired.

  --room-identifier ARN   arn:aws:ivschat:REGION:ACCOUNT:room/ID, of at most 128
                          bytes
  --user-id ID            1-128 characters
  --capabilities A B ...  any of SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE;
                          none means view only. Or JSON: '["SEND_MESSAGE"]'
  --attributes K=V,K=V    at most 1024 bytes in all keys and values together. A
                          value with a comma, quote, bracket or brace is quoted:
                          name='Doe, J.'. Or JSON: '{"name":"Doe, J."}'
  --session-duration-in-minutes N
                          1-180; 60 if not given
  --any-room              take any room identifier of 1-128 bytes, for rooms
                          that are not Amazon's
  --cli-input-json JSON   the whole request: JSON, or file://PATH, or - for
                          standard input. Other flags replace members of it.

` + keyUsage

// requestFlags are those that state a member of the request.
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

// maxRequest is a bound on the bytes of a request in JSON. The longest that is
// within the limits is shorter, with every character written as an escape.
const maxRequest = 64 << 10

func (p *process) createChatToken(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	request, err := p.request(a)
	if err != nil {
		return err
	}
	var room func(string) bool // nil means that of Amazon's
	if a.has(anyRoomFlag) {
		room = func(string) bool { return true }
	}
	// A request that is outside the limits leaves no keyring behind.
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

// timestamp formats a time as the aws command line does, which never writes Z.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-07:00") }

// request returns the request in JSON. Flags become members of it, so that
// there is one reader, which judges all of it.
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

// readInput returns what --cli-input-json stands for.
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

// readAll reads at most limit bytes; more are an error.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errTooLong
	}
	return data, err
}

// members returns the members of the request that flags state.
func (a *arguments) members() ([]shorthand.Member, error) {
	var members []shorthand.Member
	for _, f := range requestFlags {
		words, ok := a.flags[f.name]
		if !ok {
			continue
		}
		value, err := f.encode(words)
		// The encoder would put U+FFFD in place of what is not UTF-8.
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

// encodeInteger leaves what is no integer to the reader of the request, as a
// string, which it says is none. As it is, null would be an absent member.
func encodeInteger(words []string) (json.RawMessage, error) {
	if n, err := strconv.Atoi(words[0]); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(words[0])
}

// checkJSON returns s if it is one JSON value: any more of it would add members
// to the request.
func checkJSON(s string) (json.RawMessage, error) {
	if !json.Valid([]byte(s)) {
		return nil, errors.New("malformed JSON")
	}
	return json.RawMessage(s), nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

const openUsage = `Usage: chattoken open [TOKEN | -] [flags]

Verifies a token and prints its claims as JSON. It does not spend the token, and
does not know whether it was spent elsewhere: nobody is let in by this.

With - or nothing, the token is read from standard input, or what
create-chat-token printed. Prefer that: others on this machine can see the
arguments of a process.

` + keyUsage

func (p *process) open(a *arguments) error {
	text, err := p.tokenText(a.operands)
	if err != nil {
		return err
	}
	ring, err := p.ring(a, false)
	if err != nil {
		return err
	}
	opener := token.Opener{Ring: ring, Now: p.now}
	var s token.Session
	if err := opener.OpenWithoutSpending(context.Background(), &s, text); err != nil {
		return &refusedError{refusal(err)}
	}
	fmt.Fprintln(p.stderr, "chattoken: verified, not spent; whether it was used before is not known here")
	return p.printJSON(describe(&s, text))
}

// tokenText returns the token that is to be opened.
func (p *process) tokenText(operands []string) (string, error) {
	switch {
	case len(operands) > 1:
		return "", usageError("more than one token given")
	case len(operands) == 1 && operands[0] != "-":
		return operands[0], nil
	}
	// What is longer is refused by its length, like any other token.
	input, err := readAll(p.stdin, token.MaxLen+responseOverhead)
	if err != nil && err != errTooLong {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(input), "\n"), "\r")
	if text == "" {
		return "", usageError("no token on standard input")
	}
	return fromResponse(text), nil
}

// responseOverhead is more than what create-chat-token prints besides a token.
const responseOverhead = 1024

// fromResponse returns the token in the JSON that create-chat-token prints, or
// text itself, which is no token, where it is something else.
func fromResponse(text string) string {
	var response token.ChatToken
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &response) == nil && response.Token != "" {
		return response.Token
	}
	return text
}

// opened is a verified token: the request that it was made from, the deadlines,
// and what names it.
type opened struct {
	RoomIdentifier    string              `json:"roomIdentifier"`
	UserID            string              `json:"userId"`
	Capabilities      claims.Capabilities `json:"capabilities"`
	Attributes        map[string]string   `json:"attributes"`
	SessionMinutes    int                 `json:"sessionDurationInMinutes"`
	IssuedAt          string              `json:"issuedAt"`
	TokenExpiration   string              `json:"tokenExpirationTime"`
	SessionExpiration string              `json:"sessionExpirationTime"`
	TokenID           string              `json:"tokenId"`
	KeyID             string              `json:"keyId"`
}

// describe describes the session that text was opened into.
func describe(s *token.Session, text string) opened {
	c := s.Claims()
	if c.Attributes == nil {
		c.Attributes = map[string]string{}
	}
	return opened{
		RoomIdentifier:    c.RoomIdentifier,
		UserID:            c.UserID,
		Capabilities:      c.Capabilities,
		Attributes:        c.Attributes,
		SessionMinutes:    c.SessionMinutes,
		IssuedAt:          timestamp(s.IssuedAt()),
		TokenExpiration:   timestamp(s.Summary().Expiration),
		SessionExpiration: timestamp(s.SessionExpiration()),
		TokenID:           s.TokenID().String(),
		KeyID:             decode(text).keyID().String(),
	}
}

// explanations say to who holds the keys what the errors of package token keep
// from strangers.
var explanations = map[string]string{
	"revoked":       "it, or its user, was revoked after it was made",
	"draining":      "the gateway is about to stop",
	"malformed":     "not the text of a token: cut off, or changed on the way",
	"unknown-key":   "the keyring has no such key: minted under another keyring or context, or the key has expired",
	"revoked-key":   "the key that it was minted under was revoked",
	"forged":        "changed, or made by someone without the key",
	"payload":       "authentic, but not understood by this version",
	"not-yet-valid": "issued in the future: a clock is wrong, here or where it was minted",
	"expired":       "it can open no connection any more",
	"spent":         "it was used before",
	"not-permitted": "the token does not have the capability",
}

// refusal says in a line why a token was not accepted: the word for programs,
// then the sentence for people.
func refusal(err error) string {
	reason := token.Reason(err)
	if r, ok := errors.AsType[*gateway.Refusal](err); ok {
		reason = r.Reason
	}
	text, ok := explanations[reason]
	if !ok {
		text = err.Error()
	}
	return fmt.Sprintf("refused: %s: %s", reason, text)
}

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

Verifies a token and prints its claims as JSON. The token isn't spent. Whether
it was spent elsewhere is not known, so never let anybody in because of this.

With - or without an argument, it reads standard input: a token, or what
create-chat-token prints. Prefer that. Others on this machine can see the
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
	fmt.Fprintln(p.stderr, "chattoken: verified, not spent; it may have been used before")
	return p.printJSON(describe(&s, text))
}

// tokenText returns the token to open.
func (p *process) tokenText(operands []string) (string, error) {
	switch {
	case len(operands) > 1:
		return "", usageError("more than one token given")
	case len(operands) == 1 && operands[0] != "-":
		return operands[0], nil
	}
	// A longer input goes on, and is refused as a token of that length.
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

// responseOverhead is more bytes than create-chat-token prints beside a token.
const responseOverhead = 1024

// fromResponse returns the token in the output of create-chat-token. It returns
// any other text unchanged.
func fromResponse(text string) string {
	var response token.ChatToken
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &response) == nil {
		return response.Token
	}
	return text
}

// opened is what open prints: the request that the token was made from, its
// deadlines and its IDs.
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

// describe describes s, into which text was opened.
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

// explanations are for an operator, who has the keys. Strangers are not told so
// much. The keys are those of token.Reason and of gateway.Refusal.
var explanations = map[string]string{
	"revoked":       "it or its user was revoked after it was made",
	"draining":      "the gateway is about to stop",
	"malformed":     "not a token, or cut off or changed on the way",
	"unknown-key":   "the keyring has no such key: it is another keyring or context, or the key has expired",
	"revoked-key":   "the key of the token was revoked",
	"forged":        "changed, or made by somebody without the key",
	"payload":       "authentic, but this version doesn't understand it",
	"not-yet-valid": "issued in the future: a clock is wrong, here or where it was minted",
	"expired":       "too late to connect with it",
	"spent":         "it was used before",
	"not-permitted": "the token does not have the capability",
}

// refusal says why a token was refused, in a word for programs and a sentence
// for people.
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

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

const demoUsage = `Usage: chattoken demo

Mints the token of the example in AWS's documentation, with a keyring in memory.
Shows its parts, uses it, tries to cheat, and shows two gateways. Stores
nothing. The exit status is 0 if every step ends as it should.
`

// demonstration is one token's life. The Builder has what it prints.
type demonstration struct {
	strings.Builder

	sealer  token.Sealer
	opener  token.Opener
	claims  claims.Claims
	token   token.ChatToken
	session token.Session
	guard   *replay.Guard
	number  int // of the last step
	failed  int // steps that didn't end as they should
}

func (p *process) demo(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	d, err := newDemonstration(p.now)
	if err != nil {
		return err
	}
	d.request()
	if d.token, err = d.sealer.Create(d.claims); err != nil {
		return err
	}
	d.minted()
	for _, s := range d.steps(p.now) {
		d.step(s)
	}
	f, err := d.newFleet()
	if err != nil {
		return err
	}
	defer f.stop()
	d.line("")
	for _, s := range f.steps() {
		d.step(s)
	}
	d.WriteString(demoNext)
	if err := p.print(d.String()); err != nil {
		return err
	}
	if d.failed > 0 {
		return &refusedError{fmt.Sprintf("%d steps failed", d.failed)}
	}
	return nil
}

func newDemonstration(now func() time.Time) (*demonstration, error) {
	start := now()
	ring, err := keyring.New(start, keyring.Config{})
	if err != nil {
		return nil, err
	}
	// The guard is as old as the keys, so no token is older than the guard.
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), Rate: 1, AcceptIssuedBeforeStart: true, Now: now})
	if err != nil {
		return nil, err
	}
	return &demonstration{
		sealer: token.Sealer{Ring: ring, Now: now},
		opener: token.Opener{Ring: ring, Guard: guard, Now: now},
		guard:  guard,
		number: 2, // the request and the token
		claims: claims.Claims{
			RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
			UserID:         "11231234",
			Capabilities:   claims.SendMessage,
			Attributes:     map[string]string{"displayName": "DemoUser"},
			SessionMinutes: 30,
		},
	}, nil
}

func (d *demonstration) line(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
}

func (d *demonstration) request() {
	d.line("1. An application asks for a token.")
	d.line("")
	d.line("   room          %s", d.claims.RoomIdentifier)
	d.line("   user          %s", d.claims.UserID)
	d.line("   capabilities  %v", d.claims.Capabilities)
	for key, value := range d.claims.Attributes {
		d.line("   attribute     %s=%s", key, value)
	}
	d.line("   session       %d minutes", d.claims.SessionMinutes)
	d.line("")
}

// minted shows the token and its parts.
func (d *demonstration) minted() {
	text := d.token.Token
	d.line("2. It is minted:")
	d.line("")
	for chunk := range slices.Chunk([]byte(text), 72) {
		d.line("   %s", chunk)
	}
	d.line("")
	d.line("   %d characters: the prefix, and the rest in base64url", len(text))
	d.line("")
	d.parts(decode(text))
	d.line("")
	d.line("   Connect before   %s", timestamp(d.token.TokenExpiration))
	d.line("   Session ends at  %s", timestamp(d.token.SessionExpiration))
	d.line("")
}

func (d *demonstration) parts(b parts) {
	const row = "   %-10s %5d  %-35s  %s"
	id, rest := b.nonce()[:len(token.ID{})], b.nonce()[len(token.ID{}):]
	d.line("   part       bytes")
	d.line(row, "prefix", len(token.Prefix), token.Prefix, "format and version")
	d.line(row, "key ID", box.KeyIDSize, b.keyID(), "of a key in the ring")
	d.line(row, "nonce", box.NonceSize, hex.EncodeToString(id), "the token's ID")
	d.line("%21s%x", "", rest)
	d.line(row, "ciphertext", len(b.ciphertext()), hex.EncodeToString(b.ciphertext()[:16])+"...", "the claims, encrypted")
	d.line(row, "tag", box.TagSize, hex.EncodeToString(b.tag()), "authenticates it all")
}

// step is something to try, and the error that it should end with.
type step struct {
	what string
	try  func() error
	want error
}

func (d *demonstration) steps(now func() time.Time) []step {
	return []step{
		{"The user connects with it, and the gateway opens it:", func() error {
			return d.opener.Open(context.Background(), &d.session, d.token.Token)
		}, nil},
		{"The user sends a message:", func() error {
			return d.session.Authorize(now(), claims.SendMessage)
		}, nil},
		{"The user deletes somebody's message, without that capability:", func() error {
			return d.session.Authorize(now(), claims.DeleteMessage)
		}, token.ErrNotPermitted},
		{"Somebody connects with the same token again:", func() error {
			return openCopy(d.opener, d.token.Token)
		}, token.ErrSpent},
		{"Somebody connects with a copy, one character of it changed:", func() error {
			return openCopy(d.opener, tamper(d.token.Token))
		}, token.ErrForged},
		{"Somebody connects with a copy when the minute is over:", func() error {
			late := d.opener
			late.Now = func() time.Time { return d.token.TokenExpiration }
			return openCopy(late, d.token.Token)
		}, token.ErrTokenExpired},
	}
}

func (d *demonstration) step(s step) {
	d.number++
	d.line("%d. %s", d.number, s.what)
	err := s.try()
	result := "allowed"
	if err != nil {
		result = refusal(err)
	}
	if !errors.Is(err, s.want) {
		d.failed++
		result += "  FAILED: it should have ended otherwise"
	}
	d.line("   %s", result)
}

// openCopy opens a token into a session that nobody uses.
func openCopy(o token.Opener, text string) error {
	var s token.Session
	return o.Open(context.Background(), &s, text)
}

// tamper returns text with another character in its middle.
func tamper(text string) string {
	i := len(text) / 2
	other := "A"
	if text[i] == 'A' {
		other = "B"
	}
	return text[:i] + other + text[i+1:]
}

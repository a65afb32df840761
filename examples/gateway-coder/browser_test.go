package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// unlucky is a guard that is unavailable for one user.
type unlucky struct{ gateway.Guard }

func (u unlucky) Spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	if string(s.UserID) == "unlucky" {
		return false, token.Unavailable("the server does not answer")
	}
	return u.Guard.Spend(ctx, now, s)
}

// A browser sees why it was refused, and why it ended.
func TestBrowser(t *testing.T) {
	program, browser := gatewaytest.InBrowser(t, newGateway)
	env := tokentest.New(t)
	h := gatewaytest.StartOn(t, program, env, unlucky{env.Guard})
	browser.Visit(t, h)
	open := func(name, room, text string, want ...gatewaytest.Report) {
		t.Helper()
		browser.Open(t, gatewaytest.Order{Name: name, URL: "/chat/" + room, Token: text})
		for _, report := range want {
			report.Name = name
			require.Equal(t, report, browser.Next(t))
		}
	}
	closed := func(code int, reason string) gatewaytest.Report {
		return gatewaytest.Report{Event: "close", Code: code, Reason: reason}
	}
	hello := gatewaytest.Report{Event: "hello"}

	alice := h.MintFor("alice")
	open("alice", gatewaytest.Room, alice.Token, hello)
	open("again", gatewaytest.Room, alice.Token, closed(4401, "spent"))
	open("forger", gatewaytest.Room, h.Forged(), closed(4401, "invalid"))
	open("late", gatewaytest.Room, h.Expired(), closed(4401, "expired"))
	open("nobody", gatewaytest.Room, "chat", closed(4401, "no-token"))
	open("lost", "cellar", h.MintFor("lost").Token, closed(4403, "room"))
	open("unlucky", gatewaytest.Room, h.MintFor("unlucky").Token, closed(1013, "unavailable"))
	open("bob", gatewaytest.Room, h.MintFor("bob").Token, hello)
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: "bob"}, "no spam, please 🙂"))
	require.Equal(t, gatewaytest.Report{Name: "bob", Event: "close", Code: 4401, Reason: "no spam, please 🙂"}, browser.Next(t))
	open("bob", gatewaytest.Room, h.MintFor("bob").Token, closed(4401, "revoked"))
	open("brief", gatewaytest.Room, h.Almost("brief").Token, hello, closed(4401, "session-expired"))

	go func() { _ = h.Drain(t.Context(), 0, 0) }()
	require.Equal(t, gatewaytest.Report{Name: "alice", Event: "close", Code: 1012, Reason: "draining"}, browser.Next(t))
	open("newcomer", gatewaytest.Room, h.MintFor("newcomer").Token, closed(1012, "draining"))
}

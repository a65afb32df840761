package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// An EventSource learns why there are no more events. It asks again with its
// old token, and stops.
func TestBrowser(t *testing.T) {
	program, browser := gatewaytest.InBrowser(t, newGateway)
	h := gatewaytest.Start(t, program)
	browser.Visit(t, h)
	see := func(want gatewaytest.Report) {
		t.Helper()
		require.Equal(t, want, browser.Next(t))
	}
	listen := func(user string) {
		t.Helper()
		browser.Open(t, gatewaytest.Order{Name: user, URL: "/events/lobby?token=" + h.MintFor(user).Token})
		see(gatewaytest.Report{Name: user, Event: "open"})
	}
	listen("alice")
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: "alice"}, "spam"))
	see(gatewaytest.Report{Name: "alice", Event: "end", Code: 4401, Reason: "spam"})
	see(gatewaytest.Report{Name: "alice", Event: "closed"})

	listen("bob")
	entered, refused := h.Stats().Entered, h.Stats().Refused
	go func() { _ = h.Drain(t.Context(), 0, 0) }()
	see(gatewaytest.Report{Name: "bob", Event: "end", Code: 1012, Reason: "draining"})
	see(gatewaytest.Report{Name: "bob", Event: "closed"})
	require.Equal(t, entered, h.Stats().Entered)
	require.Equal(t, refused+1, h.Stats().Refused, "it has asked once")
}

// Package websocket stands in for a WebSocket library in the root module's
// examples, because that module depends on none. It has the names of
// github.com/coder/websocket, and no connections. The tests in examples run the
// same code on real ones.
package websocket

import (
	"context"
	"errors"
	"net/http"
)

// AcceptOptions are those of Accept.
type AcceptOptions struct{ InsecureSkipVerify bool }

// StatusCode is a close code.
type StatusCode int

// MessageType tells text from binary messages.
type MessageType int

// Conn is a connection.
type Conn struct{}

var errStandIn = errors.New("websocket: only a stand-in")

// Accept fails.
func Accept(http.ResponseWriter, *http.Request, *AcceptOptions) (*Conn, error) {
	return nil, errStandIn
}

// Read fails.
func (*Conn) Read(context.Context) (MessageType, []byte, error) { return 0, nil, errStandIn }

// Write fails.
func (*Conn) Write(context.Context, MessageType, []byte) error { return errStandIn }

// Close fails.
func (*Conn) Close(StatusCode, string) error { return errStandIn }

// CloseNow fails.
func (*Conn) CloseNow() error { return errStandIn }

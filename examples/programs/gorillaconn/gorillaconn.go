// Package gorillaconn has github.com/gorilla/websocket under the names of
// github.com/coder/websocket, so that a test can run one gateway on both.
package gorillaconn

import (
	"context"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// AcceptOptions are those of Accept.
type AcceptOptions struct{ InsecureSkipVerify bool }

// StatusCode is a close code.
type StatusCode int

// MessageType tells text from binary messages.
type MessageType int

// Conn is a connection.
type Conn struct{ conn *websocket.Conn }

// Accept upgrades a request, with the subprotocol that is in the header of w.
func Accept(w http.ResponseWriter, r *http.Request, o *AcceptOptions) (*Conn, error) {
	var upgrader websocket.Upgrader
	if o != nil && o.InsecureSkipVerify {
		upgrader.CheckOrigin = func(*http.Request) bool { return true }
	}
	conn, err := upgrader.Upgrade(w, r, w.Header())
	return &Conn{conn}, err
}

// Read reads a message.
func (c *Conn) Read(context.Context) (MessageType, []byte, error) {
	kind, message, err := c.conn.ReadMessage()
	return MessageType(kind), message, err
}

// Write writes one.
func (c *Conn) Write(_ context.Context, kind MessageType, message []byte) error {
	return c.conn.WriteMessage(int(kind), message)
}

// Close closes the connection with a code.
func (c *Conn) Close(code StatusCode, reason string) error {
	frame := websocket.FormatCloseMessage(int(code), reason)
	return c.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
}

// CloseNow closes it without one.
func (c *Conn) CloseNow() error { return c.conn.Close() }

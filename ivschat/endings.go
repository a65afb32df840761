package ivschat

import (
	"errors"

	"github.com/coder/websocket"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

// ending is how the server ends a connection. The package comment has the table
// of what is sent and what the messaging client does then.
type ending struct {
	word   string               // for counters
	status websocket.StatusCode // of the close frame; 0 means that the connection breaks off
	reason string               // in the close frame
	back   bool                 // the client is to connect again, with a fresh token
}

var (
	expired      = ending{"expired", websocket.StatusPolicyViolation, "session expired", true}
	drained      = ending{"drained", websocket.StatusServiceRestart, "draining", true}
	disconnected = ending{"disconnected", websocket.StatusPolicyViolation, "", false}
	notText      = ending{"not-text", websocket.StatusUnsupportedData, "messages are text", false}
	oversized    = ending{"too-large", websocket.StatusMessageTooBig, "", false}
	flooding     = ending{"flooding", websocket.StatusPolicyViolation, "too much at once", false}
	slow         = ending{"slow", 0, "", true}
	stalled      = ending{"stalled", 0, "", true}
	gone         = ending{"gone", 0, "", true}
)

// endingOf returns that of a stay which the gateway has ended.
func endingOf(cause error) ending {
	switch {
	case errors.Is(cause, token.ErrSessionExpired):
		return expired
	case errors.Is(cause, token.ErrRevoked):
		e := disconnected
		_, e.reason = gateway.CloseFrame(cause)
		return e
	}
	return drained
}

// last returns the frame to send before the close frame, or nil. A close frame
// alone is final for the messaging client.
func (e ending) last() []byte {
	if !e.back {
		return nil
	}
	return encodeError(401, e.reason, "")
}

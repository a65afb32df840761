package ivschat

import (
	"errors"

	"github.com/coder/websocket"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

// ending is how the server ends a connection. The package comment has a table
// of the endings and what the messaging client does then.
type ending struct {
	word   string               // for counters
	status websocket.StatusCode // of the close frame; 0 breaks the connection off
	reason string               // in the close frame
	back   bool                 // the client should connect again, with a fresh token
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

// endingOf returns the ending for the cause of a participant's end.
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

// last returns the frame to send before the close frame, or nil. After a close
// frame alone the messaging client stays away.
func (e ending) last() []byte {
	if !e.back {
		return nil
	}
	return encodeError(401, e.reason, "")
}

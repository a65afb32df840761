package ivschat

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
)

// renewAction is an action that the service lacks. It lets a connection outlive
// its session: the client presents another token of the same user and room, and
// that token's session replaces the old one. The answer is an event for this
// client alone, so other clients never see it.
const (
	renewAction  = "chattoken:RENEW"
	renewedEvent = "chattoken:RENEWED"
)

func (q *request) checkRenew() error {
	if q.Token == nil || *q.Token == "" {
		return errToken
	}
	return nil
}

// renew runs in the client's reader, as sendMessage does, so later messages
// have the new token's attributes.
func (c *client) renew(q *request) {
	ctx, cancel := context.WithTimeout(c.ctx, openTimeout)
	defer cancel()
	if err := c.p.Renew(ctx, *q.Token); err != nil {
		c.server.logRefusal(err)
		code, reason := refusedRenewal(err)
		c.refuse(code, "not renewed: "+reason, q.RequestID)
		return
	}
	session := c.p.Session()
	c.server.log.Debug("session renewed", "session", session)
	c.sender = encodeSender(session)
	e := c.server.newEvent(renewedEvent, map[string]string{
		"SessionExpirationTime": session.SessionExpiration().UTC().Format(time.RFC3339),
	}, nil)
	e.RequestID = q.RequestID
	c.enqueue(encode(e))
}

// refusedRenewal returns what the ERROR frame says. The code is the HTTP status
// of a refused upgrade, but never 401, which would mean that the session is
// over.
func refusedRenewal(err error) (code int, reason string) {
	code = http.StatusForbidden
	if r, ok := errors.AsType[*gateway.Refusal](err); ok && r.Status != http.StatusUnauthorized {
		code = r.Status
	}
	_, reason = gateway.CloseFrame(err)
	return code, reason
}

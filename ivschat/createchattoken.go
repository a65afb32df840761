package ivschat

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// createChatToken is the operation of that name: who is it, what do they ask
// for, may they, and is there such a room? In this order, so that a stranger
// learns nothing about rooms.
func (s *Server) createChatToken(w http.ResponseWriter, r *http.Request) {
	requestID := newRequestID()
	minted, err := s.answer(r)
	if err != nil {
		s.writeError(w, requestID, err)
		return
	}
	s.log.Debug("minted", "requestId", requestID, "token", minted) // shows its ID and deadlines only
	writeJSON(w, requestID, http.StatusOK, minted)
}

// answer returns the token that a request asks for. An error that is no *exception is
// an internal failure.
func (s *Server) answer(r *http.Request) (token.ChatToken, error) {
	caller, body, err := s.authenticate(r)
	if err != nil {
		return token.ChatToken{}, err
	}
	c, err := claims.ParseJSON(body, nil)
	if err != nil {
		return token.ChatToken{}, invalidRequest(err)
	}
	if err := caller.mayMint(c.RoomIdentifier); err != nil {
		return token.ChatToken{}, err
	}
	return s.mint(c)
}

// authenticate returns who sent the request, and its body. Without a signature
// that is nobody, unless it is allowed.
func (s *Server) authenticate(r *http.Request) (Credential, []byte, error) {
	if s.config.AllowUnsigned && len(r.Header.Values("Authorization")) == 0 {
		body, err := readBody(r)
		return Credential{}, body, err
	}
	return s.auth.verify(r, s.now())
}

// invalidRequest is the exception for an error of claims.ParseJSON.
func invalidRequest(err error) error {
	var invalid *claims.ValidationError
	if errors.As(err, &invalid) {
		// The command line shows no more than the message.
		return validationException("FIELD_VALIDATION_FAILED", strings.TrimPrefix(err.Error(), "claims: "), invalid.Fields)
	}
	return validationException("OTHER", "the body is not one JSON object of valid UTF-8", nil)
}

// mayMint returns why the credential does not allow to mint for a room, or nil if it
// does.
func (c Credential) mayMint(room string) error {
	switch {
	case c.Access == pending:
		return pendingVerification()
	case c.Access == deny, c.Rooms != nil && !slices.Contains(c.Rooms, room):
		return accessDenied()
	}
	return nil
}

// mint makes a token for a room that exists.
func (s *Server) mint(c claims.Claims) (token.ChatToken, error) {
	if _, ok := s.settings(c.RoomIdentifier); !ok {
		return token.ChatToken{}, roomNotFound(roomID(c.RoomIdentifier))
	}
	minted, err := s.sealer.Create(c)
	if err == nil {
		s.counters.minted.Add(1)
	}
	return minted, err
}

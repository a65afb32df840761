package ivschat

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
)

// joinRequest is what the page asks the application for.
type joinRequest struct {
	Room        string `json:"room"` // the ID or the ARN
	UserID      string `json:"userId"`
	DisplayName string `json:"displayName"`
	Moderator   bool   `json:"moderator"`
}

// joinReply leaves the token's expiry out. A chat client that knows it connects
// anew each time, although only the session's end matters.
type joinReply struct {
	Token             string    `json:"token"`
	SessionExpiration time.Time `json:"sessionExpirationTime"`

	// Claims is what the token says. The client can't read the token.
	Claims claims.Claims `json:"claims"`
}

// joinRooms is the reply of GET /join: the rooms to join.
type joinRooms struct {
	Rooms []joinRoom `json:"rooms"`
}

type joinRoom struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	MaxLength int    `json:"maximumMessageLength"`
}

// listJoin begins with the registry's first room, which the demonstration's
// instructions name.
func (s *Server) listJoin(w http.ResponseWriter, _ *http.Request) {
	c := s.directory.load()
	place := func(arn string) string {
		if arn == c.first {
			return ""
		}
		return arn
	}
	var reply joinRooms
	for _, arn := range slices.SortedFunc(maps.Keys(c.rooms), func(a, b string) int { return strings.Compare(place(a), place(b)) }) {
		room := c.rooms[arn]
		reply.Rooms = append(reply.Rooms, joinRoom{room.ID, room.Name, room.MaxLength})
	}
	writeJSON(w, newRequestID(), http.StatusOK, reply)
}

// join is the application's side: the client asks it for a token. A real
// application knows its users, and sends a signed CreateChatToken to the chat
// service. This one believes everybody, and calls the function.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	requestID := newRequestID()
	c, err := s.parseJoin(r)
	if err != nil {
		s.writeError(w, requestID, err)
		return
	}
	minted, err := s.mint(c)
	if err != nil {
		s.writeError(w, requestID, err)
		return
	}
	writeJSON(w, requestID, http.StatusOK, joinReply{minted.Token, minted.SessionExpiration, c})
}

// parseJoin returns the claims that a request to join asks for.
func (s *Server) parseJoin(r *http.Request) (claims.Claims, error) {
	// Another site must not make a visitor's browser join.
	if s.crossOrigin.Check(r) != nil {
		return claims.Claims{}, accessDenied("CreateChatToken")
	}
	body, err := readBody(r)
	if err != nil {
		return claims.Claims{}, err
	}
	var j joinRequest
	if json.Unmarshal(body, &j) != nil {
		return claims.Claims{}, validationException("OTHER", "the body is not the JSON object that was expected", nil)
	}
	c := j.claims(s.roomARN(j.Room))
	if err := c.Validate(nil); err != nil {
		return claims.Claims{}, invalidRequest(err)
	}
	if _, ok := s.settings(c.RoomIdentifier); !ok {
		return claims.Claims{}, roomNotFound(c.RoomIdentifier)
	}
	return c, nil
}

func (j joinRequest) claims(arn string) claims.Claims {
	c := claims.Claims{RoomIdentifier: arn, UserID: j.UserID, Capabilities: claims.SendMessage}
	if j.DisplayName != "" {
		c.Attributes = map[string]string{"displayName": j.DisplayName}
	}
	if j.Moderator {
		c.Capabilities |= claims.DeleteMessage | claims.DisconnectUser
	}
	return c
}

// roomARN returns the ARN of the room with that ID, or else the name itself.
func (s *Server) roomARN(name string) string {
	for arn := range s.directory.load().rooms {
		if roomID(arn) == name {
			return arn
		}
	}
	return name
}

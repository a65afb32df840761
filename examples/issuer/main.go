// Command issuer is an application that mints tokens for its users. The
// gateways beside it open them, with the same two files:
//
//	chattoken keyring make-kek kek
//	chattoken keyring init --keyring keyring --kek-file kek
//	echo '{"alice": {"password": "…", "rooms": ["lobby"], "capabilities": ["SEND_MESSAGE"]}}' >users.json
//	go run ./issuer &
//	curl -u alice:… --json '{"room": "lobby", "minutes": 30}' localhost:8088/token
//
// The JSON is the application's own. A refusal explains the errors field by
// field.
package main

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

type user struct {
	Password     string
	Rooms        []string
	Capabilities claims.Capabilities
}

// names maps the fields of claims.Claims to the application's names.
var names = map[string]string{"roomIdentifier": "room", "sessionDurationInMinutes": "minutes", "userId": "user"}

func main() {
	var users map[string]user
	must(0, json.Unmarshal(must(os.ReadFile("users.json")), &users))
	keys := must(keyring.File{Name: "keyring", KEK: keyring.KEKFile{Name: "kek"}}.Follow(context.Background(), time.Now()))
	http.Handle("POST /token", newIssuer(keys, users))
	server := http.Server{Addr: cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8088"), ReadTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func newIssuer(keys *keyring.Follower, users map[string]user) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, answer := mint(keys, users, r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}
}

func mint(keys *keyring.Follower, users map[string]user, r *http.Request) (status int, answer map[string]any) {
	name, password, _ := r.BasicAuth() // in place of the application's own login
	u := users[name]
	if u.Password == "" || subtle.ConstantTimeCompare([]byte(password), []byte(u.Password)) == 0 {
		return http.StatusForbidden, map[string]any{"error": "who are you?"}
	}
	var want struct {
		Room    string
		Minutes int
	}
	if json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&want) != nil {
		return http.StatusBadRequest, map[string]any{"error": "not the JSON of a request"}
	}
	if _, err := keys.Refresh(r.Context(), time.Now()); err != nil {
		log.Print(err) // the known keys last for a while
	}
	sealer := token.Sealer{Ring: keys.Ring(), Room: func(room string) bool { return slices.Contains(u.Rooms, room) }}
	minted, err := sealer.Create(claims.Claims{RoomIdentifier: want.Room, UserID: name, Capabilities: u.Capabilities, SessionMinutes: want.Minutes})
	if invalid, ok := errors.AsType[*claims.ValidationError](err); ok {
		fields := map[string]string{}
		for _, field := range invalid.Fields {
			fields[names[field.Name]] = field.Message
		}
		return http.StatusUnprocessableEntity, map[string]any{"fields": fields}
	}
	if err != nil {
		log.Print(err)
		return http.StatusServiceUnavailable, map[string]any{"error": "try again later"}
	}
	// Leave minted.TokenExpiration out: a chat client that knows it
	// connects anew each time it passes.
	return http.StatusOK, map[string]any{"token": minted.Token, "sessionExpirationTime": minted.SessionExpiration}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

package token_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/websocket"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func Example() {
	// Keys in memory. Hosts that share keys load them with keyring.File.
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{
		Limits: ring.Limits(),
		// Only because the keys are as new as the guard.
		AcceptIssuedBeforeStart: true,
	})
	if err != nil {
		log.Fatal(err)
	}

	// The application server mints a token and hands it to the user's
	// client.
	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(claims.Claims{
		RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
		UserID:         "11231234",
		Capabilities:   claims.SendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
	})
	if err != nil {
		log.Fatal(err)
	}

	// The gateway opens it once, when the client connects, and keeps the
	// session.
	opener := token.Opener{Ring: ring, Guard: guard}
	var session token.Session
	fmt.Println(opener.Open(context.Background(), &session, minted.Token))
	fmt.Println(session.Authorize(time.Now(), claims.SendMessage))
	fmt.Println(session.Authorize(time.Now(), claims.DeleteMessage))
	fmt.Println(opener.Open(context.Background(), &session, minted.Token))
	// Output:
	// <nil>
	// <nil>
	// token: not permitted
	// token: already used
}

// README.md shows ExampleSealer_Create, to the letter.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(source), "func ExampleSealer_Create() {\n")
	require.True(t, ok)
	body, _, ok = strings.Cut(body, "\n}\n")
	require.True(t, ok)
	body = strings.ReplaceAll("\n"+body+"\n", "\n\t", "\n")
	require.Contains(t, string(readme), "```go"+body+"```\n")
}

// An application server mints a token, and hands it to the user's client.
func ExampleSealer_Create() {
	ring, err := keyring.New(time.Now(), keyring.Config{}) // or keys that hosts share: File.Follow
	if err != nil {
		log.Fatal(err)
	}
	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(claims.Claims{
		RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
		UserID:         "11231234",
		Capabilities:   claims.SendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(minted.Token), minted.SessionExpiration.Sub(minted.TokenExpiration))
	// Output: 196 59m0s
}

// A gateway by hand. For WebSockets and server-sent events, package gateway
// does this and more.
func ExampleOpener_Open() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
	if err != nil {
		log.Fatal(err)
	}
	opener := token.Opener{Ring: ring, Guard: guard}
	if err := opener.Validate(); err != nil {
		log.Fatal(err)
	}

	http.HandleFunc("/chat/{room}", func(w http.ResponseWriter, r *http.Request) {
		text := r.Header.Get("Sec-WebSocket-Protocol")
		inRoom := opener // a copy, with an Admit of its own
		inRoom.Admit = func(_ context.Context, _ time.Time, s token.Summary) error {
			if string(s.RoomIdentifier) != r.PathValue("room") {
				return errors.New("a token for another room")
			}
			return nil
		}
		session := new(token.Session)
		if err := inRoom.Open(r.Context(), session, text); err != nil {
			log.Print("refused: ", token.Reason(err))
			http.Error(w, "refused", token.Action(err).HTTPStatus())
			return
		}
		// Echo the subprotocol, or the client closes the connection.
		w.Header().Set("Sec-WebSocket-Protocol", text)
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // the token is spent all the same
		}
		defer conn.CloseNow()
		ctx, cancel := context.WithDeadline(context.Background(), session.SessionExpiration())
		defer cancel()
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil || session.Authorize(time.Now(), claims.SendMessage) != nil {
				return
			}
			_ = conn.Write(ctx, kind, message)
		}
	})
}

// Seal writes the token into the response, without an allocation of its own.
func ExampleSealer_Seal() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	sealer := token.Sealer{Ring: ring}
	if err := sealer.Validate(); err != nil {
		log.Fatal(err)
	}
	request := claims.Claims{RoomIdentifier: tokentest.Room, UserID: "11231234"}

	// A token needs no escapes in JSON.
	buf := append(make([]byte, 0, token.MaxLen+100), `{"token":"`...)
	buf, minted, err := sealer.Seal(buf, &request)
	if err != nil {
		log.Fatal(err)
	}
	buf = append(buf, `","sessionExpirationTime":"`...)
	buf = minted.SessionExpiration.AppendFormat(buf, time.RFC3339)
	buf = append(buf, `"}`...)
	fmt.Println(json.Valid(buf), time.Until(minted.SessionExpiration) > 59*time.Minute)
	// Output: true true
}

// What a gateway keeps of a verified token.
func ExampleSession() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
	if err != nil {
		log.Fatal(err)
	}
	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(tokentest.Claims())
	if err != nil {
		log.Fatal(err)
	}

	opener := token.Opener{Ring: ring, Guard: guard}
	session := new(token.Session)
	if err := opener.Open(context.Background(), session, minted.Token); err != nil {
		log.Fatal(err)
	}
	name, _ := session.Attribute("displayName")
	fmt.Printf("%s, shown as %s, may %s\n", session.UserID(), name, session.Capabilities())
	fmt.Println(session.Authorize(session.SessionExpiration(), claims.SendMessage))
	// Output:
	// 11231234, shown as DemoUser, may SEND_MESSAGE
	// token: session expired
}

// The JSON form has the token. What fmt prints doesn't.
func ExampleChatToken() {
	minted := token.ChatToken{Token: "ct1_GRKwxoLtbCxn4uB6"}
	response, err := json.Marshal(minted)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(string(response), minted.Token))
	fmt.Println(strings.Contains(fmt.Sprint(minted), minted.Token))
	// Output:
	// true
	// false
}

// A gateway turns each error into an answer, and into a word for its counters.
func ExampleAdvice() {
	for _, err := range []error{token.ErrForged, token.ErrRevoked, token.ErrUnavailable, errors.New("banned")} {
		advice := token.Action(err)
		fmt.Println(token.Reason(err), advice, advice.HTTPStatus(), advice.CloseCode())
	}
	// Output:
	// forged fetch-new-token 401 4401
	// revoked fetch-new-token-later 401 4401
	// unavailable try-later 503 1013
	// refused give-up 403 4403
}

// An ID from a log is enough to revoke the token.
func ExampleID() {
	var id token.ID
	if err := id.UnmarshalText([]byte("62316a1d0c1f4f7b9a6f1d2e3c4b5a69")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Target{Token: id}.Validate())
	// Output: <nil>
}

// A ban covers tokens that are issued up to ClockSkew after it.
func ExampleSummary_IssuedBefore() {
	ban := time.Unix(1647405600, 0)
	for _, after := range []time.Duration{5 * time.Second, 6 * time.Second} {
		s := token.Summary{IssuedAt: ban.Add(after), ClockSkew: 5 * time.Second}
		fmt.Println(after, s.IssuedBefore(ban))
	}
	// Output:
	// 5s true
	// 6s false
}

// Validate refuses a Target that names nobody, or more than one thing.
func ExampleTarget() {
	for _, who := range []token.Target{
		{User: "mallory"},
		{User: "mallory", Room: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"},
		{User: "mallory", Everyone: true},
		{},
	} {
		fmt.Println(who.Validate())
	}
	// Output:
	// <nil>
	// <nil>
	// token: a Target has a Room, a User or both, or a Token, or Everyone
	// token: the Target is empty
}

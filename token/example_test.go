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
	ring, err := keyring.New(time.Now(), keyring.Config{}) // keys in memory; Load shares them
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{
		Limits:                  ring.Limits(),
		AcceptIssuedBeforeStart: true, // the keys are as new as the guard; not with keyring.Load
	})
	if err != nil {
		log.Fatal(err)
	}

	// The application server mints a token and hands it to the user's client.
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

	// The gateway opens it, once, as the connection comes in, and keeps the
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

// What README.md mints with is ExampleSealer_Create, to the letter.
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

// What opens a token. For a WebSocket or server-sent events, package gateway
// does this, and what has to be done before and after it.
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
		inRoom := opener // a token for another room is not even spent
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
		w.Header().Set("Sec-WebSocket-Protocol", text) // or the client closes at once
		conn, err := websocket.Accept(w, r, nil)       // gorilla: Upgrade(w, r, w.Header())
		if err != nil {
			return // and the token is spent
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

// A response that is written into one buffer, without an allocation for the
// token.
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

	buf := append(make([]byte, 0, token.MaxLen+100), `{"token":"`...) // needs no escapes
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

// What names nobody, or more than one thing, is no Target.
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

package token_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
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

// The code in README.md is that of Example, to the letter.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, block, ok := strings.Cut(string(readme), "```go\n")
	require.True(t, ok)
	block, _, ok = strings.Cut(block, "```")
	require.True(t, ok)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(source), "func Example() {\n")
	require.True(t, ok)
	body, _, ok = strings.Cut(body, "\n}\n")
	require.True(t, ok)
	require.Equal(t, strings.ReplaceAll("\n"+body+"\n", "\n\t", "\n")[1:], block)
}

// A gateway decides at the upgrade. The token is the WebSocket's subprotocol,
// which the response has to echo.
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

	http.HandleFunc("/chat", func(w http.ResponseWriter, r *http.Request) {
		// What else an upgrade needs, the Origin too, is checked before: once a
		// token was opened, it is spent.
		text := r.Header.Get("Sec-WebSocket-Protocol")
		inRoom := opener // a token for another room is not even spent
		inRoom.Admit = func(_ context.Context, _ time.Time, s token.Summary) error {
			if string(s.RoomIdentifier) != r.FormValue("room") {
				return errors.New("a token for another room")
			}
			return nil
		}
		session := new(token.Session)
		if err := inRoom.Open(r.Context(), session, text); err != nil {
			log.Print("refused: ", token.Reason(err))
			if token.Action(err) == token.FetchNewTokenLater {
				after := ring.Limits().ClockSkew + time.Second
				w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
			}
			http.Error(w, "refused", token.Action(err).HTTPStatus())
			return
		}
		w.Header().Set("Sec-WebSocket-Protocol", text)
		// Upgrade, and keep the session for the life of the connection, in the
		// room that session.RoomIdentifier() names. Register the connection,
		// then ask guard.Revoked(session.Summary()), in case it was revoked
		// meanwhile. Ask session.Authorize before each message, and close the
		// connection at session.SessionExpiration().
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

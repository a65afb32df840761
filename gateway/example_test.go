package gateway_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/internal/websocket"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
)

// A whole gateway on github.com/coder/websocket. Its chat is an echo.
func Example() {
	ctx := context.Background()
	keys, err := keyring.File{Name: "keyring", KEK: keyring.KEKFile{Name: "kek"}}.Follow(ctx, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{Limits: keys.Ring().Limits()}) // a fleet: valkey.New
	if err != nil {
		log.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Keys: keys, Guard: guard})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/chat", g.Handler(func(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // g has checked the Origin
		if err != nil {
			return
		}
		defer conn.CloseNow()
		p.OnEnd(func(cause error) {
			code, reason := gateway.CloseFrame(cause)
			go conn.Close(websocket.StatusCode(code), reason)
		})
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil || p.Authorize(claims.SendMessage) != nil || conn.Write(ctx, kind, message) != nil {
				return
			}
		}
	}))
	go g.Run(ctx)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
}

// The gateway in README.md is that of Example, to the letter.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(source), "func Example() {\n")
	require.True(t, ok)
	body, _, ok = strings.Cut(body, "\n}\n")
	require.True(t, ok)
	body = strings.ReplaceAll("\n"+body+"\n", "\n\t", "\n")
	require.Contains(t, string(readme), "```go"+body+"```\n")
}

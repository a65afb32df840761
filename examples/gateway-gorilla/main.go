// Command gateway-gorilla is a chat gateway on github.com/gorilla/websocket,
// for clients that see the status of a refused upgrade.
//
// It opens the tokens of the issuer beside it, with the same two files:
//
//	chattoken keyring make-kek kek
//	chattoken keyring init --keyring keyring --kek-file kek
//	go run ./issuer & go run ./gateway-gorilla
//
// Its chat is an echo. A message that is a token renews the session.
package main

import (
	"cmp"
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	keys := must(keyring.File{Name: "keyring", KEK: keyring.KEKFile{Name: "kek"}}.Follow(ctx, time.Now()))
	guard := must(replay.New(replay.Config{Limits: keys.Ring().Limits()})) // for a fleet: valkey.New
	g, handler := newGateway(keys, guard)
	go g.Run(context.Background()) // not ctx: it runs until all are gone
	server := http.Server{Addr: cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8080"), Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { log.Fatal(server.ListenAndServe()) }()
	<-ctx.Done()
	stop() // a second signal ends the process
	must(0, g.Drain(context.Background(), 2*time.Second, 5*time.Second))
}

func newGateway(keys gateway.Keys, guard gateway.Guard) (*gateway.Gateway, http.Handler) {
	g := must(gateway.New(gateway.Config{Keys: keys, Guard: guard, Room: func(r *http.Request) string { return r.PathValue("room") }}))
	mux := http.NewServeMux()
	mux.Handle("/chat/{room}", g.Handler(serve))
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if err := g.Ready(time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return g, mux
}

// The gateway has checked the Origin.
var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

func serve(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
	conn, err := upgrader.Upgrade(w, r, w.Header()) // with the subprotocol to echo
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetReadLimit(16 << 10)
	p.OnEnd(func(cause error) { go end(conn, cause) })
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, answer(p, message)) != nil {
			return
		}
	}
}

func end(conn *websocket.Conn, cause error) {
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(gateway.CloseFrame(cause)), time.Now().Add(time.Second))
	time.AfterFunc(time.Second, func() { conn.Close() }) // if the client does not
}

// answer does what a message asks.
func answer(p *gateway.Participant, message []byte) []byte {
	err := p.Authorize(claims.SendMessage)
	if strings.HasPrefix(string(message), token.Prefix) {
		err, message = p.Renew(context.Background(), string(message)), []byte("renewed")
	}
	if err != nil {
		return []byte(err.Error())
	}
	return message
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

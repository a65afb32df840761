package gateway_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// A whole gateway, without the chat. With a keyring that several hosts share,
// keys is what keyring.File.Follow returns; with a fleet of gateways, guard is
// valkey.New's or etcd.New's. Nothing else changes.
func Example() {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := keyring.NewInMemory(ring)
	if err != nil {
		log.Fatal(err)
	}
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
	if err != nil {
		log.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{
		Keys: keys, Guard: guard,
		Origins: []string{"https://chat.example.com"},
		Room:    func(r *http.Request) string { return r.PathValue("room") },
	})
	if err != nil {
		log.Fatal(err)
	}

	http.Handle("/chat/{room}", g.Handler(func(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
		// conn, err := upgrader.Upgrade(w, r, w.Header())
		p.OnEnd(func(cause error) {
			fmt.Println("close with", gateway.CloseCode(cause), cause)
		})
		// For each message:
		if err := p.Authorize(claims.SendMessage); err != nil {
			return
		}
	}))
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if err := g.Ready(time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("POST /kick", func(w http.ResponseWriter, r *http.Request) { // for moderators only
		err := g.Revoke(r.Context(), token.Target{User: r.FormValue("user")}, r.FormValue("reason"))
		if err != nil {
			http.Error(w, "kicked here; other hosts follow", http.StatusAccepted)
		}
	})

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go g.Run(context.Background())
	go http.ListenAndServe("127.0.0.1:0", nil)
	_ = ctx // <-ctx.Done()
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fmt.Println(g.Drain(deadline, 0, 10*time.Millisecond))
	// Output: <nil>
}

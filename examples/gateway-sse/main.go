// Command gateway-sse is a gateway for users who only watch: it sends events to
// an EventSource in a browser (server-sent events). The token is in the URL,
// because an EventSource can put it nowhere else. Keep it out of proxies' logs.
//
// It opens the tokens of the issuer beside it, with the same two files:
//
//	chattoken keyring make-kek kek
//	chattoken keyring init --keyring keyring --kek-file kek
//	go run ./issuer & go run ./gateway-sse
//	new EventSource("/events/lobby?token=ct1_…")
//
// Its events are the time of day. The last one, "end", says why there are no
// more. To come back, open another EventSource with another token.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
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
	g := must(gateway.New(gateway.Config{
		Keys: keys, Guard: guard,
		Sources: []gateway.Source{gateway.Query("token")},
		Room:    func(r *http.Request) string { return r.PathValue("room") },
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/events/{room}", func(w http.ResponseWriter, r *http.Request) {
		if p, err := g.EnterStream(w, r); err == nil {
			defer p.Leave()
			stream(w, r, p)
		}
	})
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if err := g.Ready(time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return g, mux
}

func stream(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(event, data string) error {
		control := http.NewResponseController(w)
		control.SetWriteDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		return control.Flush()
	}
	for send("time", time.Now().Format(time.TimeOnly)) == nil {
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		case <-p.Context().Done():
			code, reason := gateway.CloseFrame(context.Cause(p.Context()))
			send("end", string(must(json.Marshal(map[string]any{"code": code, "reason": reason})))) // JSON has no line breaks
			return
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

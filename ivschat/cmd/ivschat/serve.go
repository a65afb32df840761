package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

// serve listens, prints the addresses, and serves until a signal ends it.
func (p process) serve(f flags, server *ivschat.Server, m metrics, log *slog.Logger) error {
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintf(p.stdout, "ivschat: listening on http://%s\n", l.Addr())
	if f.debug != "" {
		debug, err := p.serveDebug(server, m, f.debug)
		if err != nil {
			return err
		}
		defer debug.Close()
	}
	if f.config == "" {
		fmt.Fprintf(p.stdout, instructions, l.Addr(), ivschat.Demo().Rooms[0])
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	go func() { // apart, because a file that stalls must not hold up the stop
		for range p.hangups {
			f.reload(server, log)
		}
	}()
	select {
	case err := <-ended:
		return err
	case sig := <-p.stops:
		log.Info("stopping", "signal", sig)
		return p.stop(f, server, log, sig)
	}
}

// serveDebug serves only /debug/vars and /metrics, on a listener of its own.
// The operator decides who can reach it.
func (p process) serveDebug(server *ivschat.Server, m metrics, address string) (*http.Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/vars", server.ServeVars)
	mux.Handle("GET /metrics", m.handler())
	debug := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	go debug.Serve(l) // until debug.Close
	fmt.Fprintf(p.stdout, "ivschat: numbers at http://%s/debug/vars\n", l.Addr())
	return debug, nil
}

// reload reads the rooms and credentials again. If the file is invalid, the old
// ones stay.
func (f flags) reload(server *ivschat.Server, log *slog.Logger) {
	if f.config == "" {
		log.Warn("SIGHUP: there is no -config to read again")
		return
	}
	registry, err := readRegistry(f.config)
	if err == nil {
		err = server.SetRegistry(registry)
	}
	if err != nil {
		log.Error("rooms and credentials stay as they were", "error", err)
		return
	}
	log.Info("rooms and credentials read again", "rooms", len(registry.Rooms), "credentials", len(registry.Credentials))
}

// linger is how long clients may take to close ended connections.
const linger = 10 * time.Second

// stop ends the server. SIGTERM takes the time of the drain flags. An
// interrupt, or a second signal, takes none.
func (p process) stop(f flags, server *ivschat.Server, log *slog.Logger, sig os.Signal) error {
	rest := linger
	if sig == os.Interrupt {
		f.notice, f.over, rest = 0, 0, time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.notice+f.over+rest)
	defer cancel()
	go func() {
		select {
		case <-p.stops:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := server.Shutdown(ctx, f.notice, f.over)
	if err != nil && ctx.Err() != nil {
		log.Warn("connections that were still there are cut off")
		return nil
	}
	return err
}

const instructions = `
A page to chat on: http://%[1]s/
What it counts:    http://%[1]s/debug/vars

To mint a token as an application would:

AWS_ACCESS_KEY_ID=AKIDEXAMPLE \
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY \
AWS_DEFAULT_REGION=us-west-2 AWS_EC2_METADATA_DISABLED=true AWS_PAGER= \
aws ivschat create-chat-token --endpoint-url http://%[1]s \
  --room-identifier %[2]s \
  --user-id 11231234 --capabilities SEND_MESSAGE DELETE_MESSAGE \
  --session-duration-in-minutes 30 --attributes displayName=DemoUser

The chat SDK takes ws://%[1]s in place of a region.

The credentials are public and /join believes everybody: keep this on loopback.
`

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

// serve listens where the flags say, tells where that is, and serves until ctx
// ends.
func (f flags) serve(ctx context.Context, server *ivschat.Server, stdout io.Writer) error {
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintf(stdout, "ivschat: listening on http://%s\n", l.Addr())
	if f.debug != "" {
		debug, err := serveDebug(server, f.debug, stdout)
		if err != nil {
			return err
		}
		defer debug.Close()
	}
	if f.config == "" {
		fmt.Fprintf(stdout, instructions, l.Addr(), ivschat.Demo().Rooms[0])
	}
	return f.serveUntil(ctx, server, l)
}

// serveDebug serves /debug/vars, and nothing else, on a listener of its own: who can
// reach it is up to the operator.
func serveDebug(server *ivschat.Server, address string, stdout io.Writer) (*http.Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/vars", server.ServeVars)
	debug := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	go debug.Serve(l) // until debug.Close
	fmt.Fprintf(stdout, "ivschat: numbers at http://%s/debug/vars\n", l.Addr())
	return debug, nil
}

// drainRest is how long a client may take to answer the close frame.
const drainRest = 10 * time.Second

// serveUntil serves l until ctx ends, and then shuts the server down.
func (f flags) serveUntil(ctx context.Context, server *ivschat.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.notice+f.over+drainRest)
	defer cancel()
	if err := server.Shutdown(ctx, f.notice, f.over); err != nil {
		return err
	}
	if err := <-failed; err != http.ErrServerClosed {
		return err
	}
	return nil
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

The credentials are public and /join believes everybody: keep this on loopback.
`

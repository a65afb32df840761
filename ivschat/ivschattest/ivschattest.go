// Package ivschattest starts a server with the API and the messaging of Amazon
// IVS Chat for a test, as [net/http/httptest] starts a web server.
//
//	chat := ivschattest.NewServer(t)
//	app := newApp(chat.URL) // the program under test
//	client := connect(chat.MessagingURL, app.admit("ann"))
//	...
//	chat.Advance(time.Hour) // and the client must get a new token
//
// The example uses the AWS SDK for Go. Start a program in another language with
// [Server.Environ]. The directory clients has programs for the AWS SDK for
// JavaScript with the chat SDK, boto3, and the AWS command line. Tests that
// aren't in Go start the command ivschat instead.
package ivschattest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// Server is a chat server on loopback. [NewServer] makes it. It is safe for
// concurrent use.
//
// Its Env mints tokens that it accepts, and tokens that it refuses, without a
// request. Env.Advance moves its clock on. Sessions that are over by then end
// within a second. Signatures go by the real time, as the clients' clocks do.
type Server struct {
	*tokentest.Env

	// URL is the endpoint of the API, http://127.0.0.1:PORT. MessagingURL
	// is that of the messaging, the same with ws. The chat SDK takes it in
	// place of a region.
	URL, MessagingURL string

	// Room is the ARN of the room that Env mints for.
	Room string

	// Requests must be signed for Region, with this key, which may do
	// everything.
	Region, AccessKeyID, SecretAccessKey string
}

// NewServer starts a server. When the test ends, the server stops and drops its
// clients. Its log is in the test's output.
func NewServer(t testing.TB) *Server {
	t.Helper()
	demo := ivschat.Demo()
	s := &Server{
		Env:             tokentest.New(t),
		Room:            tokentest.Room,
		Region:          demo.Region,
		AccessKeyID:     demo.Credentials[0].AccessKeyID,
		SecretAccessKey: demo.Credentials[0].SecretAccessKey,
	}
	keys, err := keyring.NewInMemory(s.Ring)
	if err != nil {
		t.Fatal(err)
	}
	log := &output{w: t.Output()}
	server, err := ivschat.New(ivschat.Config{
		Registry: demo, Keys: keys, Guard: s.Guard, Now: s.Now,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.URL, s.MessagingURL = "http://"+l.Addr().String(), "ws://"+l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		server.Shutdown(now, 0, 0)
		<-done
		log.end()
	})
	return s
}

// Environ returns variables for a program that reads its endpoint, region and
// credentials from the environment, as the AWS SDKs do:
//
//	cmd.Env = append(os.Environ(), chat.Environ()...)
//
// boto3 before 1.28 and the AWS command line before 2.13 don't know the
// variable for the endpoint.
func (s *Server) Environ() []string {
	return []string{
		"AWS_ENDPOINT_URL_IVSCHAT=" + s.URL,
		"AWS_REGION=" + s.Region,
		"AWS_DEFAULT_REGION=" + s.Region,
		"AWS_ACCESS_KEY_ID=" + s.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretAccessKey,
		"AWS_SESSION_TOKEN=",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// output passes writes on until the test ends. After that nobody may write to
// it.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = io.Discard
}

// Package ivschat is a chat service on chattoken, small enough to be read in
// an hour. It stands in for Amazon IVS Chat as its clients see it:
//
//   - createchattoken.go is the operation CreateChatToken, with signed requests
//     (sigv4.go), a registry of rooms and credentials (registry.go) and the
//     service's errors (errors.go);
//   - gateway.go lets a client in that presents a token, client.go serves the
//     connection, and room.go knows who is in a room. Of the protocol, messages.go
//     is what a client may send, actions.go what then happens, and frames.go what is
//     sent to clients;
//   - join.go is the application's side, and page a web page that uses it;
//   - server.go puts it together, with the settings in config.go, the paths in
//     routes.go and the keys in keys.go. revoke.go takes tokens back on all hosts,
//     and counters.go counts.
//
// Start with [New] and [Server.Serve].
package ivschat

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// Server is the chat service. It must be made with [New], and is an http.Handler that
// is safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger
	now    func() time.Time

	auth        authenticator
	sealer      token.Sealer
	opener      token.Opener
	ring        *keyring.Ring
	guard       Guard
	rooms       map[string]*room // by ARN; the map does not change
	crossOrigin *http.CrossOriginProtection
	counters    counters
	mux         *http.ServeMux
	http        http.Server
	stop        context.CancelFunc // ends the upkeep

	mu       sync.Mutex
	draining bool
	live     int            // places that are taken, by connections or to open one
	running  sync.WaitGroup // has these places and the upkeep; no place is taken once draining is set
}

// New makes a server. The caller ends it with [Server.Shutdown].
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.Registry.check(); err != nil {
		return nil, err
	}
	if c.MessageRate < 0 || c.MaxConnections < 0 {
		return nil, errors.New("ivschat: a limit is negative")
	}
	s := &Server{config: c, log: c.Log, now: c.Now}
	if err := s.makeKeys(); err != nil {
		return nil, err
	}
	s.auth = newAuthenticator(c.Registry)
	s.rooms = newRooms(c.Registry.Rooms)
	if err := s.tryToMint(); err != nil {
		return nil, err
	}
	s.crossOrigin = http.NewCrossOriginProtection()
	s.mux = s.routes()
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10, // a token has less than 4
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.startUpkeep()
	return s, nil
}

// startUpkeep starts what goes on in the background until Shutdown.
func (s *Server) startUpkeep() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.running.Go(func() { s.keepKeys(ctx) })
	s.running.Go(func() { s.followRevocations(ctx) })
}

// tryToMint finds a TokenTTL that the keys do not allow before a user does.
func (s *Server) tryToMint() error {
	_, err := s.sealer.Create(claims.Claims{RoomIdentifier: s.config.Registry.Rooms[0], UserID: "nobody"})
	return err
}

// Serve accepts connections from l, with timeouts for slow ones, until
// [Server.Shutdown], and then returns http.ErrServerClosed. It does not encrypt, and
// tokens should not travel in clear: unless all is on one machine, l is to be a TLS
// listener, or something in front of it does TLS.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown refuses new connections, closes those that there are with status
// 1001 (going away), and waits for them until ctx ends, when it drops them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	for _, r := range s.rooms {
		r.each(func(c *client) { c.end(goingAway) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
	}()
	select {
	case <-done:
		return s.http.Shutdown(ctx)
	case <-ctx.Done():
	}
	for _, r := range s.rooms {
		r.each(func(c *client) { c.drop() })
	}
	return errors.Join(ctx.Err(), s.http.Close())
}

// reserve takes a place for a connection, which release gives back. It reports false
// if there is none.
func (s *Server) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.live >= s.config.MaxConnections {
		return false
	}
	s.live++
	s.running.Add(1)
	return true
}

func (s *Server) release() {
	s.mu.Lock()
	s.live--
	s.mu.Unlock()
	s.running.Done()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

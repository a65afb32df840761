// Package chatserver is a chat service on chattoken, small enough to be read in
// an hour. It stands in for Amazon IVS Chat as its clients see it:
//
//   - createchattoken.go is the operation CreateChatToken, with signed requests
//     (sigv4.go), a registry of rooms and credentials (registry.go) and the
//     service's errors (errors.go);
//   - gateway.go lets in who presents a token, client.go serves the connection,
//     room.go knows who is there, messages.go has the protocol;
//   - join.go is the application's side, and page a web page that uses it.
//
// Start with [New] and [Server.Serve].
package chatserver

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

//go:embed page
var page embed.FS

// Config is what the operator decides. The zero value of each field is a safe
// default, but for Registry.
type Config struct {
	// Registry has the rooms and credentials. Without any rooms it is [Demo],
	// whose credentials are public.
	Registry Registry

	// AllowUnsigned lets anybody mint tokens without a signature. It is for
	// development only.
	AllowUnsigned bool

	// Join serves /join and the page, where anybody is let in as whoever they say
	// they are. It is for demonstrations.
	Join bool

	// Follower has the keys that several hosts share. With nil, keys are made
	// in memory: they are rotated here, and end with the process.
	Follower *keyring.Follower

	// Policy is that of keys in memory. With neither it nor a Follower, the
	// clocks of minter and gateway are one, so that a ClockSkew of a second is
	// enough, and a user who was disconnected can soon come back.
	Policy keyring.Policy

	// Guard spends tokens. Nil means a guard in memory, which is enough for one
	// process. If it can revoke as well, as that of replay/valkey, then a user who
	// is disconnected here is so on all hosts.
	Guard token.Guard

	// GuardStats returns what [Server.ServeVars] shows of Guard, in a form that
	// encoding/json takes. It is not asked about a replay.Guard, which has Stats of
	// its own. Nil shows nothing.
	GuardStats func() any

	// TokenTTL is how long a token can be used; zero means a minute.
	TokenTTL time.Duration

	// MessageRate is how many messages a second a connection may send, and at
	// once; zero means 10.
	MessageRate int

	// MaxConnections is how many there may be at a time; zero means 10,000.
	MaxConnections int

	// Origins are further origins ("https://chat.example.com") of web pages that
	// may connect, beside the host itself. What lets a user in is the token,
	// which another site does not have, and nothing that a browser sends by
	// itself: so this is a second line, and clients that are no browsers
	// need none.
	Origins []string

	// Log gets what happens, without tokens and claims; nil means none.
	Log *slog.Logger

	// Now is the clock; nil means time.Now. Timers are those of package time.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if len(c.Registry.Rooms) == 0 {
		c.Registry = Demo()
	}
	c.MessageRate = cmp.Or(c.MessageRate, 10)
	c.MaxConnections = cmp.Or(c.MaxConnections, 10_000)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Server is the chat service, an http.Handler that is safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger
	now    func() time.Time

	auth        *authenticator
	sealer      token.Sealer
	opener      token.Opener
	ring        *keyring.Ring
	revocations replay.Revocations
	fleet       fleet            // the guard, if it is one
	rooms       map[string]*room // by ARN; does not change
	crossOrigin *http.CrossOriginProtection
	counters    counters
	mux         *http.ServeMux
	http        http.Server
	stop        context.CancelFunc // of the upkeep of the keys

	mu       sync.Mutex
	draining bool
	live     int            // connections, those that are just opening included
	running  sync.WaitGroup // likewise, and the upkeep; nothing is added once draining is set
}

// New makes a server. The caller ends it with [Server.Shutdown].
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.Registry.check(); err != nil {
		return nil, err
	}
	if c.MessageRate < 0 || c.MaxConnections < 0 {
		return nil, errors.New("chatserver: a limit is negative")
	}
	s := &Server{config: c, log: c.Log, now: c.Now}
	if err := s.makeKeys(); err != nil {
		return nil, err
	}
	s.auth = newAuthenticator(c.Registry, s.now)
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
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.running.Go(func() { s.keepKeys(ctx) })
	if s.fleet != nil {
		s.running.Go(func() { s.followRevocations(ctx) })
	}
	return s, nil
}

// tryToMint finds a TokenTTL that the keys do not allow before a user does.
func (s *Server) tryToMint() error {
	_, err := s.sealer.Create(claims.Claims{RoomIdentifier: s.config.Registry.Rooms[0], UserID: "nobody"})
	return err
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /CreateChatToken", s.createChatToken)
	mux.HandleFunc("POST /", s.unknownOperation)
	mux.HandleFunc("GET /", http.NotFound)
	mux.HandleFunc("GET /healthz", s.healthz)
	other := http.NotFoundHandler()
	if s.config.Join {
		mux.HandleFunc("POST /join", s.join)
		files, _ := fs.Sub(page, "page") // no error: the name is a valid path
		other = withPageHeaders(http.FileServerFS(files))
		mux.Handle("GET /chat.js", other)
		mux.Handle("GET /style.css", other)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if isUpgrade(r) {
			s.connect(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
	return mux
}

// withPageHeaders keeps the page to itself, whatever a message contains.
func withPageHeaders(h http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
		"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve accepts connections from l, with timeouts for slow ones, until
// [Server.Shutdown], and then returns http.ErrServerClosed. What it does not do
// is TLS: tokens are to travel encrypted, so l is a TLS listener, or something
// in front of it does that, unless all is on one machine.
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

// healthz says whether fresh tokens are accepted.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if why := s.unready(); why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ok\n"))
}

func (s *Server) unready() string {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	guard, ok := s.opener.Guard.(interface{ ReadyAt() time.Time })
	switch {
	case draining:
		return "shutting down"
	case ok && s.now().Before(guard.ReadyAt()):
		return "tokens may have been spent before the start"
	}
	return ""
}

// newRooms makes the rooms of these ARNs.
func newRooms(arns []string) map[string]*room {
	rooms := make(map[string]*room, len(arns))
	for _, arn := range arns {
		rooms[arn] = newRoom(arn)
	}
	return rooms
}

// Package ivschat is a chat server with the interface of Amazon IVS Chat, for
// development and tests: the SDKs of the service and its messaging client work
// with it as they are. Start with [New] and [Server.Serve]; a [Config] without
// fields has the rooms and credentials of a demonstration.
//
// # The API
//
// The operations are CreateChatToken; DisconnectUser, DeleteMessage and
// SendEvent; CreateRoom, GetRoom, ListRooms, UpdateRoom and DeleteRoom. They
// have the limits and errors of the service model of 2020-07-14, and requests
// have to be signed. Any other operation is unknown: ValidationException with
// UNKNOWN_OPERATION. This is not as with the service:
//
//   - Rooms are in memory: those of the [Registry], and those that CreateRoom
//     makes, as long as there are fewer than 1000. A host does not know what
//     was made or changed at another one, so the rooms of a fleet belong in its
//     registry. Tags are kept and shown, no more.
//   - Events reach the connections of the host that was asked.
//   - DisconnectUser and DeleteRoom hold on all hosts, and for tokens that were
//     minted before but not used yet.
//   - Nothing reviews messages: a room cannot have a messageReviewHandler.
//   - There are no logging configurations: one that a request names does not
//     exist.
//   - DeleteMessage and SendEvent have quotas, of 100 a second each, and in each
//     room DisconnectUser has one of 100 at once and then one a second. The
//     service has more quotas.
//   - A member that the request does not have is an error, so that a misspelt
//     one is not ignored.
//   - Temporary credentials and presigned requests are refused.
//   - ConflictException and InternalServerException do not occur.
//   - A client can renew its session on the connection: README.md has the
//     messages. One that does not ask for it never notices.
//
// # How a connection ends
//
// The messaging client connects again, with a fresh token, if an ERROR 401
// comes before the close frame, or if the connection breaks off. Any other
// close frame is final for it. So for each ending it matters what is sent:
//
//	session expired          ERROR 401, close 1008   comes back
//	server drains or stops   ERROR 401, close 1012   comes back, to another host
//	user disconnected        close 1008              stays away
//	room deleted             close 1008              stays away
//	token revoked elsewhere  close 1008              stays away
//	not text                 close 1003              stays away
//	message of over 64 KiB   close 1009              stays away
//	broken WebSocket frames  close 1002              stays away
//	floods the server        close 1008              stays away
//	does not keep up         nothing                 comes back
//	stalls within a message  nothing                 comes back
//	answers no ping          nothing                 comes back
//	server is killed         nothing                 comes back
//
// # What is where
//
// operations.go is what the API can do, with signed requests (sigv4.go), what
// may be in them (requests.go), rooms and credentials (catalog.go, registry.go)
// and the service's errors (errors.go). gateway.go lets a client in, client.go
// serves its connection, flood.go limits what it may send, endings.go says how
// it may end, and room.go knows who is in a room. Of the messages, messages.go
// is what a client may send, actions.go what then happens, renew.go an action
// that the service lacks, and frames.go what clients are sent. join.go is an
// application's side, and page a web page that uses it.
package ivschat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// Server is the chat server. It is made by [New] and ended by
// [Server.Shutdown]. It is an http.Handler, and safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger
	now    func() time.Time

	directory   directory
	quotas      map[string]*rate.Limiter // by operation
	keys        gateway.Keys
	guard       gateway.Guard
	sealer      token.Sealer
	gateway     *gateway.Gateway
	hub         hub
	crossOrigin *http.CrossOriginProtection
	counters    counters
	mux         *http.ServeMux
	http        http.Server
	stop        context.CancelFunc // ends the gateway's Run
	stopped     chan struct{}      // is closed when that has returned
}

// New makes a server and starts its regular work, which goes on until
// [Server.Shutdown].
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if c.MessageRate < 0 || c.MessageRate > maxMessageRate {
		return nil, fmt.Errorf("ivschat: Config.MessageRate is not 0 to %d", maxMessageRate)
	}
	s := &Server{config: c, log: c.Log, now: c.Now, quotas: newQuotas(), stopped: make(chan struct{})}
	if err := s.SetRegistry(c.Registry); err != nil {
		return nil, err
	}
	if err := s.makeKeys(); err != nil {
		return nil, err
	}
	var err error
	s.gateway, err = gateway.New(gateway.Config{
		Keys: s.keys, Guard: s.guard, Admit: s.admit, Observe: s.observe, Now: s.now,
		Origins: c.Origins, ForwardedProto: c.ForwardedProto,
		MaxLive: c.MaxConnections, MaxLivePerUser: c.MaxConnectionsPerUser,
	})
	if err != nil {
		return nil, err
	}
	s.sealer = token.Sealer{Ring: s.keys.Ring(), TTL: c.TokenTTL, Now: s.now}
	if err := s.sealer.Validate(); err != nil {
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
	s.run()
	return s, nil
}

// run starts the gateway's Run, and waits for its first tick: clients may not
// enter before that.
func (s *Server) run() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() {
		defer close(s.stopped)
		s.gateway.Run(ctx)
	}()
	for !s.gateway.Stats().Running {
		time.Sleep(time.Millisecond)
	}
}

// makeKeys completes what the operator has given of keys and guard.
func (s *Server) makeKeys() error {
	keys, guard := s.config.Keys, s.config.Guard
	if keys == nil {
		ring, err := keyring.New(s.now(), keyring.Config{Policy: s.config.policy()})
		if err != nil {
			return err
		}
		if keys, err = keyring.NewInMemory(ring); err != nil {
			return err
		}
	}
	if guard == nil {
		own, err := replay.New(replay.Config{
			Limits: keys.Ring().Limits(),
			// Keys that were made a moment ago have sealed nothing before.
			AcceptIssuedBeforeStart: s.config.Keys == nil,
			Now:                     s.now,
		})
		if err != nil {
			return err
		}
		guard, s.config.GuardStats = own, func() any { return own.Stats(s.now()) }
	}
	s.keys, s.guard = loggedKeys{keys, s.log}, guard
	return nil
}

// loggedKeys logs what becomes of the keys.
type loggedKeys struct {
	gateway.Keys
	log *slog.Logger
}

func (k loggedKeys) Refresh(ctx context.Context, now time.Time) (changed bool, err error) {
	changed, err = k.Keys.Refresh(ctx, now)
	switch {
	case err != nil:
		k.log.Error("keys not updated", "error", err, "ring", k.Ring())
	case changed:
		k.log.Info("keys changed", "ring", k.Ring())
	}
	return changed, err
}

// Serve accepts connections from l, with timeouts for slow ones, until
// [Server.Shutdown], and then returns http.ErrServerClosed. It does not
// encrypt, and tokens should not travel in clear: l should be a TLS listener,
// or behind a proxy that does TLS, unless all is on one machine.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown ends the server so that the messaging clients go to another host. At
// once it lets nobody in, and /healthz says so. It waits for notice, so that a
// load balancer sees that, while the operations of the API go on. Then it
// listens no more, and ends the connections, spread over the duration over. If
// ctx ends before that is done, the rest is cut off, and the error is that of
// ctx.
func (s *Server) Shutdown(ctx context.Context, notice, over time.Duration) error {
	closed := make(chan error, 1)
	go func() {
		select {
		case <-time.After(notice):
		case <-ctx.Done():
		}
		closed <- s.http.Shutdown(ctx)
	}()
	err := s.gateway.Drain(ctx, notice, over)
	s.stop()
	<-s.stopped
	s.hub.each(func(c *client) { c.drop() }) // who has not left in time
	if err = errors.Join(err, <-closed); err != nil {
		s.http.Close()
	}
	return err
}

// Package ivschat is a chat server with the API and the messaging of Amazon IVS
// Chat, for development and tests. The service's SDKs and its messaging client
// work with it unchanged. Call [New] and [Server.Serve]. The zero [Config] has
// the rooms and credentials of a demonstration.
//
// # The API
//
// The operations are CreateChatToken; DisconnectUser, DeleteMessage and
// SendEvent; CreateRoom, GetRoom, ListRooms, UpdateRoom and DeleteRoom. They
// have the limits and errors of the service model of 2020-07-14. Requests must
// be signed. Any other operation gets a ValidationException with
// UNKNOWN_OPERATION. Unlike the service:
//
//   - Rooms are in memory: those of the [Registry], and those from CreateRoom,
//     up to 1000 in all. A host doesn't know what another host made or changed,
//     so a fleet's rooms belong in its registry. Tags are kept and shown, no
//     more.
//   - Events reach only the connections of the host that got the request.
//   - DisconnectUser and DeleteRoom hold on all hosts. They also revoke unused
//     tokens.
//   - A room can't have a messageReviewHandler, because nothing would review
//     messages.
//   - There are no logging configurations. A request that names one gets an
//     error.
//   - Only three operations have quotas: DeleteMessage and SendEvent 100 a
//     second each; DisconnectUser in each room 100 at once, then one a second.
//   - An unknown member is an error, so a misspelt one isn't ignored.
//   - Temporary credentials and presigned requests are refused.
//   - There is no ConflictException and no InternalServerException.
//   - A client can renew its session on the connection: README.md has the
//     messages. Other clients never notice.
//
// # How a connection ends
//
// The messaging client connects again, with a fresh token, after an ERROR 401
// before the close frame, or if the connection breaks off. After any other
// close frame it stays away. The server sends:
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
// The API: operations.go has the operations, sigv4.go the signatures,
// requests.go the bodies, catalog.go and registry.go the rooms and credentials,
// errors.go the errors. A connection: gateway.go lets a client in, client.go
// serves it, flood.go limits it, endings.go ends it, room.go knows who is in a
// room. Messages: messages.go reads what clients send, actions.go does it,
// renew.go is an action that the service lacks, frames.go has what the server
// sends. join.go is an application's side, and page a web page that uses it.
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

// Server is the chat server. [New] makes it and [Server.Shutdown] ends it. It
// is an [http.Handler], and safe for concurrent use.
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
	stopped     chan struct{}      // closed when Run has returned
}

// New makes a server and starts its regular work. Call [Server.Shutdown] to end
// that.
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

// run starts the gateway's Run and waits for its first tick. No client may
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

// makeKeys makes the keys and the guard that the operator left out.
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
			// New keys have sealed nothing yet, so no older token
			// needs refusing.
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

// loggedKeys logs changes of the keys.
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

// Serve accepts connections from l until [Server.Shutdown], and then returns
// [http.ErrServerClosed]. It has timeouts for slow clients. It doesn't encrypt:
// unless all is on one machine, l must be a TLS listener, or behind a proxy
// that does TLS, or tokens travel in clear.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown ends the server so that the messaging clients go to another host. At
// once it refuses new clients, and /healthz says so. It waits for notice, so
// that load balancers see that. The API goes on meanwhile. Then it stops
// listening, and ends the connections, spread over the duration over. If ctx
// ends first, Shutdown cuts the rest off and returns the error of ctx.
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
	s.hub.each(func(c *client) { c.drop() }) // whoever hasn't left in time
	if err = errors.Join(err, <-closed); err != nil {
		s.http.Close()
	}
	return err
}

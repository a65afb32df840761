// Package gateway is the front door of a chat gateway. It takes a token from an
// HTTP request, lets its user in, and ends the connection when the session
// expires or is revoked. A token works once. Call [New], keep [Gateway.Run]
// running, and mount one of these:
//
//	Handler      for programs, which see the HTTP status of a refusal
//	Accept       for browsers, which see a close code only
//	EnterStream  for server-sent events
//	Enter        if the connection outlives the handler
//
// It works with any WebSocket library. With github.com/gorilla/websocket:
//
//	g, err := gateway.New(gateway.Config{Keys: keys, Guard: guard})
//	go g.Run(context.Background())
//	http.Handle("/chat", g.Handler(func(w http.ResponseWriter, r *http.Request, p *gateway.Participant) {
//		conn, err := upgrader.Upgrade(w, r, w.Header())
//		if err != nil {
//			return
//		}
//		defer conn.Close()
//		p.OnEnd(func(cause error) { go closeWith(conn, cause) }) // by CloseFrame
//		for {
//			_, message, err := conn.ReadMessage()
//			if err != nil || p.Authorize(claims.SendMessage) != nil {
//				return
//			}
//			...
//		}
//	}))
//
// The checks run in this order, so a bad request doesn't spend its token: the
// WebSocket handshake, the Origin, whether the gateway is up, draining or full,
// and that there is one token. Then come those of [token.Opener.Open], with the
// room of the address and Config.Admit. Last, the gateway registers the
// participant and asks the guard once more, for what was revoked meanwhile.
//
// # What your program does
//
//   - Upgrade with w.Header(), which has the subprotocol to echo. Turn the
//     library's own check of the Origin off. Close the connection in OnEnd with
//     what [CloseFrame] returns.
//   - Call Authorize before whatever the user does.
//   - Call Leave when the connection is gone. Handler and Accept do that.
//   - Let a health check ask Ready.
//   - Stop in this order: Drain, http.Server.Shutdown, and only then end the
//     context of Run.
//   - Limit the size and the number of messages, and of connections that have
//     not sent a request yet.
//
// # It fails closed
//
// Nobody enters unless [Gateway.Run] runs. When it returns, it ends every
// participant. If it stalls for ten seconds, nobody enters until it goes on.
//
// # Time
//
// Deadlines are wall-clock times by Config.Now. The gateway compares them once
// a second, so a participant ends up to a second late. [Participant.Authorize]
// is exact. If somebody sets the clock, the deadlines follow it.
package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// Keys provides the ring and keeps it up to date. [*keyring.Follower] and
// [*keyring.InMemory] are Keys.
type Keys interface {
	Ring() *keyring.Ring // always the same one
	Refresh(ctx context.Context, now time.Time) (changed bool, err error)
	Health(now time.Time) error
}

// Guard spends tokens and revokes. *replay.Guard, *valkey.Guard and *etcd.Guard
// implement it, so another guard is another call of New.
type Guard interface {
	token.Guard

	// Revoke returns nil once no gateway lets such a token in. After an
	// error, repeat the call.
	Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error

	// Sync learns what others revoked. It calls news for each revocation
	// that took effect here since the last call, at least once, on the
	// caller's goroutine.
	Sync(ctx context.Context, news func(token.Target, time.Time)) error

	ReadyAt() time.Time // it accepts tokens issued from then on
	Synced() time.Time  // what others revoked is known up to then
}

// Config is what the embedder decides. Keys and Guard are required. The zero
// value of every other field is a safe default. [New] copies it.
type Config struct {
	Keys Keys

	// Guard is this gateway's alone. Its Sync tells each revocation to one
	// caller, so a second gateway would miss some. Several addresses in one
	// process share the gateway. A type that wraps a guard must pass its
	// method Limits on, or New can't notice limits below the ring's.
	Guard Guard

	// Sources are the places where a token may be. Nil means
	// Subprotocol(""), the token as the only WebSocket subprotocol. The
	// gateway looks at all of them, and refuses a request with two tokens.
	Sources []Source

	// Origins are the origins from whose pages a browser may connect, such
	// as "https://chat.example.com": scheme, host, and the port unless it
	// is the scheme's own. Nil means the origin of the request itself: its
	// Host, and https if it came over TLS. A request without an Origin
	// isn't from a page, and passes.
	Origins []string

	// ForwardedProto is the header in which a trusted proxy passes the
	// scheme of the request: http, https, ws or wss. It is usually
	// "X-Forwarded-Proto". Set it only if the proxy replaces what a client
	// sent. It matters only if Origins is nil.
	ForwardedProto string

	// ExtendedConnect accepts WebSockets over HTTP/2 (RFC 8441). Few
	// WebSocket libraries support that.
	ExtendedConnect bool

	// Room returns the identifier of the room that the request's address
	// names. The gateway refuses a token for another room, and every token
	// if it returns "". Nil means that addresses name no rooms, so the
	// session says which.
	Room func(*http.Request) string

	// Admit is the embedder's own rule, as in [token.Opener]. It may return
	// a [*Refusal], which says how to answer.
	Admit func(ctx context.Context, now time.Time, s token.Summary) error

	// MaxLive is how many participants there may be at a time. Zero means a
	// million. Above a few thousand, the gateway may be full at 98 percent
	// of it, so that processors don't wait for one another.
	MaxLive int

	// MaxLivePerUser is how many of them one user may have. Zero means no
	// limit.
	MaxLivePerUser int

	// Observe is called for every decision and every end, for metrics and
	// logs. Calls may be concurrent, on the goroutine that decides, and
	// must not block. The gateway recovers from a panic.
	Observe func(Event)

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

const defaultMaxLive = 1_000_000

var (
	errKeys    = errors.New("gateway: Config.Keys or its Ring is nil")
	errGuard   = errors.New("gateway: Config.Guard is nil")
	errMaxLive = errors.New("gateway: Config.MaxLive or MaxLivePerUser is negative")
)

// Gateway lets users in and ends their connections. [New] makes it. It is safe
// for concurrent use.
type Gateway struct {
	config  Config
	opener  token.Opener
	origins []origin
	reg     *registry
	visits  sync.Pool // of *visit
	start   time.Time // of the monotonic clock
	state   state
	unsent  unsent
	counts  counts
}

// state is whether anybody may enter.
type state struct {
	beat     atomic.Int64 // when Run last ticked, by Gateway.uptime; 0 if it does not run
	synced   atomic.Int64 // when the guard's Sync last returned
	running  atomic.Bool
	draining atomic.Bool
}

// New makes a gateway. It fails if c can't work: no Keys or Guard, an invalid
// Source, an origin that no browser sends, a negative limit, or a guard whose
// limits are below the ring's.
func New(c Config) (*Gateway, error) {
	now := c.Now
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxLive == 0 {
		c.MaxLive = defaultMaxLive
	}
	if len(c.Sources) == 0 {
		c.Sources = []Source{Subprotocol("")}
	}
	c.Sources, c.Origins = slices.Clone(c.Sources), slices.Clone(c.Origins)
	origins, err := parseOrigins(c.Origins)
	switch {
	case err != nil:
		return nil, err
	case c.Keys == nil || c.Keys.Ring() == nil:
		return nil, errKeys
	case c.Guard == nil:
		return nil, errGuard
	case c.MaxLive < 0 || c.MaxLivePerUser < 0:
		return nil, errMaxLive
	}
	if err := checkSources(c.Sources); err != nil {
		return nil, err
	}
	g := &Gateway{config: c, origins: origins, reg: newRegistry(c.MaxLive, c.Now()), start: time.Now()}
	g.visits.New = g.newVisit
	g.counts.refreshedAt = c.Now()
	g.opener = token.Opener{Ring: c.Keys.Ring(), Guard: c.Guard, Now: now}
	if err := g.opener.Validate(); err != nil {
		return nil, err
	}
	return g, nil
}

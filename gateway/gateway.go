// Package gateway is the front door of a chat gateway. It takes the token of an
// HTTP request, the one-time ticket for a WebSocket, lets its user in, and ends
// the connection when the session is over or revoked. Call [New], keep
// [Gateway.Run] running, and mount one of these:
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
// A request is judged in this order, and what can be refused without the token
// is refused before the token is spent: the WebSocket handshake, the Origin,
// whether the gateway is up, draining or full, the one place where the token
// is, and then all checks of token.Opener.Open with the room that the address
// names and the embedder's own rule. Then the participant is registered, and
// the guard is asked once more, for what was revoked meanwhile.
//
// # What your program does
//
//   - Upgrade with w.Header(), which has the subprotocol to echo, and with the
//     library's own check of the Origin off; close the connection in OnEnd with
//     what [CloseFrame] says.
//   - Call Authorize before whatever the user does.
//   - Call Leave when the connection is gone; Handler and Accept do that.
//   - Let a health check ask Ready.
//   - Stop in this order: Drain, http.Server.Shutdown, and only then end the
//     context of Run.
//   - Limit the size and the number of messages, and of connections that have
//     not sent a request yet.
//
// # It fails closed
//
// Nobody enters unless [Gateway.Run] runs. When it returns, every participant
// is ended. If it stands still for ten seconds, nobody enters until it goes on.
//
// # Time
//
// Deadlines are times of day by Config.Now. They are compared once a second, so
// a participant is ended up to a second late; [Participant.Authorize] is exact.
// If the clock is set, the deadlines hold by the new time.
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

// Keys is where the ring comes from, and what keeps it up to date. A
// *keyring.Follower is one, and a *keyring.InMemory.
type Keys interface {
	Ring() *keyring.Ring // the same one at all times
	Refresh(ctx context.Context, now time.Time) (changed bool, err error)
	Health(now time.Time) error
}

// Guard spends tokens and revokes. A *replay.Guard, a *valkey.Guard and an
// *etcd.Guard are such: going from one to the other changes the call of New.
type Guard interface {
	token.Guard

	// Revoke returns nil when no gateway lets such a token in any more. After
	// an error the call is to be repeated.
	Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error

	// Sync learns what others revoked, and hands over all that came into force
	// here since the last call, at least once and on the caller's goroutine.
	Sync(ctx context.Context, news func(token.Target, time.Time)) error

	ReadyAt() time.Time // tokens issued from then on are accepted
	Synced() time.Time  // up to when this process knows what others revoked
}

// Config is what the embedder decides. Keys and Guard must be set; the zero
// value of each other field is a safe default. It is copied by [New].
type Config struct {
	Keys Keys

	// Guard is this gateway's alone: what others revoked is told to one caller
	// of its Sync, so a second gateway would not end those whom it concerns.
	// Several addresses in one process share the gateway. A type that wraps a
	// guard has to pass its method Limits on, or nobody notices limits below
	// the ring's.
	Guard Guard

	// Sources are the places where a token may be; nil means Subprotocol(""),
	// the token as the only WebSocket subprotocol. All are looked at, and a
	// request with two tokens is refused.
	Sources []Source

	// Origins are the origins from whose pages a browser may connect, such as
	// "https://chat.example.com": scheme, host, and the port unless it is the
	// scheme's own. Nil means the origin of the request itself: its Host, and
	// https if it came over TLS. Requests without an Origin do not come from a
	// page and pass.
	Origins []string

	// ForwardedProto is the header in which a trusted proxy says by which
	// scheme the request came, usually "X-Forwarded-Proto": http or https, or
	// ws or wss. Set it only if the proxy replaces what a client sent. It
	// matters only if Origins is nil.
	ForwardedProto string

	// ExtendedConnect accepts WebSockets over HTTP/2 (RFC 8441). Few WebSocket
	// libraries can upgrade them.
	ExtendedConnect bool

	// Room returns the identifier of the room that the request's address names;
	// a token for another room is refused, and "" refuses every token. Nil
	// means that addresses name no rooms: the participant's room is the
	// session's.
	Room func(*http.Request) string

	// Admit is the embedder's own rule, as in token.Opener. It may return a
	// [*Refusal] to say how its user is refused.
	Admit func(ctx context.Context, now time.Time, s token.Summary) error

	// MaxLive is how many participants there may be at a time; zero means a
	// million. Above a few thousand, up to one in fifty may be refused early,
	// so that processors do not wait for one another.
	MaxLive int

	// MaxLivePerUser is how many of them may be one user's; zero means no
	// limit.
	MaxLivePerUser int

	// Observe is told of every decision and every ending, for metrics and logs.
	// It runs in the caller's place, several at a time, and must not block. If
	// it panics, that goes no further.
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

// Gateway lets users in and ends their stay. It is made by [New] and safe for
// concurrent use.
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
	beat     atomic.Int64 // when Run last ticked, by Gateway.uptime; 0 for never or no more
	synced   atomic.Int64 // when the guard's Sync last returned
	running  atomic.Bool
	draining atomic.Bool
}

// New makes a gateway. The error says what in c cannot work: an origin that no
// browser sends, or a guard whose limits are below the ring's.
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

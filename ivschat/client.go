package ivschat

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// maxFrame is the longest frame that is taken for a message, in bytes. It
	// holds every valid message, with each character written as an escape.
	maxFrame = 16 << 10

	// maxDiscard is the longest frame that is read at all, to say that it is
	// too long. After a longer one the connection is closed.
	maxDiscard = 4 * maxFrame

	// queueLen is how many frames may wait for a client. One that does not keep
	// up is dropped.
	queueLen = 64

	writeTimeout = 10 * time.Second
	pingEvery    = 30 * time.Second
	pongTimeout  = 20 * time.Second
)

// ending is how the server ends a connection: a last frame, if any, and then
// the close frame.
type ending struct {
	code    int // of an ERROR frame; 0 is none
	message string

	status websocket.StatusCode
	reason string
}

// After an ERROR 401 the chat client connects again with a fresh token; without
// one, a close that is clean is final for it.
var (
	sessionExpired = ending{401, "session expired", websocket.StatusPolicyViolation, "session expired"}
	disconnected   = ending{0, "", websocket.StatusPolicyViolation, "disconnected"}
	goingAway      = ending{0, "", websocket.StatusGoingAway, "server shutting down"}
	notText        = ending{0, "", websocket.StatusUnsupportedData, "messages are text"}
)

// client is a connection to a room. Two goroutines serve it: one reads, one
// writes, and what there is to write waits in a queue. It keeps the claims of
// its token and frames that are shared with others, and no more.
type client struct {
	server  *Server
	room    *room
	conn    *websocket.Conn // set before run
	session *token.Session
	user    string
	sender  json.RawMessage // the token's user ID and attributes, as others see them
	limit   *rate.Limiter

	queue  chan []byte
	ending chan ending
	ended  atomic.Bool // from then on, no message is accepted and no frame is queued

	ctx  context.Context
	drop context.CancelFunc // ends the connection without another word
}

// newClient makes the client of a session. It has no connection yet; what it is
// sent waits in the queue.
func (s *Server) newClient(session *token.Session) *client {
	c := &client{
		server:  s,
		room:    s.rooms[string(session.RoomIdentifier())],
		session: session,
		user:    string(session.UserID()),
		sender:  encodeSender(session),
		limit:   rate.NewLimiter(rate.Limit(s.config.MessageRate), s.config.MessageRate),
		queue:   make(chan []byte, queueLen),
		ending:  make(chan ending, 1),
	}
	c.ctx, c.drop = context.WithCancel(context.Background())
	return c
}

// run serves the connection until it ends.
func (c *client) run() {
	defer c.server.release()
	defer c.room.leave(c)
	c.conn.SetReadLimit(maxDiscard)
	var writing sync.WaitGroup
	writing.Go(c.write)
	c.read()
	c.drop()
	writing.Wait()
	c.conn.CloseNow()
	c.server.log.Debug("session closed", "session", c.session)
}

// askAgain ends a connection that was revoked, or whose server was shut down, while
// its token was being opened. Whoever did that did not find the client in the room
// then. It is there by now, so what comes later finds it.
func (c *client) askAgain() {
	if c.isRevoked() {
		c.end(disconnected)
	}
	if c.server.isDraining() {
		c.end(goingAway)
	}
}

// end ends the connection after what is queued was written. It does not wait;
// of several calls the first one counts.
func (c *client) end(e ending) {
	if c.ended.CompareAndSwap(false, true) {
		c.ending <- e
	}
}

// enqueue hands a frame to the writer, which does not change it. A client whose
// queue is full is dropped: to wait for it would hold up the room. One that is
// being closed gets nothing more.
func (c *client) enqueue(frame []byte) {
	if c.ended.Load() {
		return
	}
	select {
	case c.queue <- frame:
	default:
		if c.ctx.Err() == nil {
			c.server.counters.slow.Add(1)
		}
		c.drop()
	}
}

// write writes what is queued, and sees to it that the session ends in time and
// that a peer is still there.
func (c *client) write() {
	defer c.drop()
	expiry := time.NewTimer(c.expire())
	defer expiry.Stop()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case frame := <-c.queue:
			if !c.send(c.ctx, frame) {
				return
			}
		case e := <-c.ending:
			c.finish(e)
			return
		case <-expiry.C:
			expiry.Reset(c.expire())
		case <-ping.C:
			expiry.Reset(c.expire()) // timers stand still while the machine sleeps
			go c.ping()
		case <-c.ctx.Done():
			return
		}
	}
}

// send writes a frame. Where that takes too long, the connection is closed.
func (c *client) send(ctx context.Context, frame []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, frame) == nil
}

// finish writes what was queued before the end, and the end. The reader goes on
// meanwhile, for it is what receives the client's close frame.
func (c *client) finish(e ending) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	for range len(c.queue) {
		if !c.send(ctx, <-c.queue) {
			return
		}
	}
	if e.code != 0 && !c.send(ctx, encodeError(e.code, e.message, "")) {
		return
	}
	c.conn.Close(e.status, e.reason)
}

// buffers lends memory to read into, so that a silent connection holds none.
var buffers = sync.Pool{New: func() any { return new([maxFrame + 1]byte) }}

// read reads messages until the connection ends.
func (c *client) read() {
	for {
		kind, r, err := c.conn.Reader(c.ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.end(notText)
		}
		if !c.receive(r) {
			return
		}
	}
}

// receive reads one message and does what it asks for. It reports whether the
// connection is still there.
func (c *client) receive(r io.Reader) bool {
	buf := buffers.Get().(*[maxFrame + 1]byte)
	defer buffers.Put(buf)
	n, err := io.ReadFull(r, buf[:])
	if err == nil { // more than maxFrame
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false
	}
	if !c.ended.Load() {
		c.handle(buf[:n])
	}
	return true
}

// pinged is called for a ping from the client, and reports whether to answer. Pings
// count as messages, and wait where there are too many: with no limit, a client could
// keep a processor busy with pongs.
func (c *client) pinged(ctx context.Context, _ []byte) bool { return c.limit.Wait(ctx) == nil }

// ponged is called for a pong from the client. Those that nobody asked for are no
// cheaper than pings.
func (c *client) ponged(ctx context.Context, _ []byte) { _ = c.limit.Wait(ctx) }

// refuse tells the client that a request failed.
func (c *client) refuse(code int, message, requestID string) {
	c.server.counters.errors.Add(1)
	c.enqueue(encodeError(code, message, requestID))
}

// expire ends the session if it is over, and otherwise returns for how long it has to
// wait before it is called again. A timer counts the seconds that go by, but the
// deadline is a time of day: where the clock is set, they differ.
func (c *client) expire() time.Duration {
	now := c.server.now()
	if c.session.Expired(now) {
		c.end(sessionExpired)
		return time.Hour // nothing more to wait for
	}
	return c.session.SessionExpiration().Sub(now)
}

// ping drops the connection if the peer does not answer.
func (c *client) ping() {
	ctx, cancel := context.WithTimeout(c.ctx, pongTimeout)
	defer cancel()
	if c.conn.Ping(ctx) != nil && !c.ended.Load() { // one that is being closed answers no more
		c.drop()
	}
}

package ivschat

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/seed17cb2b26/chattoken/gateway"
)

const (
	// maxFrame is the longest message, in bytes. Every valid message fits,
	// even with each character escaped.
	maxFrame = 16 << 10

	// maxDiscard is the longest message that gets an answer saying that it
	// is too long. A longer one ends the connection.
	maxDiscard = 4 * maxFrame

	// queueLen is how many frames may wait for a client. A slower client is
	// dropped.
	queueLen = 64

	// readTimeout is how long a message may take from its first frame on.
	// Meanwhile it holds a buffer.
	readTimeout = 10 * time.Second

	writeTimeout = 10 * time.Second
	pingEvery    = 30 * time.Second
	pongTimeout  = 20 * time.Second
)

// client is a connection to a room. One goroutine reads. Another writes what
// waits in a queue.
type client struct {
	server *Server
	p      *gateway.Participant
	room   *room
	conn   *websocket.Conn // set before run
	below  net.Conn        // what conn reads from
	user   string
	sender json.RawMessage // the token's user ID and attributes, as others see them
	limit  *rate.Limiter

	queue  chan []byte
	ending chan ending
	ended  atomic.Bool // then it accepts no message and queues no frame
	cause  error       // why the gateway ended the participant; under the room's lock

	ctx  context.Context
	drop context.CancelFunc // ends the connection without another word
}

// newClient makes the client of a participant and takes it into the room. It
// has no connection yet, so its frames wait in the queue.
func (s *Server) newClient(p *gateway.Participant) *client {
	session := p.Session()
	c := &client{
		server: s,
		p:      p,
		user:   string(session.UserID()),
		sender: encodeSender(session),
		limit:  rate.NewLimiter(rate.Limit(s.config.MessageRate), s.config.MessageRate),
		queue:  make(chan []byte, queueLen),
		ending: make(chan ending, 1),
	}
	c.ctx, c.drop = context.WithCancel(context.Background())
	c.room = s.hub.join(string(session.RoomIdentifier()), c)
	return c
}

// run serves the connection until it ends. A panic ends only this one.
func (c *client) run() {
	defer c.leave()
	var writing sync.WaitGroup
	writing.Go(c.write)
	defer writing.Wait()
	defer c.drop()
	defer func() {
		if e := recover(); e != nil {
			c.server.log.Error("panic", "error", e, "stack", string(debug.Stack()))
		}
	}()
	c.conn.SetReadLimit(maxDiscard)
	c.read()
	if !c.ended.Load() {
		c.close(websocket.StatusProtocolError, "") // unless one of the two has closed
	}
}

// leave gives the place back, however far the client came.
func (c *client) leave() {
	c.drop()
	if c.conn != nil {
		c.conn.CloseNow()
	}
	c.room.leave(c)
	if _, ok := c.server.settings(c.room.arn); !ok {
		c.server.hub.forget(c.room.arn)
	}
	c.server.log.Debug("session closed", "session", c.p.Session())
	c.p.Leave()
}

// end ends the connection once the queue is written, or at once if the ending
// has no close frame. It doesn't wait. Only the first call counts.
func (c *client) end(e ending) {
	switch {
	case !c.isFirst(e):
	case e.status == 0:
		c.drop()
	default:
		c.ending <- e
	}
}

// isFirst counts the first ending, and reports whether e is it.
func (c *client) isFirst(e ending) bool {
	first := c.ended.CompareAndSwap(false, true)
	if first {
		c.server.counters.ended.Add(e.word, 1)
	}
	return first
}

// enqueue hands a frame to the writer, which doesn't change it. It drops a
// client whose queue is full, because waiting would hold up the room. A client
// that is ending gets nothing more.
func (c *client) enqueue(frame []byte) {
	if c.ended.Load() {
		return
	}
	select {
	case c.queue <- frame:
	default:
		c.end(slow)
	}
}

// write writes the queue, and pings the peer.
func (c *client) write() {
	defer c.drop()
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
		case <-ping.C:
			go c.ping()
		case <-c.ctx.Done():
			return
		}
	}
}

// send writes a frame. If that takes too long, the library closes the
// connection.
func (c *client) send(ctx context.Context, frame []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := c.conn.Write(ctx, websocket.MessageText, frame)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		c.end(slow)
	}
	return err == nil
}

// finish writes the rest of the queue, then the close frame. The reader goes on
// meanwhile, because it receives the client's close frame.
func (c *client) finish(e ending) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	for range len(c.queue) {
		if !c.send(ctx, <-c.queue) {
			return
		}
	}
	if last := e.last(); last != nil && !c.send(ctx, last) {
		return
	}
	c.close(e.status, e.reason)
}

// close writes a close frame and waits for the client's. The library waits
// forever if the client stops within a frame.
func (c *client) close(status websocket.StatusCode, reason string) {
	timer := time.AfterFunc(writeTimeout, func() { c.below.Close() })
	defer timer.Stop()
	c.conn.Close(status, reason)
}

// buffers are lent for one read, so a silent connection holds none.
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

// receive reads one message and does what it asks. It reports whether the
// connection is still there.
func (c *client) receive(r io.Reader) bool {
	timer := time.AfterFunc(readTimeout, func() { c.end(stalled) })
	buf := buffers.Get().(*[maxFrame + 1]byte)
	defer buffers.Put(buf)
	n, err := io.ReadFull(r, buf[:])
	if err == nil { // more than maxFrame
		_, err = io.Copy(io.Discard, r)
	}
	timer.Stop()
	if errors.Is(err, websocket.ErrMessageTooBig) {
		c.isFirst(oversized) // the library closes
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false
	}
	if !c.ended.Load() {
		c.handle(buf[:n])
	}
	return true
}

// pinged is called for a ping from the client, and reports whether to answer.
// Pings count as messages, and wait when there are too many. Otherwise a client
// could keep a processor busy with pongs.
func (c *client) pinged(ctx context.Context, _ []byte) bool { return c.limit.Wait(ctx) == nil }

// ponged is called for a pong from the client. Unasked pongs cost as much as
// pings.
func (c *client) ponged(ctx context.Context, _ []byte) { _ = c.limit.Wait(ctx) }

// refuse tells the client that a request failed.
func (c *client) refuse(code int, message, requestID string) {
	c.server.counters.errors.Add(1)
	c.enqueue(encodeError(code, message, requestID))
}

// ping drops the connection if the peer doesn't answer.
func (c *client) ping() {
	ctx, cancel := context.WithTimeout(c.ctx, pongTimeout)
	defer cancel()
	if c.conn.Ping(ctx) != nil && c.ctx.Err() == nil {
		c.end(gone) // unless it is being closed and answers no more
	}
}

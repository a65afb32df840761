package valkey

import (
	"context"
	"crypto/rand"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// workers is how many pipelines of a server are under way at a time: while
	// one is on its way, the next one fills.
	workers = 2

	// batch is how many requests travel in one pipeline. More add latency and
	// nothing else.
	batch = 128

	// Between attempts the pause doubles from the first to the second of these.
	minPause, maxPause = 5 * time.Millisecond, 160 * time.Millisecond

	// tooLongPause is one that no request has the time for: there is no other
	// attempt.
	tooLongPause = time.Hour

	// margin is for how long the server remembers a token after it has expired.
	// It is the same for all gateways: one that lets tokens in for longer than
	// another has them remembered would let one in twice. Half of it is how far
	// apart the clocks of servers and gateways may be, whatever ClockSkew says.
	margin = time.Minute

	// Limits of the format, which keyring.Policy has, too.
	defaultSkew, maxSkew = 5 * time.Second, time.Minute
)

// Spend reports whether the token is fresh, and from then on it is not, on any
// gateway. The error is token.ErrRevoked or token.ErrAllRevoked, or says why the guard
// could not tell. now is the time at which the token was found not to be expired yet.
// Spend waits for Config.Timeout at most and not longer than ctx. It makes one
// allocation of its own, and retains nothing of s.
func (g *Guard) Spend(ctx context.Context, now time.Time, s token.Summary) (fresh bool, err error) {
	if !g.made() {
		return false, ErrClosed
	}
	fresh, err = g.spend(ctx, now, s)
	g.count.add(fresh, err)
	return fresh, err
}

func (g *Guard) spend(ctx context.Context, now time.Time, s token.Summary) (bool, error) {
	if err := g.revoked.Revoked(s); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, ErrCanceled
	}
	r, err := g.request(now, s)
	if err != nil {
		return false, err
	}
	g.route(r)
	if err := g.wait(ctx, r); err != nil {
		return false, err // a worker may still use r, so it is not put back
	}
	fresh, err := r.fresh, r.err
	g.requests.Put(r)
	if fresh {
		err = g.revoked.Revoked(s) // the round trip may have told of it
	}
	return fresh && err == nil, err
}

// request returns a request for a token, or why there is to be none.
func (g *Guard) request(now time.Time, s token.Summary) (*request, error) {
	if g.waiting.Add(1) > int64(g.config.MaxWaiting) {
		g.waiting.Add(-1)
		return nil, ErrBusy
	}
	r, top := g.requests.Get().(*request), g.topology.Load()
	r.reset(g.config.Prefix, top, now, s)
	own := clockOf(g.config.Now())
	if err := r.ruling(top.marks[r.slot], own, own); err != nil {
		g.waiting.Add(-1)
		g.requests.Put(r)
		return nil, err
	}
	return r, nil
}

// wait waits until r is answered. An error says why it gave up before.
func (g *Guard) wait(ctx context.Context, r *request) (err error) {
	r.timer.Reset(g.config.Timeout)
	defer r.timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-r.timer.C:
		err = r.because(errTimeout)
	case <-ctx.Done():
		err = ErrCanceled
	case <-g.closed:
		err = ErrClosed
	}
	if r.state.CompareAndSwap(isWaiting, isLeft) {
		return err
	}
	<-r.done // answered at the last moment
	return nil
}

// answer ends a request that a worker holds.
func (g *Guard) answer(r *request, fresh bool, err error) {
	r.fresh, r.err = fresh, err
	g.waiting.Add(-1)
	if r.state.CompareAndSwap(isWaiting, isAnswered) {
		r.done <- struct{}{}
	}
}

// request is one call of Spend. The caller and a worker share it. When the worker has
// answered it, it is the caller's alone; when the caller has left it, it is the
// worker's.
type request struct {
	token  token.Summary // without what was lent
	text   string        // the name of the key, and then its value
	keyLen int           // the length of the name
	slot   uint16
	now    clock     // by the clock of the caller
	start  time.Time // when the call began, by the clock of this process
	px     int64     // the shortest life of all attempts, in milliseconds

	state  atomic.Uint32
	failed atomic.Pointer[error] // the error of the latest attempt
	done   chan struct{}         // receives once, when a worker has answered
	fresh  bool
	err    error

	// These serve later calls as well.
	timer *time.Timer
	buf   []byte
}

// The states of a request.
const (
	isWaiting uint32 = iota
	isAnswered
	isLeft // by the caller, which will not look at it again
)

// valueSize is the length of the value that names a call. It is as random as a
// token ID and drawn for each call: one call must not take another's attempt for
// its own, even if a virtual machine was restored in between.
const valueSize = 16

func newRequest() *request {
	r := &request{timer: time.NewTimer(time.Hour), done: make(chan struct{}, 1)}
	r.timer.Stop()
	return r
}

// reset makes r the request of a new call.
func (r *request) reset(prefix string, top *topology, now time.Time, s token.Summary) {
	s.RoomIdentifier, s.UserID = nil, nil
	r.token = s
	r.buf = append(r.buf[:0], prefix...)
	r.buf = append(r.buf, s.TokenID[:]...)
	r.keyLen = len(r.buf)
	r.slot = top.slot(r.buf)
	var value [valueSize]byte
	r.buf = append(r.buf, value[:]...)
	rand.Read(r.buf[r.keyLen:])
	r.text = string(r.buf)
	r.now, r.start = clockOf(now), time.Now()
	r.px = math.MaxInt64
	r.state.Store(isWaiting)
	r.failed.Store(nil)
	r.fresh, r.err = false, nil
}

// key returns the name of the key.
func (r *request) key() string { return r.text[:r.keyLen] }

// value returns what the key is set to.
func (r *request) value() string { return r.text[r.keyLen:] }

// add adds the SET of one more attempt.
func (r *request) add(p *pipeline) {
	px := life(clockOf(r.token.Expiration), r.now, time.Since(r.start), margin)
	r.px = min(r.px, px)
	p.add("SET", r.key(), r.value(), "NX", "GET", "PX", strconv.FormatInt(px, 10))
}

// ruling returns the error for the token by the mark of its slot and the clocks.
func (r *request) ruling(mark, own, server clock) error {
	switch judgeSpend(&r.token, mark, own, server) {
	case beforeMark:
		return ErrDataLost
	case ahead:
		if !r.token.IssuedBefore(own.time()) {
			return errTokenAhead
		}
		return errServerBehind
	}
	return nil
}

// because returns the error for r when it is given up with err. That the time was up
// says less than the error of an earlier attempt.
func (r *request) because(err error) error {
	if earlier := r.failed.Load(); err == errTimeout && earlier != nil {
		return *earlier
	}
	return err
}

// over reports whether another attempt that begins in d would be of no use to r.
func (r *request) over(timeout, d time.Duration) bool {
	return r.state.Load() == isLeft || time.Since(r.start)+d >= timeout
}

// worker sends the requests of a node, as many at a time as are waiting.
type worker struct {
	n        *node
	requests []*request // of this batch, those that are not answered yet

	// The memory of the latest attempt serves the next.
	pipeline pipeline
	replies  []reply
}

// work serves the queue until the node is retired.
func (n *node) work() {
	w := &worker{n: n}
	for {
		select {
		case r := <-n.queue:
			w.collect(r)
			w.serve()
		case <-n.stop:
			n.drain()
			return
		}
	}
}

// collect takes r, and what else is waiting, up to a batch.
func (w *worker) collect(r *request) {
	w.requests = append(w.requests[:0], r)
	for len(w.requests) < batch {
		select {
		case r := <-w.n.queue:
			w.requests = append(w.requests, r)
		default:
			return
		}
	}
}

// serve answers all requests, with as many attempts as their time allows.
func (w *worker) serve() {
	err, pause := errTimeout, time.Duration(0)
	for w.discard(0, err); len(w.requests) > 0; w.discard(0, err) {
		err = w.attempt()
		switch {
		case err == nil:
			return
		case w.n.retired.Load():
			w.forward()
			err, pause = ErrClosed, tooLongPause
		case !transient(err):
			pause = tooLongPause
		case err == errChanged && pause == 0:
			pause = minPause
			continue // once without a pause
		}
		w.discard(pause, err)
		if len(w.requests) > 0 {
			w.note(err)
			time.Sleep(pause)
		}
		pause = min(max(2*pause, minPause), maxPause)
	}
}

// discard answers, with err, the requests that have no time for another attempt after
// pause, and lets go of those that nobody waits for.
func (w *worker) discard(pause time.Duration, err error) {
	w.requests = slices.DeleteFunc(w.requests, func(r *request) bool {
		over := r.over(w.n.g.config.Timeout, pause)
		if over {
			w.n.g.answer(r, false, r.because(err))
		}
		return over
	})
}

// note keeps the error of an attempt for the requests that may run out of time during
// the next one: it says more than that.
func (w *worker) note(err error) {
	if err == errTimeout {
		return
	}
	for _, r := range w.requests {
		r.failed.Store(&err)
	}
}

// attempt sends all requests once, and answers those for which the replies decide. The
// others stay in w.requests, and the error says why.
func (w *worker) attempt() error {
	n, p := w.n, &w.pipeline
	last := w.requests[len(w.requests)-1] // the latest one has the most time
	until := last.start.Add(n.g.config.Timeout)
	if err := n.verify(until); err != nil {
		return w.moved(err)
	}
	p.reset()
	for _, r := range w.requests {
		r.add(p)
	}
	replies, a, err := n.round(until, p, w.replies[:0])
	if err != nil {
		return w.moved(err)
	}
	w.replies = replies
	for trusted := false; !trusted; {
		if trusted, err = w.judge(until, &a); err != nil {
			return w.moved(err)
		}
	}
	return nil
}

// judge answers each request by its reply, if a says that replies are to be believed,
// but for those whose slot another server has now. It returns false if it is to be
// called again, as it had to fetch revocations first: to send the requests again would
// not end if one revocation follows the other.
func (w *worker) judge(until time.Time, a *answer) (bool, error) {
	n, g := w.n, w.n.g
	g.mu.Lock()
	own := clockOf(g.config.Now())
	var t trust
	n.belief, t = n.belief.judge(*a, own)
	if t == believe && g.mapCounts() {
		defer g.mu.Unlock()
		return true, w.answer(own, a.time)
	}
	g.mu.Unlock()
	switch {
	case !a.primary:
		return false, errReadOnly
	case t == verifyAnew:
		return false, errChanged
	case t == fetchFirst:
		return false, n.follow(until, a)
	}
	return false, errCluster
}

// follow fetches the revocations up to those of a, unless somebody did since.
func (n *node) follow(until time.Time, a *answer) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	look := func(b belief) belief { return b }
	b := n.believe(look)
	if b.conn != a.conn || b.revision == a.revision {
		return nil // judge says so
	}
	err := n.catchUp(until, *a, b.revision)
	if err == nil {
		a.revision = n.believe(look).revision
	}
	return err
}

// answer answers the requests by their replies, which are to be believed. own and
// server are what the clocks showed afterwards. The caller holds the guard's lock.
func (w *worker) answer(own, server clock) error {
	g := w.n.g
	marks := g.topology.Load().marks
	rest := w.requests[:0]
	var moved error
	for i, r := range w.requests {
		fresh, err := outcome(w.replies[i], r.value())
		if err != nil && misrouted(err) {
			rest = append(rest, r)
			moved = err
			continue
		}
		if fresh {
			err = r.ruling(marks[r.slot], own, server)
		}
		if fresh && err == nil && !timely(clockOf(r.token.Expiration), server, time.Since(r.start), margin, r.px) {
			err = errClocksApart
		}
		g.answer(r, fresh && err == nil, err)
	}
	clear(w.requests[len(rest):])
	w.requests = rest
	return moved
}

// outcome reads the reply to the SET of a call whose value is own.
func outcome(v reply, own string) (fresh bool, err error) {
	got, err := v.string()
	if err != nil {
		return false, err
	}
	fresh, ok := first(got, v.kind == 0, own)
	if !ok {
		return false, errReply
	}
	return fresh, nil
}

// moved finds out which servers have the slots of the requests, if err says that it
// may not be this one any more, and sends the requests on. It returns err.
func (w *worker) moved(err error) error {
	switch err {
	case errReadOnly:
		w.n.hangUp() // the next connection may lead to another server
		fallthrough
	case errCluster, errConnection, errTimeout:
		w.n.forget()
		w.n.g.rediscover(w.n)
		w.forward()
	}
	return err
}

// forward sends on the requests whose slot another server has.
func (w *worker) forward() {
	w.requests = slices.DeleteFunc(w.requests, func(r *request) bool { return w.n.g.reroute(r, w.n) })
}

// enqueue hands r to the workers. If they end at the same time, they or this call
// find r in the queue, because retired is set before they stop.
func (n *node) enqueue(r *request) {
	n.queue <- r
	if n.retired.Load() {
		n.drain()
	}
}

// drain sends on or refuses what is in the queue.
func (n *node) drain() {
	for {
		select {
		case r := <-n.queue:
			if !n.g.reroute(r, n) {
				n.g.answer(r, false, ErrClosed)
			}
		default:
			return
		}
	}
}

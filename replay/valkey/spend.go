package valkey

import (
	"cmp"
	"context"
	"crypto/rand"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

const (
	// workers is how many pipelines of a server are under way at a time.
	// While one is, the next one fills.
	workers = 2

	// batch is how many requests travel in one pipeline. More only add
	// latency.
	batch = 128

	// The pause between attempts doubles from the first to the second.
	minPause, maxPause = 5 * time.Millisecond, 160 * time.Millisecond

	// margin is how long the server remembers a token after it has expired.
	// Half of it is how far apart the clocks of servers and gateways may
	// be, whatever ClockSkew says. It is the same for all gateways.
	// Otherwise one that accepts a token for longer than another stores it
	// would accept it again.
	margin = time.Minute

	// Limits of the format, which keyring.Policy has, too.
	defaultSkew, maxSkew = 5 * time.Second, time.Minute
)

// Spend reports whether the token is fresh, and marks it as spent on every
// gateway. The error is [token.ErrRevoked] or [token.ErrAllRevoked], or says
// why the guard could not tell. At now the caller found the token unexpired.
// Spend waits for Config.Timeout at most and not longer than ctx. It makes two
// allocations, and each pipeline a few more. It retains nothing of s.
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
	answered, err := g.try(ctx, r)
	if !answered {
		return false, err // a worker may still use r
	}
	fresh := r.fresh && err == nil
	g.waiting.Add(-1)
	g.requests.Put(r)
	if fresh {
		err = g.revoked.Revoked(s) // the reply may have told of it
	}
	return fresh && err == nil, err
}

// request returns a request for a token, or why it refuses the call.
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

// try sends r, again if another attempt may help, until it is answered, or its
// time is up and it is left to a worker.
func (g *Guard) try(ctx context.Context, r *request) (answered bool, err error) {
	r.timer.Reset(g.config.Timeout)
	defer r.timer.Stop()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		earlier := r.err
		r.state.Store(isWaiting)
		g.route(r)
		select {
		case <-r.done:
		case <-r.timer.C:
			err = cmp.Or(earlier, errTimeout) // which says less
		case <-ctx.Done():
			err = ErrCanceled
		case <-g.closed:
			err = ErrClosed
		}
		if err != nil {
			if r.state.CompareAndSwap(isWaiting, isLeft) {
				return false, err
			}
			<-r.done // at the last moment
		}
		if err != nil || !transient(r.err) || time.Since(r.start)+pause > g.config.Timeout {
			return true, r.err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-g.closed:
		}
	}
}

// answer ends an attempt of a request that a worker holds.
func (g *Guard) answer(r *request, fresh bool, err error) {
	r.fresh, r.err = fresh, err
	if r.state.CompareAndSwap(isWaiting, isAnswered) {
		r.done <- struct{}{}
	} else {
		g.waiting.Add(-1)
	}
}

// request is one call of Spend. The caller and a worker share it. Once the
// worker has answered, only the caller uses it; once the caller has left, only
// the worker.
type request struct {
	token  token.Summary // without what was lent
	text   string        // the name of the key, and then its value
	keyLen int           // the length of the name
	slot   int
	now    clock     // by the caller's clock
	start  time.Time // when the call began, by this process's clock
	px     int64     // the shortest life of all attempts, in ms

	state atomic.Uint32
	done  chan struct{} // receives once, from the worker
	fresh bool
	err   error       // of the latest attempt
	timer *time.Timer // reused by later calls, as buf is
	buf   []byte
}

// The states of a request.
const (
	isWaiting uint32 = iota
	isAnswered
	isLeft // the caller won't look at it again
)

// valueSize is the length of the value that names a call. It is as random as a
// token ID and drawn for each call. So no call takes another's attempt for its
// own, even if a virtual machine was restored in between.
const valueSize = 16

// reset makes r the request of a new call.
func (r *request) reset(prefix string, top *topology, now time.Time, s token.Summary) {
	s.RoomIdentifier, s.UserID = nil, nil
	r.token = s
	r.buf = append(r.buf[:0], prefix...)
	r.buf = append(r.buf, s.TokenID[:]...)
	r.keyLen = len(r.buf)
	r.slot = keySlot(r.buf, len(top.marks))
	r.buf = append(r.buf, make([]byte, valueSize)...)
	rand.Read(r.buf[r.keyLen:])
	r.text = string(r.buf)
	r.now, r.start = clockOf(now), time.Now()
	r.px = math.MaxInt64
	r.fresh, r.err = false, nil
}

// value returns what the key is set to.
func (r *request) value() string { return r.text[r.keyLen:] }

// add adds the SET of one more attempt.
func (r *request) add(p *pipeline) {
	px := life(clockOf(r.token.Expiration), r.now, time.Since(r.start), margin)
	r.px = min(r.px, px)
	p.add("SET", r.text[:r.keyLen], r.value(), "NX", "GET", "PX", strconv.FormatInt(px, 10))
}

// ruling returns the error for the token by the mark of its slot and the
// clocks.
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

// worker sends the requests of a node, as many at a time as wait.
type worker struct {
	n        *node
	requests []*request // of this batch
	pipeline pipeline   // memory is reused, as that of replies
	replies  []reply
}

// work serves the queue until the node is retired.
func (n *node) work() {
	w := &worker{n: n}
	for {
		select {
		case r := <-n.queue:
			w.collect(r)
			err := w.attempt()
			n.moved(err)
			for _, r := range w.requests {
				n.g.answer(r, false, err)
			}
		case <-n.stop:
			n.drain()
			return
		}
	}
}

// collect takes r, and what else waits, up to a batch. It first lets callers
// run that are about to wait: nearly twice as many travel together then.
func (w *worker) collect(r *request) {
	w.requests = append(w.requests[:0], r)
	for yielded := false; len(w.requests) < batch; {
		select {
		case r := <-w.n.queue:
			w.requests = append(w.requests, r)
		default:
			if yielded {
				return
			}
			yielded = true
			runtime.Gosched()
		}
	}
}

// attempt sends the requests, and answers each by its reply. With an error it
// answers only those that are gone by then.
func (w *worker) attempt() error {
	n, p := w.n, &w.pipeline
	latest := slices.MaxFunc(w.requests, func(a, b *request) int { return a.start.Compare(b.start) })
	until := latest.start.Add(n.g.config.Timeout)
	if err := n.verify(until); err != nil {
		return err
	}
	p.buf, p.commands = p.buf[:0], 0
	for _, r := range w.requests {
		r.add(p)
	}
	replies, a, err := n.round(until, p, w.replies[:0])
	if err != nil {
		return err
	}
	w.replies = replies
	for trusted := false; !trusted && err == nil; {
		trusted, err = w.judge(until, &a)
	}
	return err
}

// judge answers each request by its reply, if a says that the replies count. It
// returns false if it had to fetch revocations first: call it again then. To
// send the requests again instead would not end if one revocation follows the
// other.
func (w *worker) judge(until time.Time, a *answer) (bool, error) {
	n, g := w.n, w.n.g
	var t trust
	var err error
	n.change(func(b belief) belief {
		own := clockOf(g.config.Now())
		switch b, t = b.judge(*a, own); {
		case !a.primary:
			err = errReadOnly
		case t == verifyAnew:
			err = errChanged
		case t == believe && g.topology.Load().cluster() && !mapCounts(time.Since(g.mapped)):
			err = errCluster
		case t == believe:
			err = w.answer(own, a.time)
		}
		return b
	})
	if t == fetchFirst && err == nil {
		err = n.follow(until, a)
	}
	return t == believe, err
}

// follow fetches the revocations up to those of a, unless they are known by
// now.
func (n *node) follow(until time.Time, a *answer) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	b := n.change(nil)
	if b.conn != a.conn || b.revision == a.revision {
		return nil // judge says so
	}
	err := n.catchUp(until, *a, b.revision)
	if err == nil {
		a.revision = n.change(nil).revision
	}
	return err
}

// answer answers the requests by their replies, which count. It returns an
// error if another server has a slot now. own and server are what the clocks
// showed afterwards. The caller holds the guard's lock.
func (w *worker) answer(own, server clock) (moved error) {
	g := w.n.g
	top := g.topology.Load()
	for i, r := range w.requests {
		fresh, err := outcome(w.replies[i], r.value())
		if err == errCluster || err == errReadOnly {
			moved = err
		}
		if fresh {
			err = r.ruling(top.marks[r.slot], own, server)
		}
		if fresh && err == nil && !slotCounts(w.n, top.owners[r.slot]) {
			err = errChanged
		}
		if fresh && err == nil && !timely(clockOf(r.token.Expiration), server, time.Since(r.start), margin, r.px) {
			err = errClocksApart
		}
		g.answer(r, fresh && err == nil, err)
	}
	w.requests = w.requests[:0]
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

// moved finds out which servers have the slots, if err says that this server
// may have lost one.
func (n *node) moved(err error) {
	switch err {
	case errReadOnly:
		n.hangUp() // the next may lead elsewhere
		fallthrough
	case errCluster, errConnection, errTimeout:
		n.change(belief.unsure)
		n.g.rediscover(n)
	}
}

// drain sends what is in the queue to another server, or ends it.
func (n *node) drain() {
	for {
		select {
		case r := <-n.queue:
			n.g.answer(r, false, n.gone())
		default:
			return
		}
	}
}

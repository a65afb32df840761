package valkey

import (
	"time"

	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/internal/verdict"
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
)

// errChanged says that the server, or its state, was another one after an attempt
// than before it: the attempt is repeated.
var errChanged = verdict.Unavailable("valkey: the server keeps changing")

// worker sends the requests of a node, as many at a time as are waiting.
type worker struct {
	n        *node
	requests []*request
	commands []client.Completed
	deadline *deadline
}

func (n *node) work() {
	w := &worker{n: n, deadline: newDeadline()}
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

// collect takes what is waiting, besides r.
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
	err, pause := ErrTimeout, time.Duration(0)
	for w.discard(0, err); len(w.requests) > 0; w.discard(0, err) {
		err = w.attempt()
		switch {
		case err == nil:
			return
		case w.n.retired.Load():
			w.forward()
			err, pause = ErrClosed, tooLongPause
		case !passing(err):
			pause = tooLongPause
		case err == errChanged && pause == 0:
			pause = minPause
			continue // once without a pause
		}
		w.discard(pause, err)
		if len(w.requests) > 0 {
			w.explain(err)
			time.Sleep(pause)
		}
		pause = min(max(2*pause, minPause), maxPause)
	}
}

// discard answers requests that are not worth another attempt after pause.
func (w *worker) discard(pause time.Duration, err error) {
	rest := w.requests[:0]
	for _, r := range w.requests {
		if r.over(w.n.g.config.Timeout, pause) {
			w.n.g.answer(r, false, r.because(err))
		} else {
			rest = append(rest, r)
		}
	}
	clear(w.requests[len(rest):])
	w.requests = rest
}

// explain has those who wait know what the latest attempt ended with. That there
// was no more time for one does not say why.
func (w *worker) explain(err error) {
	if err == ErrTimeout {
		return
	}
	for _, r := range w.requests {
		r.failed.Store(&err)
	}
}

// attempt sends all requests once. With an error, some are left in w.requests.
func (w *worker) attempt() error {
	n, c := w.n, &w.n.g.config
	last := w.requests[len(w.requests)-1]
	w.deadline.start(c.Timeout - time.Since(last.start))
	defer func() { w.deadline = w.deadline.stop() }()

	v, err := n.verify(w.deadline)
	if err != nil {
		return w.moved(err)
	}
	w.build()
	replies := n.client.DoMulti(w.deadline, w.commands...)
	server, err := w.check(v, replies[len(w.requests):])
	if err != nil {
		w.commands = nil // the client may not have sent them yet
		return err
	}
	return w.judge(replies, server)
}

// build makes the pipeline. What is asked last tells about all that is before
// it: the state as it was after the tokens were set, and that each reply is at
// its place.
func (w *worker) build() {
	b, c := w.n.client.B(), &w.n.g.config
	w.commands = w.commands[:0]
	for _, r := range w.requests {
		w.commands = append(w.commands, r.command(b, c.Margin))
	}
	if c.Replicas > 0 {
		// What WAIT waits for is the last write of this connection. An attempt that
		// is repeated over a new one finds what it wrote, and would write nothing.
		w.commands = append(w.commands, b.Set().Key(w.n.keys.Load().written).Value("").Build(), c.wait(b))
	}
	w.commands = append(w.commands, b.Get().Key(w.n.keys.Load().state).Build(), b.Time().Build())
}

// check looks at the replies behind those of the requests, and returns the
// server's clock. With an error, no reply says anything.
func (w *worker) check(v *verified, tail []client.ValkeyResult) (server int64, err error) {
	if w.n.g.config.Replicas > 0 {
		err = w.n.g.config.confirmed(tail[0], tail[1])
		tail = tail[2:]
	}
	value, e := tail[0].ToString()
	if e != nil && !client.IsValkeyNil(e) {
		return 0, w.moved(reason(e))
	}
	if value != v.state {
		if e := w.follow(v, value); e != nil {
			return 0, e
		}
	}
	if w.n.dials.Load() != v.dials {
		return 0, errChanged
	}
	if err != nil {
		return 0, err
	}
	return milliseconds(tail[1])
}

// follow is for when the state was value after the requests, and not what v says.
// If the epoch is the same, there was a revocation. Once it is known, the replies
// are good, and need not be asked for again: they would never be, where there is
// one revocation after the other.
func (w *worker) follow(v *verified, value string) error {
	w.n.forget(v)
	if !sameEpoch(v.state, value) {
		return errChanged
	}
	now, err := w.n.verify(w.deadline)
	if err != nil {
		return err
	}
	if !sameEpoch(v.state, now.state) {
		return errChanged
	}
	return nil
}

// judge answers each request by its reply, and leaves those that are served
// elsewhere.
func (w *worker) judge(replies []client.ValkeyResult, server int64) error {
	g := w.n.g
	rest := w.requests[:0]
	var moved error
	for i, r := range w.requests {
		fresh, err := verdictOf(replies[i], r.value())
		if err != nil && elsewhereNow(err) {
			rest = append(rest, r)
			moved = err
			continue
		}
		if fresh && !r.timely(server, g.config.Margin) {
			fresh, err = false, ErrClock
		}
		g.answer(r, fresh, err)
	}
	clear(w.requests[len(rest):])
	w.requests = rest
	if moved != nil {
		return w.moved(moved)
	}
	return nil
}

// moved finds out who serves the slots of the requests, where err says that it
// may not be this server, and sends them on. It returns err.
func (w *worker) moved(err error) error {
	switch err {
	case ErrReadOnly, ErrCluster, ErrConnection, ErrTimeout:
		w.n.forget(w.n.verified.Load())
		w.n.g.rediscover(w.n)
		w.forward()
	}
	if err == ErrReadOnly {
		w.n.hangUp(w.deadline)
	}
	return err
}

// forward gives requests away whose slot another server has.
func (w *worker) forward() {
	rest := w.requests[:0]
	for _, r := range w.requests {
		if !w.n.g.reroute(r, w.n) {
			rest = append(rest, r)
		}
	}
	clear(w.requests[len(rest):])
	w.requests = rest
}

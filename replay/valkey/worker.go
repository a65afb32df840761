package valkey

import (
	"context"
	"slices"
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

// errChanged says that the connection or the state changed during an attempt. Its
// replies say nothing then, so it is repeated.
var errChanged = verdict.Unavailable("valkey: the server keeps changing")

// worker sends the requests of a node, as many at a time as are waiting.
type worker struct {
	n        *node
	requests []*request         // of this batch, those that are not answered yet
	commands []client.Completed // of the latest attempt; its memory serves the next
	deadline *deadline
}

// work serves the queue until the node is retired.
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
	err, pause := ErrTimeout, time.Duration(0)
	for w.discard(0, err); len(w.requests) > 0; w.discard(0, err) {
		if err = w.attempt(); err == ErrCanceled {
			err = ErrConnection // another call began to connect, and its context ended
		}
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
	if err == ErrTimeout {
		return
	}
	for _, r := range w.requests {
		r.failed.Store(&err)
	}
}

// attempt sends all requests once, and answers those for which the replies decide. The
// others stay in w.requests, and the error says why.
func (w *worker) attempt() error {
	n, c := w.n, &w.n.g.config
	last := w.requests[len(w.requests)-1] // the latest one has the most time
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

// build makes the pipeline. The two commands at its end tell whether to believe what
// is before them: GET has the state as it was after the tokens were set, and the reply
// to TIME looks like no other, so that replies that were shifted are noticed.
func (w *worker) build() {
	b, c := w.n.client.B(), &w.n.g.config
	w.commands = w.commands[:0]
	for _, r := range w.requests {
		w.commands = append(w.commands, r.command(b, c.Margin))
	}
	if c.Replicas > 0 {
		// WAIT waits for the last write of its own connection. An attempt that is
		// repeated over a new connection finds its values set and writes none, so
		// there has to be a write for WAIT to wait for.
		w.commands = append(w.commands, b.Set().Key(w.n.keys.Load().written).Value("").Build(), c.wait(b))
	}
	w.commands = append(w.commands, b.Get().Key(w.n.keys.Load().state).Build(), b.Time().Build())
}

// check looks at tail, the replies after those to the requests, and returns the
// server's clock in Unix milliseconds. With an error, no reply is to be believed. v is
// what was known of the server before.
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

// follow is called where the state was value after the requests, and v has another.
// It returns nil if the replies count all the same. They do if the epoch did not
// change: then there was a revocation, which the guard fetches first. To send the
// requests again would not end where one revocation follows the other.
func (w *worker) follow(v *verified, value string) error {
	for now := v; ; {
		w.n.forget(now)
		if !sameEpoch(now.state, value) {
			return errChanged
		}
		var err error
		if now, err = w.n.verify(w.deadline); err != nil {
			return err
		}
		// A Sync may have asked before the latest revocation, and be done only now.
		if reaches(now.state, value) {
			return nil
		}
	}
}

// judge answers each request by its reply, but for those whose slot another server has
// now: it sends these on, and returns an error if there were any. server is the
// server's clock in Unix milliseconds.
func (w *worker) judge(replies []client.ValkeyResult, server int64) error {
	g := w.n.g
	rest := w.requests[:0]
	var moved error
	for i, r := range w.requests {
		fresh, err := verdictOf(replies[i], r.value())
		if err != nil && misrouted(err) {
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

// moved finds out which servers have the slots of the requests, where err says that it
// may not be this one any more, and sends the requests on. It returns err.
func (w *worker) moved(err error) error {
	switch err {
	case ErrReadOnly, ErrCluster, ErrConnection, ErrTimeout:
		w.n.forget(w.n.verified.Load())
		w.n.g.rediscover(context.Background(), w.n)
		w.forward()
	}
	if err == ErrReadOnly {
		w.n.hangUp(w.deadline)
	}
	return err
}

// forward sends on the requests whose slot another server has.
func (w *worker) forward() {
	w.requests = slices.DeleteFunc(w.requests, func(r *request) bool { return w.n.g.reroute(r, w.n) })
}

package valkey

import (
	"context"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// verifyEvery is for how long an answer about the server is relied on: so long may a
// change of its configuration go unnoticed. Changes of its data are noticed with
// each spend.
const verifyEvery = 5 * time.Second

// verified is what the server has said of itself.
type verified struct {
	dials uint64 // over which connection
	state string // the value of the state key
	at    time.Time
}

// current returns what is known of the server, or nil where it has to be asked.
func (n *node) current() *verified {
	v := n.verified.Load()
	if v == nil || v.dials != n.dials.Load() || time.Since(v.at) > verifyEvery {
		return nil
	}
	return v
}

// verify returns what is known of the server, and asks the server first where that
// cannot be relied on any more.
func (n *node) verify(ctx context.Context) (*verified, error) {
	if v := n.current(); v != nil {
		return v, nil
	}
	n.resurvey(ctx)
	n.verifying.Lock()
	defer n.verifying.Unlock()
	if v := n.current(); v != nil {
		return v, nil // another worker asked meanwhile
	}
	return n.ask(ctx)
}

// resurvey asks n which server has which slots, if what is known of n is old. Slots
// may have moved in such a way that no request was sent elsewhere. If n has another
// lowest slot since, its state key has another name, under which other gateways
// write revocations.
func (n *node) resurvey(ctx context.Context) {
	v := n.verified.Load()
	if v != nil && time.Since(v.at) > verifyEvery && n.g.topology.Load().cluster() && n.g.mayAsk() {
		n.g.survey(ctx, n)
	}
}

// askAnew asks the server in any case: what another worker asks at the same time, it
// may have asked before this call.
func (n *node) askAnew(ctx context.Context) error {
	n.verifying.Lock()
	defer n.verifying.Unlock()
	_, err := n.ask(ctx)
	return err
}

// forget has the next verify ask the server, unless somebody did since v.
func (n *node) forget(v *verified) { n.verified.CompareAndSwap(v, nil) }

// ask asks the server until neither the connection nor the state changes meanwhile.
// The caller holds verifying.
func (n *node) ask(ctx context.Context) (*verified, error) {
	// One round may only make the connection, one may write the state, and one may
	// find that another gateway did so at the same time. The fourth is for the answer.
	for range 4 {
		dials := n.dials.Load()
		a, err := n.fetchReport(ctx)
		if err != nil {
			return nil, err
		}
		if n.dials.Load() != dials {
			continue
		}
		ok, err := n.settle(ctx, a)
		if err != nil {
			return nil, err
		}
		if ok && n.dials.Load() == dials {
			v := &verified{dials: dials, state: a.state, at: time.Now()}
			n.verified.Store(v)
			return v, nil
		}
	}
	return nil, errChanged
}

// report is what a server says of itself.
type report struct {
	info  info
	state string // the value of the state key
	clock int64  // Unix milliseconds
}

// fetchReport asks the server who it is, how it is configured, and what it says of
// its data.
func (n *node) fetchReport(ctx context.Context) (a report, err error) {
	b := n.client.B()
	replies := n.client.DoMulti(ctx, b.Info().Build(), b.Get().Key(n.keys.Load().state).Build(), b.Time().Build())
	text, err := replies[0].ToString()
	if err != nil {
		return a, reason(err)
	}
	a.state, err = replies[1].ToString()
	if err != nil && !client.IsValkeyNil(err) {
		return a, reason(err)
	}
	a.info = parseInfo(text)
	a.clock, err = milliseconds(replies[2])
	return a, err
}

// settle judges a report. If the state is that of this process and its data, it
// fetches the revocations that are new; otherwise it declares that data were lost. It
// returns false if the server has to be asked again.
func (n *node) settle(ctx context.Context, a report) (bool, error) {
	c := &n.g.config
	if err := c.fit(a.info); err != nil {
		return false, err
	}
	ahead := a.clock - c.Now().UnixMilli()
	if 2*max(ahead, -ahead) > c.Margin.Milliseconds() {
		return false, ErrClock
	}
	n.g.ahead.Store(ahead)
	s, ok := parseState(a.state)
	if !ok || s.identity != c.identity(a.info) || c.bogus(s.mark) || n.older(s) {
		return false, n.declareLoss(ctx, a.state, c.identity(a.info))
	}
	if s.epoch != n.known.epoch {
		n.g.raise(n, s.mark)
	}
	return n.catchUp(ctx, s)
}

// older reports whether s is from before what is known already. Then data were
// swapped or restored, or the address led to another server for a while: what was
// spent in between is not in these data.
func (n *node) older(s state) bool {
	switch {
	case n.g.config.bogus(n.known.mark): // made when the clocks were far ahead: says nothing
		return false
	case s.epoch == n.known.epoch:
		return s.revision < n.known.revision
	}
	return s.mark < n.known.mark || s.epoch == n.left
}

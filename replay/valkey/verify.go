package valkey

import (
	"context"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// verifyEvery is how long an answer about the server is relied on. It bounds how
// long a change of its configuration goes unnoticed. What happens to its data
// is noticed with each spend.
const verifyEvery = 5 * time.Second

// verified is what is known of the server behind the present connection.
type verified struct {
	dials uint64
	state string // the value of the state key
	at    time.Time
}

// current returns what is known of the server, if that is to be relied on.
func (n *node) current() *verified {
	v := n.verified.Load()
	if v == nil || v.dials != n.dials.Load() || time.Since(v.at) > verifyEvery {
		return nil
	}
	return v
}

// verify returns what is known of the server, and asks it where need be.
func (n *node) verify(ctx context.Context) (*verified, error) {
	if v := n.current(); v != nil {
		return v, nil
	}
	n.resurvey(ctx)
	n.verifying.Lock()
	defer n.verifying.Unlock()
	if v := n.current(); v != nil {
		return v, nil // another worker has asked
	}
	return n.ask(ctx)
}

// resurvey asks n who serves which slots, if it was not asked anything for a while.
// Nothing else may tell that a slot moved: and with the lowest one of a server moves
// the name of the state that others write their revocations to.
func (n *node) resurvey(ctx context.Context) {
	v := n.verified.Load()
	if v != nil && time.Since(v.at) > verifyEvery && n.g.topology.Load().cluster() && n.g.mayAsk() {
		n.g.survey(ctx, n)
	}
}

// askAnew is verify for who must not rely on an answer to a question that was asked
// before this call.
func (n *node) askAnew(ctx context.Context) error {
	n.verifying.Lock()
	defer n.verifying.Unlock()
	_, err := n.ask(ctx)
	return err
}

// forget makes the next verify ask.
func (n *node) forget(v *verified) { n.verified.CompareAndSwap(v, nil) }

// ask asks the server until it has an answer that holds. verifying is held.
func (n *node) ask(ctx context.Context) (*verified, error) {
	// Once for a connection that is new, once for another gateway that writes the
	// state at the same time, and once more.
	for range 4 {
		dials := n.dials.Load()
		a, err := n.question(ctx)
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

// answer is what a server says of itself.
type answer struct {
	info  info
	state string
	clock int64 // in milliseconds
}

// question asks the server who it is, what it can do, and what it says of its
// data.
func (n *node) question(ctx context.Context) (a answer, err error) {
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

// settle judges the answer, and has the state be one of this server. It returns
// false when the server has to be asked again.
func (n *node) settle(ctx context.Context, a answer) (bool, error) {
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
	if !ok || s.identity != c.identity(a.info) || c.bogus(s) || n.older(s) {
		return false, n.declareLoss(ctx, a.state, c.identity(a.info))
	}
	if s.epoch != n.since.epoch {
		n.g.raise(n, s.mark)
	}
	return n.catchUp(ctx, s)
}

// older reports whether s is from before what is known already: data were swapped
// or restored, or the address led to another server meanwhile, and is back. What
// was spent in between is not among them.
func (n *node) older(s state) bool {
	switch {
	case n.g.config.bogus(n.since): // the clock was ahead
		return false
	case s.epoch == n.since.epoch:
		return s.revision < n.since.revision
	}
	return s.mark < n.since.mark || s.epoch == n.left
}

package valkey

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// beat extends the nonce of a server at each nonceBeat, whether anybody spends or
// not, until the node is retired. It asks on the way whether the server is still fit,
// who has which slots, and what was revoked.
func (n *node) beat() {
	ticker := time.NewTicker(nonceBeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(context.Background(), n.g.config.Timeout)
			n.g.resurvey(ctx, n)
			n.g.count.note(n.askAnew(ctx))
			cancel()
		case <-n.stop:
			return
		}
	}
}

// verify returns nil if the server is known, and asks it if not.
func (n *node) verify(ctx context.Context) error {
	if n.known() {
		return nil
	}
	n.asking.Lock()
	defer n.asking.Unlock()
	if n.known() {
		return nil // another worker asked meanwhile
	}
	return n.ask(ctx)
}

// known reports whether the guard relies on what answers over the latest connection.
func (n *node) known() bool {
	conn := n.dials.Load()
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	return n.belief.conn != 0 && n.belief.conn == conn
}

// forget has the next verify ask the server.
func (n *node) forget() {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	n.belief.conn = 0
}

// askAnew asks the server in any case: what another goroutine asks at the same time,
// it may have asked before this call.
func (n *node) askAnew(ctx context.Context) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	return n.ask(ctx)
}

// ask asks the server until it can be relied on, and fetches what was revoked. The
// caller holds asking.
func (n *node) ask(ctx context.Context) error {
	var first answer
	command := n.extend
	// One round may only make the connection, one may write the nonce, and one may
	// find that the connection has changed. The rest are for a busy server.
	for range 6 {
		asked := clockOf(n.g.config.Now())
		info, a, err := n.report(ctx, command())
		if err == nil {
			err = n.fit(info)
		}
		if err == nil {
			err = n.g.clocksAgree(asked, a.time)
		}
		if err != nil {
			return err
		}
		command = n.extend
		if a.conn == 0 {
			continue
		}
		if first.conn != a.conn {
			first = a
		}
		switch n.next(first, a) {
		case stepRefuse:
			return errReadOnly
		case stepWrite:
			command = func() client.Completed { return n.replace(a) }
			continue
		}
		if err := n.adopt(ctx, a); err != errChanged {
			return err
		}
	}
	return errChanged
}

func (n *node) next(first, now answer) step {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	return n.belief.next(first, now)
}

// extend returns the command that extends the nonce, or an idle one if there is none.
func (n *node) extend() client.Completed {
	n.g.mu.Lock()
	nonce := n.belief.nonce
	n.g.mu.Unlock()
	if nonce == "" {
		return n.client.B().Ping().Build()
	}
	return n.client.B().Eval().Script(extendNonce).Numkeys(1).Key(n.keys.Load().nonce).
		Arg(nonce, strconv.FormatInt(nonceLife.Milliseconds(), 10)).Build()
}

// replace returns the command that replaces the nonce of a by a new one.
func (n *node) replace(a answer) client.Completed {
	return n.client.B().Eval().Script(replaceNonce).Numkeys(1).Key(n.keys.Load().nonce).
		Arg(a.nonce, a.newNonce(rand.Text()), strconv.FormatInt(nonceLife.Milliseconds(), 10)).Build()
}

// report runs a command, and has the server tell all about itself.
func (n *node) report(ctx context.Context, command client.Completed) (info string, a answer, err error) {
	replies, a, err := n.round(ctx, []client.Completed{command, n.client.B().Info().Build()})
	for _, r := range replies {
		if e := r.Error(); e != nil && !client.IsValkeyNil(e) {
			return "", a, reason(e) // which says more than the replies after it
		}
	}
	if err != nil {
		return "", a, err
	}
	info, err = replies[1].ToString()
	if a.runID = infoField(info, "run_id"); err != nil || a.runID == "" {
		return "", a, errReply
	}
	return info, a, nil
}

// adopt relies on the server of a: if that is another than before, after its marks
// were raised, its revocations fetched, and the latest of this gateway written.
func (n *node) adopt(ctx context.Context, a answer) error {
	n.g.mu.Lock()
	next, other := n.belief.adopt(a)
	if other {
		n.g.raise(n, next.past, clockOf(n.g.config.Now()), a.time)
		n.settled = false
	}
	if !n.settled {
		next.conn = 0
	}
	n.belief = next
	n.g.mu.Unlock()
	if n.settled && a.revision == next.revision {
		return nil
	}
	if err := n.catchUp(ctx, a, next.revision); err != nil || n.settled {
		return err
	}
	if err := n.rehearse(ctx); err != nil {
		return err
	}
	if err := n.writeBack(ctx); err != nil {
		return err
	}
	return n.settle(a.conn)
}

// settle has the workers rely on what was adopted, unless the pair is lost again.
func (n *node) settle(conn uint64) error {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	if n.belief.nonce == "" {
		return errChanged
	}
	n.belief.conn = conn
	n.settled = true
	return nil
}

// fit returns why a server cannot be relied on, or nil if it can. Whoever evicts, or
// did meanwhile, may have forgotten tokens.
func (n *node) fit(info string) error {
	c := &n.g.config
	major, _, _ := strings.Cut(infoField(info, "redis_version"), ".")
	version, _ := strconv.Atoi(major)
	evicted := infoField(info, "evicted_keys")
	switch {
	case infoField(info, "loading") == "1":
		return errLoading
	case version == 0:
		return errReply
	case version < 7:
		return errVersion
	case infoField(info, "role") != "master":
		return errReadOnly
	case infoField(info, "maxmemory_policy") != "noeviction" && !c.AcceptEviction:
		n.doubt()
		return errEviction
	case infoField(info, "aof_enabled") != "1" && !c.AcceptNoAppendOnlyFile:
		return errNoAppendOnlyFile
	}
	if evicted != n.evicted && n.evicted != "" && !c.AcceptEviction {
		n.doubt()
	}
	n.evicted = evicted
	return nil
}

// doubt has the next adoption replace the nonce, and raise the marks of all gateways.
func (n *node) doubt() {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	n.belief = n.belief.doubt()
}

// clocksAgree returns an error if the server's clock, read between asked and now, is
// further from the gateway's than ClockSkew. The marks could not be relied on.
func (g *Guard) clocksAgree(asked, server clock) error {
	skew := clock(g.config.Limits.ClockSkew.Milliseconds())
	switch {
	case server < asked-skew:
		return errServerBehind
	case server > clockOf(g.config.Now())+skew:
		return errServerAhead
	}
	return nil
}

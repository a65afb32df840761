package valkey

import (
	"cmp"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// node is one server that takes writes: the only one, or a primary of the
// Cluster.
type node struct {
	g       *Guard
	address string
	queue   chan *request // has room for MaxWaiting, so it is never full
	keys    atomic.Pointer[keys]
	belief  belief // guarded by Guard.mu, as the marks are

	connecting sync.Mutex
	link       atomic.Pointer[link] // the latest; nil at first

	asking  sync.Mutex // held to ask the server; guards the next two
	settled bool       // the pair has this gateway's latest revocations
	evicted string     // evicted_keys when last asked

	retired atomic.Bool
	stop    chan struct{} // closed after retired is set
}

// keys are the names of the keys that the guard keeps on each server, besides
// those of tokens. In a Cluster they share a slot that the server has.
type keys struct {
	nonce    string // a string
	revision string // a string: counts revocations written
	order    string // a sorted set: names of revocations by revision
	marks    string // a sorted set: names of revocations by moment
	tokens   string // a sorted set: names of tokens by when revoked
}

func newKeys(prefix, tag string) *keys {
	base := prefix + "{" + tag + "}:guard-"
	return &keys{base + "nonce", base + "revision", base + "order", base + "marks", base + "tokens"}
}

// newNode makes a node and starts its goroutines. The first request connects.
func (g *Guard) newNode(address string, k *keys) *node {
	n := &node{g: g, address: address, queue: make(chan *request, g.config.MaxWaiting), stop: make(chan struct{})}
	n.keys.Store(k)
	for range workers {
		go n.work()
	}
	go n.beat()
	return n
}

// retire ends the node's goroutines and its connection, and sends its requests
// on or refuses them.
func (n *node) retire() {
	n.retired.Store(true)
	close(n.stop)
	n.hangUp()
}

// gone returns why a node is retired.
func (n *node) gone() error {
	if n.g.ended() {
		return ErrClosed
	}
	return errCluster
}

// hangUp closes the connection. The next one may lead to another server.
func (n *node) hangUp() {
	if l := n.link.Load(); l != nil {
		_ = l.close(errConnection)
	}
}

// connect returns the connection, or a new one if that is closed.
func (n *node) connect(until time.Time) (*link, error) {
	n.connecting.Lock()
	defer n.connecting.Unlock()
	if l := n.link.Load(); l != nil && l.dead.Load() == nil {
		return l, nil
	}
	if n.retired.Load() {
		return nil, n.gone()
	}
	id := n.g.count.connections.Add(1)
	l, err := n.g.config.dial(until, n.address)
	if f, ok := err.(*dialFault); ok {
		err = f.reason
	}
	if err != nil {
		return nil, err
	}
	l.id = id
	n.link.Store(l)
	if n.retired.Load() { // hangUp may have come too early to see l
		return nil, l.close(n.gone())
	}
	return l, nil
}

// round sends p over one connection, and appends the commands that tell whether
// the replies count. Those come last: read before, they prove nothing. Its
// error is the first that the server replied to what was added.
func (n *node) round(until time.Time, p *pipeline, replies []reply) ([]reply, answer, error) {
	l, err := n.connect(until)
	if err != nil {
		return nil, answer{}, err
	}
	own, k := p.commands, n.keys.Load()
	p.add("GET", k.nonce)
	p.add("GET", k.revision)
	p.add("INFO", "replication")
	p.add("TIME")
	if replies, err = l.roundTrip(until, p, replies); err != nil {
		return nil, answer{}, err
	}
	a, err := readAnswer(replies[own:])
	a.conn = l.id
	return replies[:own], a, err
}

func readAnswer(tail []reply) (a answer, err error) {
	for _, v := range tail[:3] {
		if _, err := v.string(); err != nil {
			return a, err
		}
	}
	info := tail[2].text
	a.nonce, a.primary, a.replID = tail[0].text, infoField(info, "role") == "master", infoField(info, "master_replid")
	a.revision, err = strconv.ParseInt(cmp.Or(tail[1].text, "0"), 10, 64)
	if err != nil || a.replID == "" {
		return a, errReply
	}
	a.time, err = readTime(tail[3])
	return a, err
}

// beat extends the nonce of a server at each nonceBeat, whether anybody spends
// or not, until the node is retired. It also asks whether the server is still
// fit, who has which slots, and what was revoked.
func (n *node) beat() {
	ticker := time.NewTicker(nonceBeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			until := time.Now().Add(n.g.config.Timeout)
			if n.g.topology.Load().cluster() && n.g.maySurvey() {
				_ = n.g.survey(until, n)
			}
			n.g.count.note(n.askAnew(until))
		case <-n.stop:
			return
		}
	}
}

// verify asks the server, unless the guard relies on the other end of the
// latest connection.
func (n *node) verify(until time.Time) error {
	if n.known() {
		return nil
	}
	n.asking.Lock()
	defer n.asking.Unlock()
	if n.known() {
		return nil // another worker asked meanwhile
	}
	return n.ask(until)
}

func (n *node) known() bool {
	l := n.link.Load()
	return l != nil && l.dead.Load() == nil && n.change(nil).conn == l.id
}

// askAnew asks the server in any case: another goroutine may have asked before
// this call.
func (n *node) askAnew(until time.Time) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	return n.ask(until)
}

// change makes f change the belief, if f is not nil, and returns it. f holds
// the guard's lock.
func (n *node) change(f func(b belief) belief) belief {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	if f != nil {
		n.belief = f(n.belief)
	}
	return n.belief
}

// ask asks the server until the guard relies on it, and fetches what was
// revoked. If it fails, nothing counts there. The caller holds asking.
func (n *node) ask(until time.Time) error {
	err := n.persuade(until)
	if err != nil {
		n.change(belief.unsure)
	}
	return err
}

func (n *node) persuade(until time.Time) error {
	var first, a answer
	replace := false
	// One round may write the nonce, and one may find another connection.
	// The rest are for a busy server.
	for range 6 {
		now, err := n.report(until, a, replace)
		if err != nil {
			return err
		}
		a, replace = now, false
		if first.conn != a.conn {
			first = a
		}
		switch n.change(nil).next(first, a) {
		case stepRefuse:
			return errReadOnly
		case stepWrite:
			replace = true
			continue
		}
		if err := n.adopt(until, a); err != errChanged {
			return err
		}
	}
	return errChanged
}

// report asks the server everything about itself. Before that it replaces the
// nonce of a, or extends the one that the guard relies on. An error means that
// the server is unfit.
func (n *node) report(until time.Time, a answer, replace bool) (now answer, err error) {
	var p pipeline
	asked := clockOf(n.g.config.Now())
	b, key, life := n.change(nil), n.keys.Load().nonce, strconv.Itoa(int(nonceLife.Milliseconds()))
	switch {
	case replace:
		p.add("EVAL", replaceNonce, "1", key, a.nonce, a.newNonce(rand.Text()), life)
	case b.nonce != "":
		p.add("EVAL", extendNonce, "1", key, b.nonce, life)
	}
	p.add("INFO")
	replies, now, err := n.round(until, &p, nil)
	for _, r := range replies {
		if r.kind == '-' {
			return now, r.odd()
		}
	}
	if err != nil {
		return now, err
	}
	// There was nothing to extend.
	if replies[0].kind == ':' && replies[0].text == "0" {
		n.change(belief.lose)
	}
	info := replies[len(replies)-1].text
	if now.runID = infoField(info, "run_id"); now.runID == "" {
		return now, errReply
	}
	if err := n.fit(info); err != nil {
		return now, err
	}
	return now, n.g.clocksAgree(asked, now.time)
}

// adopt relies on the server of a. If the pair has changed, it raises the marks
// and writes this gateway's latest revocations.
func (n *node) adopt(until time.Time, a answer) error {
	b := n.change(func(b belief) belief {
		next, other := b.adopt(a)
		if other {
			n.g.raise(n, next.past, clockOf(n.g.config.Now()), a.time)
			n.settled = false
		}
		return next
	})
	if !n.settled {
		if err := n.writeBack(until); err != nil {
			return err
		}
		n.settled = true
	} else if a.revision == b.revision {
		return nil
	}
	return n.catchUp(until, a, b.revision)
}

// fit returns why a server cannot be relied on, or nil. A server that evicts,
// or did meanwhile, may have forgotten tokens.
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
		n.change(belief.doubt)
		return errEviction
	case infoField(info, "aof_enabled") != "1" && !c.AcceptNoAppendOnlyFile:
		return errNoAppendOnlyFile
	}
	if evicted != n.evicted && n.evicted != "" && !c.AcceptEviction {
		n.change(belief.doubt)
	}
	n.evicted = evicted
	return nil
}

// clocksAgree returns an error if the server's clock, read between asked and
// now, is further from the gateway's than ClockSkew. Then the marks would not
// hold.
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

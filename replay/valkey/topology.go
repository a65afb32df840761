package valkey

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// topology says which server has which slots. It is replaced, never changed. A
// server that is no Cluster has the one slot there is.
type topology struct {
	nodes  []*node
	owners []*node // by slot; nil where nobody serves it
	marks  []int64 // by slot: tokens issued up to that second are refused
}

func (t *topology) cluster() bool { return len(t.marks) > 1 }

// slot returns the slot of a key. Their number is the same as long as the guard
// lives.
func (t *topology) slot(key []byte) uint16 {
	if !t.cluster() {
		return 0
	}
	return keySlot(key)
}

// raise has the slots of n refuse tokens issued up to mark. A mark that was made
// while all clocks were far ahead goes, now that they are not.
func (g *Guard) raise(n *node, mark int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.topology.Load()
	next := *old
	next.marks = slices.Clone(old.marks)
	for slot, owner := range old.owners {
		if owner == n {
			if g.config.bogus(state{mark: old.marks[slot]}) {
				next.marks[slot] = mark
			}
			next.marks[slot] = max(next.marks[slot], mark)
		}
	}
	g.topology.Store(&next)
}

// route hands r to who serves its slot.
func (g *Guard) route(r *request) {
	switch n := g.topology.Load().owners[r.slot]; {
	case n == nil:
		g.answer(r, false, ErrCluster)
	case n.retired.Load():
		g.answer(r, false, ErrClosed)
	default:
		n.enqueue(r)
	}
}

// reroute hands r on if another server than n serves its slot.
func (g *Guard) reroute(r *request, n *node) bool {
	if g.topology.Load().owners[r.slot] == n {
		return false
	}
	g.route(r)
	return true
}

// discover makes the first topology, and asks all servers in it whether they are
// fit.
func (g *Guard) discover(ctx context.Context) error {
	if err := g.askAddresses(ctx); err != nil {
		return err
	}
	for _, n := range g.topology.Load().nodes {
		if _, err := n.verify(ctx); err != nil {
			return err
		}
	}
	return nil
}

// askAddresses installs the topology that the configured addresses lead to: the
// first one that answers decides. ctx has a deadline, and each address gets an equal
// share of the time that is left, so that one that never answers does not keep the
// guard from the next.
func (g *Guard) askAddresses(ctx context.Context) (err error) {
	addresses := g.config.Client.InitAddress
	deadline, _ := ctx.Deadline()
	for i, address := range addresses {
		if ctx.Err() != nil {
			return cmp.Or(err, reason(ctx.Err()))
		}
		share := time.Until(deadline) / time.Duration(len(addresses)-i)
		if err = g.askAddress(ctx, address, share); err == nil {
			return nil
		}
	}
	return err
}

// askAddress is askAddresses for one address, within a timeout.
func (g *Guard) askAddress(ctx context.Context, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	limited := g.config
	limited.Timeout = min(limited.Timeout, timeout) // NewClient connects, and knows nothing of ctx
	c, err := client.NewClient(limited.clientOption(address, func(d dialFunc) dialFunc { return d }))
	if c == nil {
		return err
	}
	defer c.Close()
	text, err := c.Do(ctx, c.B().Info().Section("cluster").Build()).ToString()
	if err != nil {
		return reason(err)
	}
	if !parseInfo(text).cluster() {
		if g.topology.Load() != nil {
			return ErrCluster // whatever it is now, it has no slots
		}
		return g.single(address)
	}
	ranges, err := slotRanges(c.Do(ctx, c.B().ClusterSlots().Build()), address)
	if err != nil {
		return err
	}
	return g.install(ranges)
}

func (g *Guard) single(address string) error {
	if len(g.config.Client.InitAddress) > 1 {
		return errSeveral
	}
	n, err := g.newNode(address, newKeys(g.config.Prefix, "0"))
	if err != nil {
		return err
	}
	g.topology.Store(&topology{[]*node{n}, []*node{n}, []int64{0}})
	return nil
}

// slotRange is the slots from first to last, and who serves them.
type slotRange struct {
	first, last int
	address     string
}

const slots = 1 << 14

// slotRanges reads the reply to CLUSTER SLOTS of the server at an address.
func slotRanges(reply client.ValkeyResult, address string) ([]slotRange, error) {
	entries, err := reply.ToArray()
	if err != nil {
		return nil, reason(err)
	}
	ranges := make([]slotRange, 0, len(entries))
	for _, entry := range entries {
		r, ok := parseSlotRange(entry, address)
		if !ok {
			return nil, ErrReply
		}
		ranges = append(ranges, r)
	}
	if len(ranges) == 0 {
		return nil, ErrCluster
	}
	slices.SortFunc(ranges, func(a, b slotRange) int { return a.first - b.first })
	return ranges, nil
}

// parseSlotRange reads [first, last, [host, port, …] of the primary, …].
func parseSlotRange(entry client.ValkeyMessage, address string) (r slotRange, ok bool) {
	fields, err := entry.ToArray()
	if err != nil || len(fields) < 3 {
		return r, false
	}
	first, err1 := fields[0].ToInt64()
	last, err2 := fields[1].ToInt64()
	primary, err3 := fields[2].ToArray()
	if err1 != nil || err2 != nil || err3 != nil || len(primary) < 2 || first < 0 || first > last || last >= slots {
		return r, false
	}
	host, _ := primary[0].ToString()
	if host == "" { // the same as that of who was asked
		host, _, _ = net.SplitHostPort(address)
	}
	port, err := primary[1].ToInt64()
	return slotRange{int(first), int(last), net.JoinHostPort(host, strconv.Itoa(int(port)))}, err == nil
}

// install makes ranges the topology. A server that gets a slot from another one
// may have none of its data (the other one failed over, or was given up), so what
// was issued before now is refused for that slot.
func (g *Guard) install(ranges []slotRange) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closed:
		return ErrClosed
	default:
	}
	old := g.topology.Load()
	if old == nil {
		old = &topology{owners: make([]*node, slots), marks: make([]int64, slots)}
	}
	next, err := g.assign(old, ranges)
	if err != nil {
		return err
	}
	mark := g.mark()
	for slot, owner := range next.owners {
		if owner != old.owners[slot] {
			next.marks[slot] = max(next.marks[slot], mark)
		}
	}
	g.topology.Store(next)
	old.retireBut(next.nodes)
	return nil
}

// retireBut ends the nodes of t that are not among others.
func (t *topology) retireBut(others []*node) {
	for _, n := range t.nodes {
		if !slices.Contains(others, n) {
			n.retire()
			go n.client.Close()
		}
	}
}

// assign makes the nodes of a topology, or takes over those of old.
func (g *Guard) assign(old *topology, ranges []slotRange) (*topology, error) {
	next := &topology{owners: make([]*node, slots), marks: slices.Clone(old.marks)}
	byAddress := make(map[string]*node)
	for _, r := range ranges {
		n := byAddress[r.address]
		if n == nil {
			var err error
			if n, err = g.take(old, r); err != nil {
				return nil, err
			}
			byAddress[r.address] = n
			next.nodes = append(next.nodes, n)
		}
		for slot := r.first; slot <= r.last; slot++ {
			next.owners[slot] = n
		}
	}
	return next, nil
}

// take returns the node for a server whose lowest slot is r.first: all gateways
// have its state in that one.
func (g *Guard) take(old *topology, r slotRange) (*node, error) {
	k := newKeys(g.config.Prefix, slotTag(r.first))
	for _, n := range old.nodes {
		if n.address == r.address {
			if *n.keys.Load() != *k {
				n.keys.Store(k)
				n.verified.Store(nil)
			}
			return n, nil
		}
	}
	return g.newNode(r.address, k)
}

// rediscover asks who serves which slots: the others first, as n has failed or
// sent us away. Workers that come together ask once.
func (g *Guard) rediscover(n *node) {
	t := g.topology.Load()
	if !t.cluster() || !g.mayAsk() {
		return
	}
	others := slices.DeleteFunc(slices.Clone(t.nodes), func(other *node) bool { return other == n })
	if len(others) == 0 {
		others = []*node{n}
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.config.Timeout)
	defer cancel()
	if g.survey(ctx, others...) {
		return
	}
	// They may have taken all of that time.
	ctx, cancel = context.WithTimeout(context.Background(), g.config.Timeout)
	defer cancel()
	_ = g.askAddresses(ctx) // the next attempt finds out
}

// survey asks nodes, one after the other, who serves which slots, and reports
// whether one knew. One that stands still leaves time for the next.
func (g *Guard) survey(ctx context.Context, nodes ...*node) bool {
	for _, n := range nodes {
		ctx, cancel := context.WithTimeout(ctx, g.config.Timeout/4)
		ranges, err := slotRanges(n.client.Do(ctx, n.client.B().ClusterSlots().Build()), n.address)
		cancel()
		if err == nil {
			_ = g.install(ranges)
			return true
		}
	}
	return false
}

// rediscoverEvery is how often the Cluster is asked at most.
const rediscoverEvery = 50 * time.Millisecond

func (g *Guard) mayAsk() bool {
	if !g.mu.TryLock() {
		return false // somebody knows already, and may be connecting
	}
	defer g.mu.Unlock()
	if time.Since(g.refreshed) < rediscoverEvery {
		return false
	}
	g.refreshed = time.Now()
	return true
}

// keySlot returns the slot of a key in a Cluster: the CRC-16 (XMODEM) of it, or
// of what is in its first braces. A token ID is random, and may have braces.
func keySlot(key []byte) uint16 {
	if i := slices.Index(key, '{'); i >= 0 {
		if j := slices.Index(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	crc := uint16(0)
	for _, b := range key {
		crc = crc<<8 ^ crc16[byte(crc>>8)^b]
	}
	return crc % slots
}

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
		table[i] = crc
	}
	return table
}()

// slotTag returns the least number whose decimal digits are in a slot.
func slotTag(slot int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); int(keySlot([]byte(tag))) == slot {
			return tag
		}
	}
}

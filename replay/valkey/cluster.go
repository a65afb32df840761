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
// server that is no Cluster is taken for one with a single slot.
type topology struct {
	nodes  []*node
	owners []*node // by slot; nil where nobody serves it
	marks  []clock // by slot: tokens that count as issued before are refused
}

func (t *topology) cluster() bool { return len(t.marks) > 1 }

// slot returns the slot of a key. It holds for all later topologies of the guard,
// too: a Cluster stays one.
func (t *topology) slot(key []byte) uint16 {
	if !t.cluster() {
		return 0
	}
	return keySlot(key)
}

// raise raises the marks of the slots of n. The caller holds mu.
func (g *Guard) raise(n *node, past, own, server clock) {
	next := *g.topology.Load()
	next.marks = slices.Clone(next.marks)
	for slot, owner := range next.owners {
		if owner == n {
			next.marks[slot] = raise(next.marks[slot], past, own, server)
		}
	}
	g.topology.Store(&next)
	g.count.losses.Add(1)
}

// mapCounts reports whether what is known of slots may be relied on. The caller holds
// mu.
func (g *Guard) mapCounts() bool {
	return !g.topology.Load().cluster() || mapCounts(time.Since(g.mapped))
}

// route hands r to the server that has its slot.
func (g *Guard) route(r *request) {
	n := g.topology.Load().owners[r.slot]
	if n == nil {
		g.answer(r, false, errCluster)
		return
	}
	n.enqueue(r)
}

// reroute hands r on, and reports true, if another server than n has its slot.
func (g *Guard) reroute(r *request, n *node) bool {
	if g.topology.Load().owners[r.slot] == n {
		return false
	}
	g.route(r)
	return true
}

// slotMap is what a server of a Cluster said of its slots.
type slotMap struct {
	ranges []slotRange // ascending
	asked  time.Time   // before
	server clock       // its TIME
}

// install makes the topology that of m. The marks rise of slots that another server
// has now, and of all if the map before is too old.
func (g *Guard) install(m slotMap) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended() {
		return ErrClosed
	}
	old := g.topology.Load()
	if old == nil {
		old = &topology{owners: make([]*node, slots), marks: make([]clock, slots)}
	}
	next, err := g.assign(old, m.ranges)
	if err != nil {
		return err
	}
	own, current := clockOf(g.config.Now()), mapCounts(time.Since(g.mapped))
	for slot, owner := range next.owners {
		if before := old.owners[slot]; owner != before || !current {
			next.marks[slot] = raise(next.marks[slot], max(before.past(), owner.past()), own, m.server)
		}
	}
	g.mapped = m.asked
	g.topology.Store(next)
	old.retireBut(next.nodes)
	return nil
}

// past returns that of the belief in a server, which may be nil. The caller holds the
// guard's lock.
func (n *node) past() clock {
	if n == nil {
		return 0
	}
	return n.belief.past
}

// retireBut ends the nodes of t that are not among kept.
func (t *topology) retireBut(kept []*node) {
	for _, n := range t.nodes {
		if !slices.Contains(kept, n) {
			n.retire()
			go n.close()
		}
	}
}

// assign returns the topology of ranges, with the nodes of old if they are still
// needed, and the marks of old.
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

// take returns the node for the server of r, its first range. All gateways keep the
// nonce of a server in its lowest slot, so its keys are renamed if that changes.
func (g *Guard) take(old *topology, r slotRange) (*node, error) {
	k := newKeys(g.config.Prefix, slotTag(r.first))
	for _, n := range old.nodes {
		if n.address == r.address {
			if *n.keys.Load() != *k {
				n.keys.Store(k)
				n.belief = n.belief.lose()
			}
			return n, nil
		}
	}
	n, err := g.newNode(r.address, k)
	if err == nil && len(old.nodes) > 0 {
		n.belief = n.belief.doubt()
	}
	return n, err
}

// discover makes the first topology, and asks all servers in it whether they are
// fit.
func (g *Guard) discover(ctx context.Context) error {
	if err := g.askAddresses(ctx); err != nil {
		return err
	}
	for _, n := range g.topology.Load().nodes {
		if err := n.verify(ctx); err != nil {
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
	addresses := g.config.Addresses
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

// askAddress installs the topology that one address leads to, within a timeout.
func (g *Guard) askAddress(ctx context.Context, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := g.config.newClient(address, g.config.Dialer)
	if err != nil {
		return err
	}
	defer c.Close()
	text, err := c.Do(ctx, c.B().Info().Section("cluster").Build()).ToString()
	if err != nil {
		return reason(err)
	}
	if infoField(text, "cluster_enabled") != "1" {
		if g.topology.Load() != nil {
			return errCluster // whatever it is now, it has no slots
		}
		return g.single(address)
	}
	m, err := askSlots(ctx, c, address)
	if err != nil {
		return err
	}
	return g.install(m)
}

// single installs the topology of a server that is no Cluster.
func (g *Guard) single(address string) error {
	if len(g.config.Addresses) > 1 {
		return errSeveral
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended() {
		return ErrClosed // New was canceled meanwhile
	}
	n, err := g.newNode(address, newKeys(g.config.Prefix, "0"))
	if err != nil {
		return err
	}
	g.topology.Store(&topology{[]*node{n}, []*node{n}, []clock{0}})
	return nil
}

// rediscover finds out which server has which slots, after n failed or sent a request
// elsewhere. It asks the other servers first, then the configured addresses, for
// Timeout each, or until ctx ends. It does nothing if somebody has just asked.
func (g *Guard) rediscover(ctx context.Context, n *node) {
	t := g.topology.Load()
	if !t.cluster() || !g.mayAsk() {
		return
	}
	others := slices.DeleteFunc(slices.Clone(t.nodes), func(other *node) bool { return other == n })
	if len(others) == 0 {
		others = []*node{n}
	}
	surveying, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	if g.survey(surveying, others...) {
		return
	}
	asking, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	_ = g.askAddresses(asking) // the next attempt finds out
}

// resurvey asks n which server has which slots: they may have moved in such a way that
// no request was sent elsewhere. If n has another lowest slot since, its keys have
// other names, under which other gateways write revocations.
func (g *Guard) resurvey(ctx context.Context, n *node) {
	if g.topology.Load().cluster() && g.mayAsk() {
		g.survey(ctx, n)
	}
}

// survey asks nodes, one after the other, which server has which slots, and reports
// whether one answered. Each has a quarter of Timeout, so that one that stands still
// leaves time for the next.
func (g *Guard) survey(ctx context.Context, nodes ...*node) bool {
	for _, n := range nodes {
		ctx, cancel := context.WithTimeout(ctx, g.config.Timeout/4)
		m, err := askSlots(ctx, n.client, n.address)
		cancel()
		if err == nil {
			_ = g.install(m)
			return true
		}
	}
	return false
}

// surveyEvery is the least time between two surveys of the Cluster.
const surveyEvery = 50 * time.Millisecond

// mayAsk reports whether the Cluster may be surveyed now, and if so counts it as
// done.
func (g *Guard) mayAsk() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.surveyed) < surveyEvery {
		return false
	}
	g.surveyed = time.Now()
	return true
}

// slots is how many slots a Cluster has.
const slots = 1 << 14

// slotRange is the slots from first to last, which the server at address has.
type slotRange struct {
	first, last int
	address     string
}

// askSlots asks the server at address who has which slots.
func askSlots(ctx context.Context, c client.Client, address string) (m slotMap, err error) {
	m.asked = time.Now()
	replies := c.DoMulti(ctx, c.B().ClusterSlots().Build(), c.B().Time().Build())
	if m.ranges, err = slotRanges(replies[0], address); err != nil {
		return m, err
	}
	m.server, err = readTime(replies[1])
	return m, err
}

// slotRanges reads the reply to CLUSTER SLOTS of the server at address.
func slotRanges(reply client.ValkeyResult, address string) ([]slotRange, error) {
	entries, err := reply.ToArray()
	if err != nil {
		return nil, reason(err)
	}
	ranges := make([]slotRange, 0, len(entries))
	for _, entry := range entries {
		r, ok := parseSlotRange(entry, address)
		if !ok {
			return nil, errReply
		}
		ranges = append(ranges, r)
	}
	if len(ranges) == 0 {
		return nil, errCluster
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
	if host == "" { // means that of the server that was asked
		host, _, _ = net.SplitHostPort(address)
	}
	port, err := primary[1].ToInt64()
	return slotRange{int(first), int(last), net.JoinHostPort(host, itoa(int(port)))}, err == nil
}

// keySlot returns the slot of a key in a Cluster: the CRC-16 (XMODEM) of the key, or
// of what is in its first pair of braces, if there is anything. A token ID is random,
// so it may have braces.
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

// slotTag returns the least number whose decimal digits, as a key, have that slot.
// Between braces in a name they make it a key of the slot.
func slotTag(slot int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); int(keySlot([]byte(tag))) == slot {
			return tag
		}
	}
}

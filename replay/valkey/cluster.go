package valkey

import (
	"net"
	"slices"
	"strconv"
	"time"
)

// topology says which server has which slots. It is replaced, never changed. A
// server that is no Cluster counts as one with a single slot.
type topology struct {
	nodes  []*node
	owners []*node // by slot; nil where nobody serves it
	marks  []clock // by slot: older tokens are refused
}

func (t *topology) cluster() bool { return len(t.marks) > 1 }

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

// route hands r to the workers of the server that has its slot. If they end at
// the same time, they or this call find r in the queue, because retired is set
// before they stop.
func (g *Guard) route(r *request) {
	n := g.topology.Load().owners[r.slot]
	if n == nil {
		g.answer(r, false, errCluster)
		return
	}
	n.queue <- r
	if n.retired.Load() {
		n.drain()
	}
}

// install makes m the topology. It raises the marks of slots that another
// server has now, and of all slots if the map before is too old.
func (g *Guard) install(m slotMap) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.topology.Load()
	switch {
	case g.ended():
		return ErrClosed // New was canceled meanwhile
	case old.marks == nil && m.slots == 1 && len(g.config.Addresses) > 1:
		return errSeveral
	case old.marks == nil:
		old = &topology{owners: make([]*node, m.slots), marks: make([]clock, m.slots)}
	case m.slots != len(old.marks):
		return errCluster // it has no slots
	}
	next := g.assign(old, m.ranges)
	own, since := clockOf(g.config.Now()), time.Since(g.mapped)
	for slot, owner := range next.owners {
		before := old.owners[slot]
		if !slotRaises(before == owner, since) {
			continue
		}
		var past clock
		if before != nil {
			past = before.belief.past
		}
		next.marks[slot] = raise(next.marks[slot], past, own, m.server)
	}
	g.mapped = m.asked
	g.topology.Store(next)
	for _, n := range old.nodes {
		if !slices.Contains(next.nodes, n) {
			n.retire()
		}
	}
	return nil
}

// assign returns the topology of ranges, with the nodes of old that are still
// needed, and the marks of old.
func (g *Guard) assign(old *topology, ranges []slotRange) *topology {
	next := &topology{owners: make([]*node, len(old.owners)), marks: slices.Clone(old.marks)}
	byAddress := make(map[string]*node)
	for _, r := range ranges {
		n := byAddress[r.address]
		if n == nil {
			n = g.take(old, r)
			byAddress[r.address] = n
			next.nodes = append(next.nodes, n)
		}
		for slot := r.first; slot <= r.last; slot++ {
			next.owners[slot] = n
		}
	}
	return next
}

// take returns the node for the server of r, its first range. All gateways keep
// the nonce of a server in its lowest slot, so take renames its keys if that
// changes.
func (g *Guard) take(old *topology, r slotRange) *node {
	k := newKeys(g.config.Prefix, slotTag(r.first, len(old.owners)))
	for _, n := range old.nodes {
		if n.address == r.address {
			if *n.keys.Load() != *k {
				n.keys.Store(k)
				n.belief = n.belief.lose()
			}
			return n
		}
	}
	n := g.newNode(r.address, k)
	if len(old.nodes) > 0 {
		n.belief = n.belief.doubt()
	}
	return n
}

// rediscover finds out which server has which slots, after n failed or sent a
// request elsewhere. It does nothing if somebody has just asked.
func (g *Guard) rediscover(n *node) {
	t := g.topology.Load()
	if !t.cluster() || !g.maySurvey() {
		return
	}
	others := slices.DeleteFunc(slices.Clone(t.nodes), func(other *node) bool { return other == n })
	// The next attempt finds out.
	_ = g.survey(time.Now().Add(2*g.config.Timeout), others...)
}

// survey installs the topology from the first of nodes, and then of the
// configured addresses, that knows it. Each gets an equal share of the time
// left, and a node a quarter of Timeout at most, so that one that never answers
// leaves time for the next.
func (g *Guard) survey(until time.Time, nodes ...*node) (err error) {
	left := len(nodes) + len(g.config.Addresses)
	share := func() time.Duration {
		left--
		return time.Until(until) / time.Duration(left+1)
	}
	for _, n := range nodes {
		until := time.Now().Add(min(share(), g.config.Timeout/4))
		l, e := n.connect(until)
		if err = e; err == nil {
			err = g.askSlots(until, l, n.address)
		}
		if err == nil {
			return nil
		}
	}
	for _, address := range g.config.Addresses {
		until := time.Now().Add(share())
		l, e := g.config.dial(until, address)
		if err = e; err != nil {
			continue
		}
		err = g.askSlots(until, l, address)
		_ = l.close(err)
		if err == nil || err == errSeveral {
			break
		}
	}
	return err
}

// maySurvey reports whether the Cluster may be surveyed now, and if so counts
// it as done.
func (g *Guard) maySurvey() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.surveyed) < 50*time.Millisecond {
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

// slotMap is what a server said of its slots. A server that is no Cluster has
// one.
type slotMap struct {
	slots  int
	ranges []slotRange // ascending
	asked  time.Time   // before
	server clock       // its TIME
}

// askSlots installs the topology that the server at address knows.
func (g *Guard) askSlots(until time.Time, l *link, address string) error {
	var p pipeline
	p.add("INFO", "cluster")
	p.add("CLUSTER", "SLOTS")
	p.add("TIME")
	m := slotMap{slots: 1, ranges: []slotRange{{address: address}}, asked: time.Now()}
	replies, err := l.roundTrip(until, &p, nil)
	if err != nil {
		return err
	}
	info, err := replies[0].string()
	if err != nil {
		return err
	}
	if infoField(info, "cluster_enabled") == "1" {
		m.slots = slots
		if m.ranges, err = slotRanges(replies[1], address); err != nil {
			return err
		}
	}
	if m.server, err = readTime(replies[2]); err != nil {
		return err
	}
	return g.install(m)
}

// slotRanges reads the reply to CLUSTER SLOTS of the server at address: entries
// of [first, last, [host, port, …] of the primary, …].
func slotRanges(v reply, address string) ([]slotRange, error) {
	if v.kind != '*' {
		return nil, v.odd()
	}
	ranges := make([]slotRange, 0, len(v.array))
	for _, entry := range v.array {
		if len(entry.array) < 3 || len(entry.array[2].array) < 2 {
			return nil, errReply
		}
		first, err1 := strconv.Atoi(entry.array[0].text)
		last, err2 := strconv.Atoi(entry.array[1].text)
		if err1 != nil || err2 != nil || first < 0 || first > last || last >= slots {
			return nil, errReply
		}
		host, port := entry.array[2].array[0].text, entry.array[2].array[1].text
		if host == "" { // that of the server that was asked
			host, _, _ = net.SplitHostPort(address)
		}
		ranges = append(ranges, slotRange{first, last, net.JoinHostPort(host, port)})
	}
	if len(ranges) == 0 {
		return nil, errCluster
	}
	slices.SortFunc(ranges, func(a, b slotRange) int { return a.first - b.first })
	return ranges, nil
}

// keySlot returns the slot of a key, of so many: the CRC-16 (XMODEM) of the
// key, or of what is in its first pair of braces, if there is anything. A token
// ID is random, so it may have braces.
func keySlot(key []byte, of int) int {
	if i := slices.Index(key, '{'); i >= 0 {
		if j := slices.Index(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	crc := uint16(0)
	for _, b := range key {
		crc = crc<<8 ^ crc16[byte(crc>>8)^b]
	}
	return int(crc) % of
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

// slotTag returns the least number whose decimal digits, as a key, have that
// slot, of so many. A name with these digits between braces is a key of the
// slot.
func slotTag(slot, of int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); keySlot([]byte(tag), of) == slot {
			return tag
		}
	}
}

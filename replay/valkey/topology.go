package valkey

import "slices"

// topology says which server has which slots. It is replaced, never changed. A
// server that is no Cluster is taken for one with a single slot.
type topology struct {
	nodes  []*node
	owners []*node // by slot; nil where nobody serves it
	marks  []int64 // by slot: tokens issued up to a ClockSkew after that Unix second are refused
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

// raise has the slots of n refuse tokens by mark, if they did not refuse even later
// ones. A bogus mark is replaced: it was made when all clocks were far ahead.
func (g *Guard) raise(n *node, mark int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.topology.Load()
	next := *old
	next.marks = slices.Clone(old.marks)
	for slot, owner := range old.owners {
		if owner == n && (mark > old.marks[slot] || g.config.bogus(old.marks[slot])) {
			next.marks[slot] = mark
		}
	}
	g.topology.Store(&next)
}

// route hands r to the server that has its slot.
func (g *Guard) route(r *request) {
	n := g.topology.Load().owners[r.slot]
	if n == nil {
		g.answer(r, false, ErrCluster)
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

// install makes the topology that of ranges. A server that takes over a slot may have
// none of its data, because the one before it is dead: so for that slot, what was
// issued before now is refused.
func (g *Guard) install(ranges []slotRange) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended() {
		return ErrClosed
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

// retireBut ends the nodes of t that are not among kept.
func (t *topology) retireBut(kept []*node) {
	for _, n := range t.nodes {
		if !slices.Contains(kept, n) {
			n.retire()
			go n.close()
		}
	}
}

// assign returns the topology of ranges, with the nodes of old where they are still
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
// state of a server in its lowest slot, so its keys are renamed when that changes.
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

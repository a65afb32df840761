package valkey

import "slices"

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

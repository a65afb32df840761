package valkey

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// discover makes the first topology, and asks all servers in it whether they are
// fit.
func (g *Guard) discover(ctx context.Context) error {
	if err := g.askAddresses(ctx); err != nil {
		return err
	}
	t := g.topology.Load()
	for _, n := range t.nodes {
		if _, err := n.verify(ctx); err != nil {
			return err
		}
		if t.cluster() {
			g.raise(n, g.mark()) // now that the server's clock is known
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

// askAddress installs the topology that one address leads to, within a timeout.
func (g *Guard) askAddress(ctx context.Context, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := g.config.newClient(address, func(d dialFunc) dialFunc { return d })
	if err != nil {
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

// single installs the topology of a server that is no Cluster.
func (g *Guard) single(address string) error {
	if len(g.config.Client.InitAddress) > 1 {
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
	g.topology.Store(&topology{[]*node{n}, []*node{n}, []int64{0}})
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

// survey asks nodes, one after the other, which server has which slots, and reports
// whether one answered. Each has a quarter of Timeout, so that one that stands still
// leaves time for the next.
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

// surveyEvery is the least time between two surveys of the Cluster.
const surveyEvery = 50 * time.Millisecond

// mayAsk reports whether the Cluster may be surveyed now, and if so counts it as
// done.
func (g *Guard) mayAsk() bool {
	if !g.mu.TryLock() {
		return false // a topology is just being installed
	}
	defer g.mu.Unlock()
	if time.Since(g.surveyed) < surveyEvery {
		return false
	}
	g.surveyed = time.Now()
	return true
}

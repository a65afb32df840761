package etcd

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// rehearse sends all that a guard does, in a transaction whose condition is
// never met. The cluster checks the permissions all the same.
func (g *Guard) rehearse(ctx context.Context) error {
	p := g.config.Prefix
	_, err := g.link.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value(p+markerKey), "=", "")},
		[]clientv3.Op{
			clientv3.OpPut(p+markerKey, ""), clientv3.OpPut(p+counterKey, ""), clientv3.OpPut(p+gatewayKey, ""),
			clientv3.OpPut(p+spentKey, ""), clientv3.OpPut(p+revokedKey, ""),
			clientv3.OpGet(p + spentKey), clientv3.OpGet(p+revokedKey, clientv3.WithPrefix()),
		},
		[]clientv3.Op{clientv3.OpGet(p + markerKey)})
	return err
}

// beat sends the heartbeat every second until the guard is closed: it raises
// the gateway's counter, and learns what was revoked. It also looks at the
// clocks, in case nobody spends.
func (g *Guard) beat() {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%30 == 0 {
			g.measure()
		}
		select {
		case <-g.ctx.Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(g.ctx, 2*patience)
		g.count.note(g.update(ctx, true))
		cancel()
		g.mu.Lock()
		at := g.instant()
		g.history.notice(at)
		g.leases.sweep(at)
		g.mu.Unlock()
	}
}

// measure asks the member for the size of its data. If it fails, Stats keeps
// the last answer.
func (g *Guard) measure() {
	_ = g.link.do(g.ctx, func(ctx context.Context, c *clientv3.Client) error {
		status, err := c.Status(ctx, c.Endpoints()[0])
		if err == nil {
			g.count.change(func(s *Stats) {
				s.Size, s.InUse, s.Quota = status.DbSize, status.DbSizeInUse, status.DbSizeQuota
			})
		}
		return err
	})
}

// update reads the cluster until the belief holds and all revocations are
// known. If the belief doesn't hold, update makes another, and raises the mark.
//
// A watch would tell of revocations a little earlier, but it can be compacted
// away, break or fall silent. This read misses none, and happens each second
// anyway.
func (g *Guard) update(ctx context.Context, beating bool) error {
	select {
	case g.updating <- struct{}{}:
		defer func() { <-g.updating }()
	case <-ctx.Done():
		return errTimeout
	}
	for range 8 {
		g.mu.Lock()
		b, at := g.believed()
		doubted := g.doubted
		g.mu.Unlock()
		before := g.config.Now()
		reply, err := g.read(ctx, &b, beating)
		if err != nil {
			return err
		}
		if reply.Succeeded {
			if reply.Header.GetRevision() < b.revision {
				g.doubt()
				continue
			}
			if beating {
				b.beaten(random())
				b.beat = at
			}
			if err := g.learn(b, reply); err != nil {
				return err
			}
			g.synced.Store(&before)
			return g.writeBack(ctx)
		}
		r := reading{valueAt(reply, 1), valueAt(reply, 2), valueAt(reply, 0)}
		switch f := b.judge(r); f {
		case holds:
		case beats:
			b.beaten(random())
			g.believe(b)
		default:
			if err := g.join(ctx, r, f == restored || doubted); err != nil {
				return err
			}
		}
	}
	return errChanging
}

// believed returns the belief, or nobody's if it is over or in doubt. The
// caller holds g.mu.
func (g *Guard) believed() (belief, instant) {
	at := g.instant()
	if g.doubted || g.belief.over(at) {
		return belief{gateway: g.config.Prefix + gatewayKey}, at
	}
	return g.belief, at
}

// doubt gives up the belief until the gateway has joined. The cluster's
// revision was lower than before, so it was restored.
func (g *Guard) doubt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doubted = true
}

func (g *Guard) believe(b belief) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.belief = b
}

// read asks for what is new if the cluster is as believed, and otherwise for
// the marker and the own key. If beating, it also raises the counter.
func (g *Guard) read(ctx context.Context, b *belief, beating bool) (*clientv3.TxnResponse, error) {
	p := g.config.Prefix
	own := condition{b.gateway, ">", b.atLeast()}
	counter := clientv3.OpGet(p + counterKey)
	then := []clientv3.Op{counter, clientv3.OpTxn(
		compare([]condition{{p + counterKey, "=", b.revocations}}),
		nil,
		[]clientv3.Op{clientv3.OpGet(p+revokedKey, clientv3.WithPrefix(), clientv3.WithMinModRev(b.revision+1))})}
	if beating {
		l, err := g.ownLease(ctx)
		if err != nil {
			return nil, err
		}
		own = condition{b.gateway, "=", b.value}
		then = append(then, clientv3.OpPut(b.gateway, b.next, clientv3.WithLease(l.id)))
	}
	ifs := append(compare([]condition{{p + markerKey, "=", b.marker}, own}),
		clientv3.Compare(clientv3.CreateRevision(p+counterKey), ">", 0))
	reply, err := g.link.txn(ctx, ifs, then,
		[]clientv3.Op{counter, clientv3.OpGet(p + markerKey), clientv3.OpGet(b.gateway)})
	if err == errLease {
		g.beatsOn = nil
	}
	return reply, err
}

// ownLease returns the lease for the gateway's own key. It is not kept alive: a
// new one takes its place early.
func (g *Guard) ownLease(ctx context.Context) (_ *lease, err error) {
	at := g.instant()
	if g.beatsOn == nil || g.beatsOn.left(at) < duration(beatLife)*2/3 {
		g.beatsOn, err = g.link.grant(ctx, int64(beatLife/time.Second), at)
	}
	return g.beatsOn, err
}

// learn enters what was revoked. Only then is the counter known, so no spend
// passes before.
func (g *Guard) learn(b belief, reply *clientv3.TxnResponse) error {
	if len(reply.Responses) < 2 {
		return errReply
	}
	news := reply.Responses[1].GetResponseTxn()
	switch {
	case news.GetSucceeded():
		g.believe(b)
		return nil
	case len(news.GetResponses()) == 0:
		return errReply
	}
	for _, kv := range news.Responses[0].GetResponseRange().GetKvs() {
		second, ok := momentOf(kv.Value)
		if !ok {
			continue // no guard wrote it
		}
		err := g.enlist(targetOf(kv.Key[len(g.config.Prefix+revokedKey):]), second)
		if errors.Is(err, replay.ErrFull) {
			return errRevocations
		}
	}
	b.revocations, b.revision = valueAt(reply, 0), reply.Header.GetRevision()
	g.believe(b)
	return nil
}

// enlist enters a revocation, dated by the clock: its moment may be in the
// future, and would make others seem to have expired.
func (g *Guard) enlist(t token.Target, second int64) error {
	now := g.config.Now()
	if t.Token != (token.ID{}) {
		_ = g.reserve(now, t) // only Revoke minds if that is full
	}
	return g.revoked.Revoke(now, t, time.Unix(second, 0))
}

// join gives the gateway a new key under the marker that was read, or under a
// new one, and believes in that. If the marker has changed since, it writes
// nothing. It raises the mark last, by the clock at that time.
//
// Each attempt has a new key, so one that is executed late has no effect.
func (g *Guard) join(ctx context.Context, r reading, replace bool) error {
	g.beatsOn = nil
	l, err := g.ownLease(ctx)
	if err != nil {
		return err
	}
	p := g.config.Prefix
	b := believeIn(r.marker, p+gatewayKey+hex.EncodeToString([]byte(random())), random(), random())
	b.beat = g.instant()
	unchanged := clientv3.Compare(clientv3.Value(p+markerKey), "=", r.marker)
	if r.marker == "" {
		unchanged = clientv3.Compare(clientv3.CreateRevision(p+markerKey), "=", 0)
	}
	then := []clientv3.Op{
		clientv3.OpPut(b.gateway, b.value, clientv3.WithLease(l.id)),
		clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(p+counterKey), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(p+counterKey, random())}, nil),
	}
	if replace {
		b.marker = random()
		then = append(then, clientv3.OpPut(p+markerKey, b.marker))
	}
	reply, err := g.link.txn(ctx, []clientv3.Cmp{unchanged}, then, nil)
	if err != nil || !reply.Succeeded {
		return err
	}
	g.owing = true
	g.count.change(func(s *Stats) { s.Losses++ })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history.raise(g.instant())
	g.belief, g.doubted, g.leases = b, false, leases{}
	return nil
}

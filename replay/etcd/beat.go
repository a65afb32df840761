package etcd

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/replay"
)

// rehearse does everything that a guard does, in a transaction whose condition is
// never met: permissions are checked all the same.
func (g *Guard) rehearse(ctx context.Context) error {
	p := g.config.Prefix
	_, err := g.link.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value(p+markerKey), "=", "")},
		[]clientv3.Op{
			clientv3.OpPut(p+markerKey, ""), clientv3.OpPut(p+counterKey, ""), clientv3.OpPut(p+gatewayKey, ""),
			clientv3.OpPut(p+spentKey, ""), clientv3.OpPut(p+revokedKey, ""),
			clientv3.OpGet(p+revokedKey, clientv3.WithPrefix()), clientv3.OpDelete(p + revokedKey + "a"),
		},
		[]clientv3.Op{clientv3.OpGet(p + markerKey)})
	return err
}

// beats raises the gateway's counter every second, and so learns what was revoked,
// until the guard is closed. It also looks at the clocks, if nobody spends.
func (g *Guard) beats() {
	ticker := time.NewTicker(beat)
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

// measure asks the member for the size of its data.
func (g *Guard) measure() {
	// What fails, Stats shows as zero or as it was.
	_ = g.link.do(g.ctx, func(ctx context.Context, c *clientv3.Client) error {
		status, err := c.Status(ctx, c.Endpoints()[0])
		if err == nil {
			g.count.size.Store(status.DbSize)
			g.count.inUse.Store(status.DbSizeInUse)
			g.count.quota.Store(status.DbSizeQuota)
		}
		return err
	})
}

// update reads the cluster until it is as believed and all revocations are known. If
// it is not, update believes something else, and raises the mark.
func (g *Guard) update(ctx context.Context, beats bool) error {
	select {
	case g.updating <- struct{}{}:
		defer func() { <-g.updating }()
	case <-ctx.Done():
		return errTimeout
	}
	for range 8 {
		g.mu.Lock()
		b := g.belief
		g.mu.Unlock()
		before := g.config.Now()
		reply, err := g.read(ctx, &b, beats)
		if err != nil {
			return err
		}
		if reply.Succeeded && valueAt(reply, 0) != "" {
			g.believe(&b, beats)
			if err := g.learn(&b, reply); err != nil {
				return err
			}
			g.synced.Store(&before)
			return g.writeBack(ctx)
		}
		r := reading{valueAt(reply, 1), valueAt(reply, 2), valueAt(reply, 0)}
		if reply.Succeeded {
			r.revocations = ""
		}
		switch f := b.judge(r); f {
		case holds:
		case beaten:
			g.believe(&b, true)
		default:
			if err := g.join(ctx, r, f == restored); err != nil {
				return err
			}
		}
	}
	return errChanged
}

// read asks for what is new if the cluster is as believed, and raises the counter if
// it is to beat; else for what there is.
func (g *Guard) read(ctx context.Context, b *belief, beats bool) (*clientv3.TxnResponse, error) {
	p := g.config.Prefix
	counter := clientv3.OpGet(p + counterKey)
	own := clientv3.Compare(clientv3.Value(b.gateway), ">", b.atLeast())
	then := []clientv3.Op{counter, clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value(p+counterKey), "=", b.revocations)},
		nil,
		[]clientv3.Op{clientv3.OpGet(p+revokedKey, clientv3.WithPrefix(), clientv3.WithMinModRev(b.revision+1))},
	)}
	if beats {
		id, err := g.ownLease(ctx)
		if err != nil {
			return nil, err
		}
		own = clientv3.Compare(clientv3.Value(b.gateway), "=", b.value)
		then = append(then, clientv3.OpPut(b.gateway, b.next, clientv3.WithLease(id)))
	}
	reply, err := g.link.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value(p+markerKey), "=", b.marker), own},
		then,
		[]clientv3.Op{counter, clientv3.OpGet(p + markerKey), clientv3.OpGet(b.gateway)})
	if err == errLease {
		g.beatLease = lease{}
	}
	return reply, err
}

// ownLease returns the lease for the gateway's own key. A new one takes its place
// early, because it is not kept alive.
func (g *Guard) ownLease(ctx context.Context) (clientv3.LeaseID, error) {
	if g.beatLease.left(g.instant()) > duration(beatLife)*2/3 {
		return clientv3.LeaseID(g.beatLease.id), nil
	}
	at := g.instant()
	reply, err := g.link.grant(ctx, int64(beatLife/time.Second))
	if err != nil {
		return 0, err
	}
	g.beatLease = lease{id: int64(reply.ID), asked: at, ttl: duration(time.Duration(reply.TTL) * time.Second)}
	return reply.ID, nil
}

// believe records that the beat under way was executed, if there was one.
func (g *Guard) believe(b *belief, beaten bool) {
	if !beaten {
		return
	}
	b.count++
	b.value, b.next = b.next, beatValue(b.count+2, random())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.belief = *b
}

// learn enters what was revoked. Only then is the counter known, so that no spend
// passes until all is entered.
func (g *Guard) learn(b *belief, reply *clientv3.TxnResponse) error {
	news := reply.Responses[1].GetResponseTxn()
	if news.GetSucceeded() {
		return nil
	}
	prefix := len(g.config.Prefix + revokedKey)
	for _, kv := range news.GetResponses()[0].GetResponseRange().GetKvs() {
		second, ok := momentOf(string(kv.Value))
		t := targetOf(string(kv.Key[prefix:]))
		if !ok {
			continue // nothing that a guard wrote
		}
		if t.Everyone {
			g.everyone = max(g.everyone, second)
		}
		moment := time.Unix(second, 0)
		// It is entered with the moment as now: of a single token that is when it
		// was revoked.
		if err := g.revoked.Revoke(moment, t, moment); errors.Is(err, replay.ErrFull) {
			return errRevocations
		}
	}
	b.revocations, b.revision = valueAt(reply, 0), reply.Header.Revision
	g.mu.Lock()
	defer g.mu.Unlock()
	g.belief = *b
	return nil
}

// join makes the gateway a new key under the marker that was read, or under a new
// one, and believes that. If the marker has changed meanwhile, nothing is written. The
// mark is raised when all is done, by the clock as it is then.
//
// The key is new in each attempt: what is executed late is a key of nobody.
func (g *Guard) join(ctx context.Context, r reading, replace bool) error {
	p := g.config.Prefix
	g.beatLease = lease{}
	id, err := g.ownLease(ctx)
	if err != nil {
		return err
	}
	b := belief{marker: r.marker, gateway: p + gatewayKey + hex.EncodeToString([]byte(random()))}
	b.count, b.value, b.next = 1, beatValue(1, random()), beatValue(2, random())
	unchanged := clientv3.Compare(clientv3.Value(p+markerKey), "=", r.marker)
	if r.marker == "" {
		unchanged = clientv3.Compare(clientv3.CreateRevision(p+markerKey), "=", 0)
	}
	then := []clientv3.Op{
		clientv3.OpPut(b.gateway, b.value, clientv3.WithLease(id)),
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
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history.raise(g.instant())
	g.belief, g.leases = b, leases{}
	g.owing = true
	g.count.losses.Add(1)
	return nil
}

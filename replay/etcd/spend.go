package etcd

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// workers is how many transactions are under way at a time. While one is, the
// next one fills.
const workers = 2

// signal tells a worker that there may be a batch to form.
func (g *Guard) signal() {
	select {
	case g.wake <- struct{}{}:
	default: // one will look anyway
	}
}

// work forms batches and spends them until the guard is closed.
func (g *Guard) work() {
	for pause := minPause; g.ctx.Err() == nil; {
		batch, b := g.next()
		if len(batch) == 0 {
			select {
			case <-g.wake:
			case <-g.ctx.Done():
			}
			continue
		}
		g.signal() // there may be more for another worker
		if g.try(batch, b) {
			pause = minPause
			continue
		}
		g.pause(pause)
		pause = min(2*pause, maxPause)
	}
}

func (g *Guard) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-g.ctx.Done():
	}
}

// next takes a batch from the queue, and asks for leases if there are too few.
func (g *Guard) next() ([]*call, belief) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.instant()
	batch, rest, gone := form(g.queue, at, func(c *call) *lease {
		expires, now := c.token.Expiration.Unix(), c.slowest(at)
		l := g.leases.take(expires, now, at)
		for _, second := range g.leases.ask(expires, now, at) {
			g.tasks.Go(func() { g.grant(second, leaseTTL(second, now)) })
		}
		return l
	})
	g.queue = rest
	g.waiting -= len(gone)
	b, _ := g.believed()
	return batch, b
}

// grant asks for a lease that next wants. After a failure it waits a little,
// because next asks again.
func (g *Guard) grant(expires, seconds int64) {
	l, err := g.link.grant(g.ctx, seconds, g.instant())
	if err != nil {
		g.count.note(err)
		g.repeat(g.without(expires), err)
		g.pause(maxPause)
	}
	g.mu.Lock()
	g.leases.answer(expires, l)
	g.mu.Unlock()
	g.signal()
}

// without takes the calls with that expiration from the queue.
func (g *Guard) without(expires int64) (calls []*call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = slices.DeleteFunc(g.queue, func(c *call) bool {
		found := c.token.Expiration.Unix() == expires
		if found {
			calls = append(calls, c)
		}
		return found
	})
	return calls
}

// try spends a batch in one transaction. It reports false if the next one
// should wait.
func (g *Guard) try(batch []*call, b belief) bool {
	ops := make([]clientv3.Op, len(batch))
	for i, c := range batch {
		ops[i] = clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(c.key, c.value, clientv3.WithLease(c.used[len(c.used)-1].id))},
			[]clientv3.Op{clientv3.OpGet(c.key)})
	}
	reply, err := g.link.txn(g.ctx, compare(b.conditions(g.config.Prefix)), ops, nil)
	older := err == nil && reply.Header.GetRevision() < b.revision
	if older {
		g.doubt()
	}
	switch {
	case err == nil && reply.Succeeded && !older && !b.over(g.instant()):
		g.answer(batch, reply)
		return true
	case err == nil: // other than believed: what it wrote doesn't count
		ctx, cancel := context.WithTimeout(g.ctx, 2*patience)
		defer cancel()
		err = g.update(ctx, false)
	}
	g.repeat(batch, err)
	return err == nil || err == errLease
}

// compare makes conditions the client's.
func compare(conditions []condition) []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, len(conditions))
	for i, c := range conditions {
		cmps[i] = clientv3.Compare(clientv3.Value(c.key), c.op, c.value)
	}
	return cmps
}

// answer answers the calls of a transaction that was executed.
func (g *Guard) answer(batch []*call, reply *clientv3.TxnResponse) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.instant()
	g.history.notice(at)
	for i, c := range batch {
		var o outcome
		if i < len(reply.Responses) {
			one := (*clientv3.TxnResponse)(reply.Responses[i].GetResponseTxn())
			o.created = one != nil && one.Succeeded
			o.value = valueAt(one, 0)
		}
		fresh, err := c.judge(o, &g.history, at)
		g.end(c, answer{fresh, err})
	}
}

// valueAt returns the value that the i-th request of a transaction got, or ""
// if the key is missing.
func valueAt(reply *clientv3.TxnResponse, i int) string {
	if reply == nil || i >= len(reply.Responses) {
		return ""
	}
	kvs := reply.Responses[i].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return ""
	}
	return string(kvs[0].Value)
}

// end answers one call. The caller holds g.mu.
func (g *Guard) end(c *call, a answer) {
	g.waiting--
	c.answer <- a
}

// repeat puts calls back to the front of the queue, or answers those that
// another attempt cannot help.
func (g *Guard) repeat(calls []*call, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.instant()
	var again []*call
	for _, c := range calls {
		if err == errLease {
			c.used[len(c.used)-1].missing = true
		}
		if c.failed = err; err == nil || passes(err) {
			// The mark may have moved.
			err := g.history.ruling(c.token, c.now, at)
			if err == nil {
				again = append(again, c)
				continue
			}
			c.failed = err
		}
		g.end(c, answer{false, c.failed})
	}
	g.queue = append(again, g.queue...)
	g.signal()
}

package etcd

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/token"
)

// recent is a revocation of the last minute: a restored cluster may not have it.
type recent struct {
	target token.Target
	second int64
	at     millis // on the monotonic clock
}

// maxRecent is how many of them are written back.
const maxRecent = 1024

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore, as token.Summary.IssuedBefore has it. For a Token the moment does not
// matter. When Revoke returns nil, every gateway refuses the tokens in each Spend that
// begins later, and knows of it for its sessions within about a second. Of several
// calls the latest moment counts.
//
// On an error of this package it is in force here, and may be elsewhere: repeat the
// call. The others are those of replay.Revocations, after which nothing is revoked.
// Revoke takes Config.Timeout at most, and not longer than ctx.
//
// The cluster keeps a revocation for three hours and a minute, which is as long as a
// session that it applies to can last. When there are Config.MaxRevocations, the
// earlier moments become one revocation of everyone, as in replay.Revocations.
func (g *Guard) Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error {
	if !g.made() {
		return ErrClosed
	}
	now := g.config.Now()
	if err := g.revoked.Revoke(now, t, issuedBefore); err != nil {
		return err
	}
	second := min(max(issuedBefore.Unix(), 0), maxSecond)
	if t.Token != (token.ID{}) {
		second = now.Unix()
	}
	return g.within(ctx, func(ctx context.Context) error {
		if err := g.storeMerged(ctx); err != nil {
			return err
		}
		g.remember(t, second)
		return g.store(ctx, t, second)
	})
}

// within runs f, which ends with ctx or after Config.Timeout.
func (g *Guard) within(ctx context.Context, f func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	err := heed(limited, func() error { return f(limited) })
	switch {
	case err == nil:
	case g.ctx.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return ErrCanceled
	}
	return err
}

// remember keeps a revocation for a minute, to be written back.
func (g *Guard) remember(t token.Target, second int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.instant().steady
	g.recent = slices.DeleteFunc(g.recent, func(r recent) bool {
		return r.target == t || at-r.at > duration(time.Minute)
	})
	if len(g.recent) == maxRecent {
		g.recent = g.recent[1:]
	}
	g.recent = append(g.recent, recent{t, second, at})
}

// writeBack stores again what a cluster may have lost, before it is used.
func (g *Guard) writeBack(ctx context.Context) error {
	g.mu.Lock()
	known, at := slices.Clone(g.recent), g.instant().steady
	g.mu.Unlock()
	if !g.owing {
		return nil
	}
	for _, r := range known {
		if at-r.at > duration(time.Minute) {
			continue
		}
		if err := g.store(ctx, r.target, r.second); err != nil {
			return err
		}
	}
	g.owing = false
	return nil
}

// store writes a revocation, unless there is a later one of the same target, and
// another value of the counter, in one transaction: it is there for every spend, or
// for none.
func (g *Guard) store(ctx context.Context, t token.Target, second int64) error {
	p := g.config.Prefix
	key, counter := p+revokedKey+nameOf(t), random()
	enough := clientv3.Compare(clientv3.Value(key), ">", momentValue(second-1))
	if t.Token != (token.ID{}) {
		enough = clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
	}
	ttl := revocationTTL(second, millisOf(g.config.Now()))
	return persist(ctx, func() error {
		granted, err := g.link.grant(ctx, ttl)
		if err != nil {
			return err
		}
		_, err = g.link.txn(ctx, []clientv3.Cmp{enough}, nil, []clientv3.Op{
			clientv3.OpPut(key, momentValue(second), clientv3.WithLease(granted.ID)),
			clientv3.OpPut(p+counterKey, counter),
		})
		return err
	})
}

// storeMerged tells the cluster what lack of room made into one revocation of
// everyone here, and removes there what that covers.
func (g *Guard) storeMerged(ctx context.Context) error {
	all := g.revoked.Stats().All
	if all.IsZero() {
		return nil
	}
	select {
	case g.updating <- struct{}{}:
		defer func() { <-g.updating }()
	case <-ctx.Done():
		return errTimeout
	}
	if all.Unix() <= g.everyone {
		return nil
	}
	if err := g.store(ctx, token.Target{Everyone: true}, all.Unix()); err != nil {
		return err
	}
	g.everyone = all.Unix()
	go func() { g.count.note(g.prune(all.Unix())) }()
	return nil
}

// prune removes the revocations that one of everyone covers, but for those of single
// tokens, which apply to later ones, too.
func (g *Guard) prune(all int64) error {
	prefix := g.config.Prefix + revokedKey
	reply, err := g.link.txn(g.ctx, nil, []clientv3.Op{clientv3.OpGet(prefix, clientv3.WithPrefix())}, nil)
	if err != nil {
		return err
	}
	var deletes []clientv3.Op
	for _, kv := range reply.Responses[0].GetResponseRange().GetKvs() {
		key, value := string(kv.Key), string(kv.Value)
		if value > momentValue(all) || key[len(prefix)] == 'a' || key[len(prefix)] == 't' {
			continue
		}
		deletes = append(deletes, clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", value)},
			[]clientv3.Op{clientv3.OpDelete(key)}, nil))
	}
	for some := range slices.Chunk(deletes, maxBatch) {
		if _, err := g.link.txn(g.ctx, nil, some, nil); err != nil {
			return err
		}
	}
	return nil
}

// Sync learns what other gateways have revoked, and hands over every target that came
// into force here since the last call, as replay.Revocations.News does, also if it
// fails to learn more. One goroutine calls it, every few seconds. It takes
// Config.Timeout at most, and not longer than ctx.
func (g *Guard) Sync(ctx context.Context, news func(token.Target, time.Time)) error {
	if !g.made() {
		return ErrClosed
	}
	err := g.within(ctx, func(ctx context.Context) error {
		return persist(ctx, func() error { return g.update(ctx, false) })
	})
	g.revoked.News(news)
	return err
}

// Synced returns how old the knowledge of what others revoked is: it is complete as of
// that moment, by Config.Now. While the cluster answers, that is a second ago, whether
// anybody calls [Guard.Sync] or not. Of a zero or nil Guard it is the zero time.
func (g *Guard) Synced() time.Time {
	if !g.made() {
		return time.Time{}
	}
	return *g.synced.Load()
}

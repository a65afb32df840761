package etcd

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/token"
)

// recent is a revocation of the last minute, which a restored cluster may lack.
type recent struct {
	target token.Target
	second int64
	at     millis // on the monotonic clock
}

// maxRecent is how many recent revocations are written back.
const maxRecent = 1024

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore, by [token.Summary.IssuedBefore]. For a Token the moment does
// not matter. Of several calls the latest moment counts. Once Revoke returns
// nil, every gateway refuses these tokens in each Spend that begins later, and
// knows for its sessions within about a second.
//
// After an error of this package, repeat the call: the revocation holds here,
// and may hold elsewhere. The other errors are those of [replay.Revocations],
// after which nothing is revoked. Revoke takes Config.Timeout at most, and not
// longer than ctx.
//
// The cluster keeps a revocation for three hours and a minute: no session that
// it ends lasts longer. Each gateway has room for Config.MaxRevocations. Beyond
// that it merges the earlier moments into one revocation of everyone, as
// replay.Revocations does. Single tokens are not merged: beyond three eighths
// of MaxRevocations Revoke refuses them with [replay.ErrFull]. The next eighth
// is kept free for what other gateways revoke at the same moment. If that is
// used up, too, the guard refuses everything until there is room.
func (g *Guard) Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error {
	if !g.made() {
		return ErrClosed
	}
	now := g.config.Now()
	if t.Token != (token.ID{}) {
		if err := g.reserve(now, t); err != nil {
			return err
		}
	}
	if err := g.revoked.Revoke(now, t, issuedBefore); err != nil {
		return err
	}
	second := min(max(issuedBefore.Unix(), 0), maxSecond)
	if t.Token != (token.ID{}) {
		second = now.Unix()
	}
	g.remember(t, second)
	return g.within(ctx, func(ctx context.Context) error { return g.store(ctx, t, second) })
}

// reserve counts a single token, or says that there are too many.
func (g *Guard) reserve(now time.Time, t token.Target) error {
	defer g.tokens.News(func(token.Target, time.Time) {}) // nobody wants it
	return g.tokens.Revoke(now, t, time.Time{})
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

// store writes a revocation, unless there is a later one of the same target,
// and together with it another value of the counter. So every spend finds both
// or neither.
func (g *Guard) store(ctx context.Context, t token.Target, second int64) error {
	key, counter := g.config.Prefix+revokedKey+nameOf(t), random()
	enough := clientv3.Compare(clientv3.Value(key), ">", momentValue(second-1))
	if t.Token != (token.ID{}) {
		enough = clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
	}
	return persist(ctx, func() error {
		at := g.instant()
		l, err := g.link.grant(ctx, revocationTTL(second, at.wall), at)
		if err != nil {
			return err
		}
		_, err = g.link.txn(ctx, []clientv3.Cmp{enough}, nil, []clientv3.Op{
			clientv3.OpPut(key, momentValue(second), clientv3.WithLease(l.id)),
			clientv3.OpPut(g.config.Prefix+counterKey, counter),
		})
		return err
	})
}

// remember keeps a revocation for a minute, to be written back.
func (g *Guard) remember(t token.Target, second int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.instant().steady
	g.recent = slices.DeleteFunc(g.recent, func(r recent) bool { return r.target == t || r.over(at) })
	if len(g.recent) == maxRecent {
		g.recent = g.recent[1:]
	}
	g.recent = append(g.recent, recent{t, second, at})
}

func (r *recent) over(at millis) bool { return at-r.at > duration(time.Minute) }

// writeBack stores again, after a loss, what a restored cluster may lack.
func (g *Guard) writeBack(ctx context.Context) error {
	if !g.owing {
		return nil
	}
	g.mu.Lock()
	known, at := slices.Clone(g.recent), g.instant().steady
	g.mu.Unlock()
	for _, r := range known {
		if r.over(at) {
			continue
		}
		if err := g.store(ctx, r.target, r.second); err != nil {
			return err
		}
	}
	g.owing = false
	return nil
}

// Sync learns what other gateways have revoked. It calls news for every target
// revoked here since the last call, as [replay.Revocations.News] does, even if
// it fails to learn more. Call it in one goroutine, every few seconds. It takes
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

// Synced returns the moment up to which this process knows what others revoked,
// by Config.Now. While the cluster answers, that is a second ago, whether
// anybody calls [Guard.Sync] or not. For a zero or nil Guard it is the zero
// time.
func (g *Guard) Synced() time.Time {
	if !g.made() {
		return time.Time{}
	}
	return *g.synced.Load()
}

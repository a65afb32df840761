package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// patience is how long one request may take. A member that stands still
	// holds up what was sent to it for as long.
	patience = time.Second

	// The pause between attempts doubles from the first to the second.
	minPause, maxPause = 10 * time.Millisecond, 320 * time.Millisecond
)

// link holds the connection to one member. The client's own balancing would
// keep sending to a member that stands still. So after each failure link makes
// a new connection, to the next member.
type link struct {
	config *Config
	count  *counters

	mu     sync.Mutex
	client *clientv3.Client
	member int // of the client, or of the next one
	closed bool
}

// get returns the connection. It takes no longer than patience to make one.
func (l *link) get() (*clientv3.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.client != nil:
		return l.client, nil
	}
	made, err := l.dial()
	if err != nil {
		l.member++
		return nil, err
	}
	l.client = made
	return made, nil
}

func (l *link) dial() (*clientv3.Client, error) {
	c := l.config
	user, password := c.Username, c.Password
	if c.Credentials != nil {
		var err error
		if user, password, err = c.Credentials(); err != nil {
			return nil, errCredentials
		}
	}
	l.count.change(func(s *Stats) { s.Connections++ })
	return clientv3.New(clientv3.Config{
		Endpoints:            []string{c.Endpoints[l.member%len(c.Endpoints)]},
		Username:             user,
		Password:             password,
		TLS:                  c.TLS,
		DialTimeout:          patience,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: patience,
		Logger:               zap.NewNop(), // or it prints each failure
	})
}

// drop gives up c for the next member, unless someone has.
func (l *link) drop(c *clientv3.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil && l.client == c {
		l.client = nil
		l.member++
		go c.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.client != nil {
		_ = l.client.Close() // the error is of no use
	}
}

// do sends one request, and returns its fault.
func (l *link) do(ctx context.Context, request func(ctx context.Context, c *clientv3.Client) error) error {
	if ctx.Err() != nil {
		return errTimeout
	}
	c, err := l.get()
	if err == ErrClosed {
		return err
	}
	if err == nil {
		limited, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), patience)
		defer cancel()
		err = request(limited, c)
	}
	if err == nil {
		return nil
	}
	err = reason(err)
	// A connection is not bad because a caller ends its context early.
	if passes(err) && err != errLease && ctx.Err() == nil || err == ErrAuth {
		l.drop(c)
	}
	return err
}

// txn sends a transaction.
func (l *link) txn(ctx context.Context, ifs []clientv3.Cmp, then, otherwise []clientv3.Op) (reply *clientv3.TxnResponse, err error) {
	err = l.do(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
		reply, err = c.Txn(ctx).If(ifs...).Then(then...).Else(otherwise...).Commit()
		return err
	})
	return reply, err
}

// grant asks for a lease of so many seconds from at, which is before now.
func (l *link) grant(ctx context.Context, seconds int64, at instant) (granted *lease, err error) {
	err = l.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		reply, err := c.Grant(ctx, seconds)
		if err == nil {
			granted = &lease{id: reply.ID, asked: at, ttl: millis(reply.TTL) * 1000}
		}
		return err
	})
	return granted, err
}

// persist repeats what may pass until ctx ends.
func persist(ctx context.Context, try func() error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := try()
		if err == nil || !passes(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// heed returns when ctx ends, though f may take a little longer.
func heed(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errTimeout
	}
}

package valkey

import (
	"context"
	"sync/atomic"
	"time"
)

// deadline is a context that ends at a time, and can be used again if it did not. A
// new one of package context for each attempt would be several allocations, and
// Spend promises one.
type deadline struct {
	context.Context
	at      time.Time
	timer   *time.Timer
	done    chan struct{}
	expired atomic.Bool
}

func newDeadline() *deadline {
	d := &deadline{Context: context.Background(), done: make(chan struct{})}
	d.timer = time.AfterFunc(time.Hour, func() {
		d.expired.Store(true)
		close(d.done)
	})
	d.timer.Stop()
	return d
}

// start has d end after some time, or at once if that is not positive. d must be new
// or stopped.
func (d *deadline) start(after time.Duration) {
	d.at = time.Now().Add(after)
	d.timer.Reset(after)
}

// stop returns a deadline that can be started: d, or a new one if d has ended.
func (d *deadline) stop() *deadline {
	if d.timer.Stop() {
		return d
	}
	return newDeadline()
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadline) Done() <-chan struct{} { return d.done }

func (d *deadline) Err() error {
	if d.expired.Load() {
		return context.DeadlineExceeded
	}
	return nil
}

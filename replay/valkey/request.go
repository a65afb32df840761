package valkey

import (
	"crypto/rand"
	"math"
	"sync/atomic"
	"time"

	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
)

// request is one call of Spend. The caller and a worker share it. When the worker has
// answered it, it is the caller's alone; when the caller has left it, it is the
// worker's.
type request struct {
	text       string // the name of the key, and then its value
	keyLen     int    // the length of the name
	slot       uint16
	now        time.Time // by the clock of the caller
	start      time.Time // when the call began, by the clock of this process
	expiration int64     // of the token, in Unix milliseconds
	px         int64     // the shortest time to live of all attempts, in milliseconds

	state  atomic.Uint32
	failed atomic.Pointer[error] // the error of the latest attempt
	done   chan struct{}         // receives once, when a worker has answered
	fresh  bool
	err    error

	// These serve later calls as well.
	timer *time.Timer
	buf   []byte
}

// The states of a request.
const (
	isWaiting uint32 = iota
	isAnswered
	isLeft // by the caller, which will not look at it again
)

// valueSize is the length of the value that names a call. It is as random as a
// token ID and drawn for each call: one call must not take another's attempt for
// its own, even if a virtual machine was restored in between.
const valueSize = 16

func newRequest() *request {
	r := &request{timer: time.NewTimer(time.Hour), done: make(chan struct{}, 1)}
	r.timer.Stop()
	return r
}

// reset makes r the request of a new call, for the token t.
func (r *request) reset(prefix string, top *topology, now time.Time, t claims.Summary) {
	r.buf = append(r.buf[:0], prefix...)
	r.buf = append(r.buf, t.TokenID[:]...)
	r.keyLen = len(r.buf)
	r.slot = top.slot(r.buf)
	var value [valueSize]byte
	r.buf = append(r.buf, value[:]...)
	rand.Read(r.buf[r.keyLen:])
	r.text = string(r.buf)
	r.now, r.start = now, time.Now()
	r.expiration = t.Expiration.UnixMilli()
	r.px = math.MaxInt64
	r.state.Store(isWaiting)
	r.failed.Store(nil)
	r.fresh, r.err = false, nil
}

// key returns the name of the key.
func (r *request) key() string { return r.text[:r.keyLen] }

// value returns what the key is set to.
func (r *request) value() string { return r.text[r.keyLen:] }

// command returns the SET of one more attempt. Its time to live is relative: with an
// absolute one that is over by the server's clock, the server would answer OK and
// store nothing.
func (r *request) command(b client.Builder, margin time.Duration) client.Completed {
	now := r.now.Add(time.Since(r.start)).UnixMilli()
	px := max(r.expiration-now, 0) + margin.Milliseconds()
	r.px = min(r.px, px)
	return b.Set().Key(r.key()).Value(r.value()).Nx().Get().PxMilliseconds(px).Build()
}

// timely reports whether the server is sure to remember the token until no attempt
// passes this check any more. server is its clock after the attempt, in Unix
// milliseconds.
//
// By the server's clock, a token passes until half of margin after its expiration.
// The key was set between start and now, for px at least. So it lives until px after
// start, or longer, and that must not be before the token ceases to pass. Of the
// gateway's clock nothing matters here but px: if that clock is ahead by so much that
// px is too short, the token is refused.
func (r *request) timely(server int64, margin time.Duration) bool {
	last := r.expiration + margin.Milliseconds()/2
	start := server - time.Since(r.start).Milliseconds() - 1 // by the server's clock
	return server < last && start+r.px >= last
}

// because returns the error for r when it is given up with err. That the time was up
// says less than the error of an earlier attempt.
func (r *request) because(err error) error {
	if earlier := r.failed.Load(); err == ErrTimeout && earlier != nil {
		return *earlier
	}
	return err
}

// over reports whether another attempt that begins in d would be of no use to r.
func (r *request) over(timeout, d time.Duration) bool {
	return r.state.Load() == isLeft || time.Since(r.start)+d >= timeout
}

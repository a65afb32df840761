package valkey

import (
	"crypto/rand"
	"math"
	"sync/atomic"
	"time"

	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
)

// request is one call of Spend. The caller and a worker share it until one of
// them changes its state; who comes second, lets go of it.
type request struct {
	text       string // the name of the key, then the value that names this call
	key        int    // the length of the former
	slot       uint16
	now        time.Time // by the clock of the caller
	start      time.Time // by the clock of this process, for what has passed since
	expiration int64     // of the token, in milliseconds
	px         int64     // the shortest time to live of all attempts, in milliseconds

	state  atomic.Uint32
	failed atomic.Pointer[error] // the error of the latest attempt
	done   chan struct{}         // receives once, when a worker has answered
	fresh  bool
	err    error

	// These are used again by the next request.
	timer *time.Timer
	buf   []byte
}

// The states of a request.
const (
	isWaiting uint32 = iota
	isAnswered
	isLeft // by the caller, who will not look at it again
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

func (r *request) set(prefix string, top *topology, now time.Time, t claims.Summary) {
	r.buf = append(r.buf[:0], prefix...)
	r.buf = append(r.buf, t.TokenID[:]...)
	r.key = len(r.buf)
	r.slot = top.slot(r.buf)
	var value [valueSize]byte
	r.buf = append(r.buf, value[:]...)
	rand.Read(r.buf[r.key:])
	r.text = string(r.buf)
	r.now, r.start = now, time.Now()
	r.expiration = t.Expiration.UnixMilli()
	r.px = math.MaxInt64
	r.state.Store(isWaiting)
	r.failed.Store(nil)
	r.fresh, r.err = false, nil
}

// value returns what the key is set to.
func (r *request) value() string { return r.text[r.key:] }

// command returns the SET of another attempt. Its time to live is relative, and
// computed for each attempt: with an absolute one, a server whose clock is ahead
// would answer OK and store nothing.
func (r *request) command(b client.Builder, margin time.Duration) client.Completed {
	now := r.now.Add(time.Since(r.start)).UnixMilli()
	px := max(r.expiration-now, 0) + margin.Milliseconds()
	r.px = min(r.px, px)
	return b.Set().Key(r.text[:r.key]).Value(r.value()).Nx().Get().PxMilliseconds(px).Build()
}

// timely reports whether the server's clock was such that the server is certain
// to remember the token for as long as an attempt can pass this check. server is
// that clock after the attempt, in milliseconds.
//
// The token counts until half of margin after its expiration. The key was set
// after start and before that, so it is there for px from start at least, and by
// then it has to be past that moment. Nothing here depends on the clock of a
// gateway, but px: and where that is wrong, the sum is too small.
func (r *request) timely(server int64, margin time.Duration) bool {
	last := r.expiration + margin.Milliseconds()/2
	set := server - time.Since(r.start).Milliseconds() - 1
	return server < last && set+r.px >= last
}

// because returns why r has no answer when err is what it was given up for: an
// attempt that failed before says more than that the time was up.
func (r *request) because(err error) error {
	if earlier := r.failed.Load(); err == ErrTimeout && earlier != nil {
		return *earlier
	}
	return err
}

// over reports whether r is not worth another attempt that begins after d.
func (r *request) over(timeout, d time.Duration) bool {
	return r.state.Load() == isLeft || time.Since(r.start)+d >= timeout
}

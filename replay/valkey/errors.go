package valkey

import (
	"context"

	"github.com/seed17cb2b26/chattoken/token"
)

// Why a [Guard] could not tell: one error for each thing that you can do about
// it. All match [token.ErrUnavailable]. After one, the token may be spent or
// not. Compare with [errors.Is]; the text, and the word in [Stats.Reasons], say
// more.
var (
	// ErrDataLost: the token was issued before the servers may have lost
	// what was spent. It is never accepted; tokens issued from
	// [Guard.ReadyAt] on are.
	ErrDataLost error = &fault{"data-lost", "valkey: issued before the server may have lost data", nil}

	// ErrBusy: Config.MaxWaiting calls wait. Add gateways or servers.
	ErrBusy error = &fault{"busy", "valkey: too many calls are waiting", nil}

	// ErrCanceled: the context ended first. It matches the errors of
	// package context, too.
	ErrCanceled error = &fault{"canceled", "valkey: the context of the call ended", nil}

	// ErrClosed: the guard is closed, or was not made with [New].
	ErrClosed error = &fault{"closed", "valkey: the guard is closed", nil}

	// ErrUnreachable: the server does not answer. Check it and the network.
	ErrUnreachable error = &fault{"unreachable", "valkey: the server does not answer", nil}

	// ErrAuth: the server refused user, password or a command. Check Config
	// and the server's list of users.
	ErrAuth error = &fault{"auth", "valkey: not authorized by the server", nil}

	// ErrServer: the server answers, but cannot be relied on. Check its
	// state and its configuration.
	ErrServer error = &fault{"server", "valkey: the server cannot be relied on", nil}

	// ErrClock: clocks are further apart than ClockSkew. Set them right.
	ErrClock error = &fault{"clock", "valkey: the clocks differ by too much", nil}
)

// The cases.
var (
	errTimeout    error = &fault{"timeout", "valkey: no reply in time", ErrUnreachable}
	errConnection error = &fault{"connection", "valkey: no connection to the server", ErrUnreachable}

	// errChanged says that the connection or the nonce changed during an
	// attempt. Its replies prove nothing then, so it is repeated.
	errChanged error = &fault{"changing", "valkey: the server keeps changing", ErrUnreachable}

	errLoading          error = &fault{"loading", "valkey: the server is loading or busy", ErrServer}
	errReadOnly         error = &fault{"read-only", "valkey: the server is a read-only replica", ErrServer}
	errOutOfMemory      error = &fault{"out-of-memory", "valkey: the server is out of memory", ErrServer}
	errReplicas         error = &fault{"replicas", "valkey: the server has not enough replicas", ErrServer}
	errPersistence      error = &fault{"persistence", "valkey: the server cannot write to disk", ErrServer}
	errCluster          error = &fault{"slot", "valkey: the cluster does not serve this slot", ErrServer}
	errVersion          error = &fault{"version", "valkey: the server is older than version 7.0", ErrServer}
	errEviction         error = &fault{"eviction", "valkey: the server's maxmemory-policy is not noeviction; see Config.AcceptEviction", ErrServer}
	errNoAppendOnlyFile error = &fault{"no-append-only-file", "valkey: the server has no append-only file; see Config.AcceptNoAppendOnlyFile", ErrServer}
	errReply            error = &fault{"reply", "valkey: unexpected reply", ErrServer}

	errServerBehind error = &fault{"server-behind", "valkey: the server's clock is behind by more than the skew", ErrClock}
	errServerAhead  error = &fault{"server-ahead", "valkey: the server's clock is ahead by more than the skew", ErrClock}
	errTokenAhead   error = &fault{"token-ahead", "valkey: issued later than this clock shows, by more than the skew", ErrClock}
	errClocksApart  error = &fault{"token-over", "valkey: by the server's clock, the token is over or not kept for long enough", ErrClock}
)

// errCredentials is returned as a [causedFault].
var errCredentials = &fault{"credentials", "valkey: Config.Credentials returned an error", ErrAuth}

// causedFault is a reason with its cause. The cause is the caller's own and may
// hold secrets, so the text does not show it.
type causedFault struct {
	*fault
	cause error
}

func (f *causedFault) Unwrap() []error { return []error{f.fault, f.cause} }

// dialFault is why there is no connection, with what the network said. It is
// for [New]: later on a node has the reason alone.
type dialFault struct{ reason, cause error }

func (f *dialFault) Error() string   { return f.reason.Error() + ": " + f.cause.Error() }
func (f *dialFault) Unwrap() []error { return []error{f.reason, f.cause} }

// fault is a reason, which may be a case of another one.
type fault struct {
	word, text string
	kind       error
}

func (f *fault) Error() string { return f.text }

func (f *fault) Is(target error) bool {
	switch target {
	case token.ErrUnavailable:
		return true
	case context.Canceled, context.DeadlineExceeded:
		return f == ErrCanceled
	}
	return f.kind != nil && target == f.kind
}

package etcd

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seed17cb2b26/chattoken/token"
)

// Why a [Guard] could not tell: one error for each thing that you can do about
// it. All match [token.ErrUnavailable]. After one, the token may be spent or
// not. Compare with [errors.Is]; the text may say more.
var (
	// ErrDataLost: the token was issued before the cluster may have lost
	// what was spent, or before this guard started. It is never accepted;
	// tokens issued from [Guard.ReadyAt] on are.
	ErrDataLost error = &fault{"data-lost", "etcd: issued before the cluster may have lost data", nil}

	// ErrBusy: Config.MaxWaiting calls wait. Add gateways, or a faster
	// cluster.
	ErrBusy error = &fault{"busy", "etcd: too many calls are waiting", nil}

	// ErrCanceled: the context of the call ended first. It matches the
	// errors of package context, too.
	ErrCanceled error = &fault{"canceled", "etcd: the context of the call ended", nil}

	// ErrClosed: the guard is closed, or was not made with [New].
	ErrClosed error = &fault{"closed", "etcd: the guard is closed", nil}

	// ErrUnreachable: no member with a leader answered in time. Check the
	// network, and whether a quorum runs.
	ErrUnreachable error = &fault{"unreachable", "etcd: the cluster does not answer", nil}

	// ErrAuth: the cluster refused the user, the password or a key. Check
	// Config and the user's role.
	ErrAuth error = &fault{"auth", "etcd: not authorized by the cluster", nil}

	// ErrServer: the cluster answers, but does not do what is needed. Check
	// its quota and its configuration.
	ErrServer error = &fault{"server", "etcd: the cluster cannot do it", nil}

	// ErrClock: the clocks of gateways and issuers are further apart than
	// ClockSkew, or one was set. Set them right.
	ErrClock error = &fault{"clock", "etcd: the clocks differ by too much", nil}
)

// The cases. After one of ErrUnreachable another attempt may succeed.
var (
	errTimeout    error = &fault{"timeout", "etcd: no reply in time", ErrUnreachable}
	errConnection error = &fault{"connection", "etcd: no connection to the cluster", ErrUnreachable}
	errNoLeader   error = &fault{"no-leader", "etcd: the cluster has no leader", ErrUnreachable}
	errLease      error = &fault{"lease", "etcd: the cluster does not have a lease", ErrUnreachable}
	errChanging   error = &fault{"changing", "etcd: the cluster's state keeps changing", ErrUnreachable}

	errNoSpace error = &fault{"no-space", "etcd: the cluster's quota is used up", ErrServer}
	errLimit   error = &fault{"limit", "etcd: the cluster refuses a request of that size", ErrServer}
	errReply   error = &fault{"reply", "etcd: unexpected reply", ErrServer}

	// errRevocations says that the cluster has a revocation for which there
	// is no room here. Until there is, the guard refuses everything.
	errRevocations error = &fault{"revocations", "etcd: no room for all revocations", ErrServer}

	errTokenAhead error = &fault{"token-ahead", "etcd: issued later than this clock shows, by more than the skew", ErrClock}
	errTokenLong  error = &fault{"token-long", "etcd: by this clock, the token lives for longer than any", ErrClock}
	errTokenOver  error = &fault{"token-over", "etcd: the token is over by this clock, or was before the reply", ErrClock}
	errForgotten  error = &fault{"forgotten", "etcd: the cluster may not remember the token for long enough", ErrClock}
)

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

// passes reports whether another attempt may succeed. The request may have been
// executed, or may be yet.
func passes(err error) bool { return errors.Is(err, ErrUnreachable) }

// reason returns the fault for an error of the client.
func reason(err error) error {
	is := func(known ...error) bool {
		return slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) })
	}
	switch {
	case is(rpctypes.ErrLeaseNotFound):
		return errLease
	case is(rpctypes.ErrNoSpace):
		return errNoSpace
	case is(rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrDuplicateKey):
		return errLimit
	case is(rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, errCredentials):
		return ErrAuth
	case is(rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeoutDueToLeaderFail):
		return errNoLeader
	case is(context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return errTimeout
	}
	return errConnection
}

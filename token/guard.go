package token

import (
	"context"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// Guard remembers which tokens were spent and whose were revoked. Package
// replay has one for a process; replay/valkey and replay/etcd have one for a
// fleet. A guard is safe for concurrent use.
type Guard interface {
	// Spend uses a token up and reports whether it was fresh: of all calls with
	// the same token, at any time and from anywhere, at most one may return
	// true. The token is authentic and, at now, timely and admitted. TokenID
	// and Expiration together name it; an honest minter never uses an ID twice.
	//
	// A guard that cannot tell returns an error, and the token is refused. What
	// s lends is not retained.
	//
	//	the error matches    the token is refused with
	//	ErrAllRevoked        ErrAllRevoked
	//	ErrRevoked           ErrRevoked
	//	ErrUnavailable       the error itself
	//	anything else        ErrUnavailable
	Spend(ctx context.Context, now time.Time, s Summary) (fresh bool, err error)

	// Revoked returns nil, [ErrRevoked] or [ErrAllRevoked], as far as this
	// process knows. A guard that cannot work returns an error that matches
	// [ErrUnavailable]. Revoked makes no network call, takes no lock and does
	// not allocate, so it can be asked for every live session. What s lends is
	// not retained.
	Revoked(s Summary) error
}

// Summary is what a guard or an admission rule needs to know of an authentic
// token. It is small and passed by value.
type Summary struct {
	TokenID    ID
	IssuedAt   time.Time // whole seconds, UTC
	Expiration time.Time // of the token, not of its session; whole seconds, UTC

	// ClockSkew is how far ahead the clock that issued the token may have been,
	// in whole seconds. An Opener takes it from the policy of its ring. Zero,
	// in a Summary that is made by hand, means 5 s.
	ClockSkew time.Duration

	// RoomIdentifier and UserID are lent: copy them to keep them, and do not
	// write to them, because they may be those of a [Session].
	RoomIdentifier, UserID []byte
}

// IssuedBefore reports whether IssuedAt is at most t, rounded down to the
// second, plus ClockSkew. The minter's clock may be ahead of the one that t was
// read from by as much, and tokens carry whole seconds. Restarts and
// revocations go by this rule; SPEC.md shows that simpler ones let a token in
// twice.
func (s Summary) IssuedBefore(t time.Time) bool {
	skew := s.ClockSkew / time.Second
	if skew <= 0 {
		skew = limits.DefaultClockSkew / time.Second
	}
	return s.IssuedAt.Unix()-int64(skew) <= t.Unix()
}

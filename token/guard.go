package token

import (
	"context"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// Guard remembers which tokens were spent and which are revoked. Package
// [github.com/seed17cb2b26/chattoken/replay] has one for a process. Packages
// replay/valkey and replay/etcd have one for a fleet. A guard is safe for
// concurrent use.
type Guard interface {
	// Spend marks a token as spent and reports whether it was fresh. Of all
	// calls with the same token, at any time and from anywhere, at most one
	// may return true. The Opener has verified the token at now, and Admit
	// has accepted it. TokenID and Expiration together name it; an honest
	// issuer never uses an ID twice.
	//
	// If the guard cannot tell, it returns an error, and the Opener refuses
	// the token. Spend must not retain the slices of s.
	//
	//	the error matches   the Opener returns
	//	ErrAllRevoked       ErrAllRevoked
	//	ErrRevoked          ErrRevoked
	//	ErrUnavailable      the error itself
	//	anything else       ErrUnavailable
	Spend(ctx context.Context, now time.Time, s Summary) (fresh bool, err error)

	// Revoked returns nil, [ErrRevoked] or [ErrAllRevoked], as far as this
	// process knows. If the guard cannot work, it returns an error that
	// matches [ErrUnavailable]. Revoked makes no network call, takes no
	// lock and does not allocate, so it can be called for every live
	// session. It must not retain the slices of s.
	Revoked(s Summary) error
}

// Summary is what a [Guard] or [Opener.Admit] needs to know about an authentic
// token. It is small; pass it by value. Its times are whole seconds, in UTC.
type Summary struct {
	TokenID    ID
	IssuedAt   time.Time
	Expiration time.Time // the token's, not the session's

	// ClockSkew is how far ahead the issuer's clock may have been, in whole
	// seconds. An Opener takes it from the policy of its ring. In a Summary
	// made by hand, zero means 5 s.
	ClockSkew time.Duration

	// RoomIdentifier and UserID may be views of a [Session]. Copy them to
	// keep them, and don't write to them.
	RoomIdentifier, UserID []byte
}

// IssuedBefore reports whether IssuedAt is at most t, rounded down to the
// second, plus ClockSkew. Tokens carry whole seconds, and the issuer's clock
// may be ahead by ClockSkew. Restarts and revocations use this rule. A simpler
// one would let a token be used twice, as SPEC.md shows.
func (s Summary) IssuedBefore(t time.Time) bool {
	skew := s.ClockSkew / time.Second
	if skew <= 0 {
		skew = limits.DefaultClockSkew / time.Second
	}
	return s.IssuedAt.Unix()-int64(skew) <= t.Unix()
}

// Package limits holds the bounds that the issuer, the opener, the keyring and
// the guard must agree on. Each public package documents those it enforces.
package limits

import "time"

const (
	// MinTTL is the shortest token validity. Issued-at is floored to the
	// second, so anything much shorter would be used up by the flooring and
	// one slow round trip.
	MinTTL = 5 * time.Second

	// DefaultTTL is the token validity of Amazon IVS Chat.
	DefaultTTL = 60 * time.Second

	// MaxTTL is the longest token validity. It bounds the memory of every
	// replay guard and the overlap of every key.
	MaxTTL = 10 * time.Minute

	// DefaultClockSkew is how far apart the clocks of two hosts may be.
	DefaultClockSkew = 5 * time.Second

	// MaxClockSkew is the largest skew that can be configured: past it the
	// clocks need mending, not tolerance.
	MaxClockSkew = time.Minute

	// MaxUnix is 9999-12-31T23:59:59Z in Unix seconds, the last second that
	// RFC 3339 can write and the last one a token or a key may name.
	MaxUnix = 253402300799
)

// Whole reports whether d is whole seconds from least to most.
func Whole(d, least, most time.Duration) bool {
	return d >= least && d <= most && d%time.Second == 0
}

package keyring

import (
	"cmp"
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// Policy says how keys follow each other. The sealed ring has it, so all hosts
// that hold the ring agree on it. All fields are whole seconds. Zero fields
// have defaults.
type Policy struct {
	// MaxTTL is the longest validity of a token, from 5 s to 10 min. In a
	// new policy it is at least ClockSkew and 5 s. Zero means 60 s. A key
	// opens for MaxTTL and twice ClockSkew after it stops sealing.
	MaxTTL time.Duration

	// ClockSkew is how far apart the clocks of two hosts may be, from 1 s
	// to 1 min. Zero means 5 s.
	ClockSkew time.Duration

	// Period is how long a key seals, at most 366 days. Zero means 30 days.
	Period time.Duration

	// Lead is how long a key is published before it may seal. It is longer
	// than ClockSkew, and at most Period. Zero means an hour. Every host
	// must load a new version of the ring within Lead, less ClockSkew and a
	// second: the shortest Lead leaves no time for that. If it is above a
	// quarter of Period, see [Ring.Overdue].
	Lead time.Duration
}

// Limits are the limits of a [Policy] on tokens. Whoever mints, opens or spends
// tokens must agree on them. A guard is made with them.
type Limits struct {
	MaxTTL    time.Duration // the longest validity of a token
	ClockSkew time.Duration // how far apart the clocks of two hosts may be
}

const maxPeriod = 366 * 24 * time.Hour

var (
	errTooShort  = errors.New("keyring: Policy.MaxTTL is less than ClockSkew and 5 s: a host whose clock is ahead would refuse every token")
	errMaxTTL    = errors.New("keyring: Policy.MaxTTL is not whole seconds from 5 s to 10 min")
	errClockSkew = errors.New("keyring: Policy.ClockSkew is not whole seconds from 1 s to 1 min")
	errPeriod    = errors.New("keyring: Policy.Period is not whole seconds up to 366 days")
	errLead      = errors.New("keyring: Policy.Lead is not whole seconds, more than ClockSkew and at most Period")
	errLowered   = errors.New("keyring: MaxTTL and ClockSkew of a ring cannot be lowered: a token may need what they were")
)

var defaultPolicy = Policy{
	MaxTTL:    limits.DefaultTTL,
	ClockSkew: limits.DefaultClockSkew,
	Period:    30 * 24 * time.Hour,
	Lead:      time.Hour,
}

// or returns p, with q's fields in place of zero ones.
func (p Policy) or(q Policy) Policy {
	return Policy{
		MaxTTL:    cmp.Or(p.MaxTTL, q.MaxTTL),
		ClockSkew: cmp.Or(p.ClockSkew, q.ClockSkew),
		Period:    cmp.Or(p.Period, q.Period),
		Lead:      cmp.Or(p.Lead, q.Lead),
	}
}

// check refuses policies that could strand a token or let two hosts disagree.
// With a Lead within the skew, a host whose clock is ahead could seal before a
// key is published. With one beyond Period, every rotation would be late.
func (p Policy) check() error {
	switch {
	case !limits.Whole(p.MaxTTL, limits.MinTTL, limits.MaxTTL):
		return errMaxTTL
	case !limits.Whole(p.ClockSkew, time.Second, limits.MaxClockSkew):
		return errClockSkew
	case !limits.Whole(p.Period, time.Second, maxPeriod):
		return errPeriod
	case !limits.Whole(p.Lead, p.ClockSkew+time.Second, p.Period):
		return errLead
	}
	return nil
}

// checkNew refuses a policy whose tokens would be expired on arrival, at a host
// whose clock is ahead by the whole skew. A ring that has such a policy is
// loaded all the same: to refuse it would lock everybody out.
func (p Policy) checkNew() error {
	if p.MaxTTL < p.ClockSkew+limits.MinTTL {
		return errTooShort
	}
	return nil
}

// overlap is how many seconds a key opens after it stops sealing.
func (p Policy) overlap() int64 { return seconds(p.MaxTTL + 2*p.ClockSkew) }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

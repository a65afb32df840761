package keyring

import (
	"cmp"
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// Policy says how keys follow each other. It is part of the ring and stored in
// its sealed form, so that every host that holds the ring agrees on it. All
// fields are whole seconds. The zero value of each means its default.
type Policy struct {
	// MaxTTL is the longest validity of a token, from 5 s to 10 min, and in a
	// new policy at least 5 s more than ClockSkew; zero means 60 s. A key opens
	// for that long, and twice ClockSkew, after it has sealed its last token.
	MaxTTL time.Duration

	// ClockSkew is how far apart the clocks of two hosts may be, from 1 s to
	// 1 min; zero means 5 s.
	ClockSkew time.Duration

	// Period is how long a key seals, at most 366 days; zero means 30 days.
	Period time.Duration

	// Lead is how long a key is published before it may seal, longer than
	// ClockSkew and at most Period; zero means an hour. Every host must have
	// taken up a new version of the ring within Lead, less ClockSkew and a
	// second: the shortest Lead leaves no time for that. With one above a
	// quarter of Period, see [Ring.Overdue].
	Lead time.Duration
}

// Limits are the limits on tokens that all who mint, open and spend them must
// agree on: those of a [Policy], for whoever makes a guard.
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

// or returns p with the fields of q in place of its zero ones.
func (p Policy) or(q Policy) Policy {
	return Policy{
		MaxTTL:    cmp.Or(p.MaxTTL, q.MaxTTL),
		ClockSkew: cmp.Or(p.ClockSkew, q.ClockSkew),
		Period:    cmp.Or(p.Period, q.Period),
		Lead:      cmp.Or(p.Lead, q.Lead),
	}
}

// check refuses what could strand a token or let two hosts disagree. A Lead
// within the skew would let a fast host seal before a key is published at all;
// one beyond Period would make every rotation late.
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

// checkNew refuses a policy under which tokens would be dead on arrival at a
// host whose clock is ahead by the whole skew. A ring that has such a policy
// already is used all the same: not to load it would refuse everybody.
func (p Policy) checkNew() error {
	if p.MaxTTL < p.ClockSkew+limits.MinTTL {
		return errTooShort
	}
	return nil
}

// overlap is how many seconds a key opens after it was last allowed to seal.
func (p Policy) overlap() int64 { return seconds(p.MaxTTL + 2*p.ClockSkew) }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

package token

import (
	"context"
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/payload"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// Opener verifies tokens. Set its fields before first use and don't change them
// after; it is then safe for concurrent use. It may be copied, for example to
// give one connection its own Admit.
type Opener struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// Guard spends tokens and knows which are revoked. If it is nil, Open
	// refuses every token.
	Guard Guard

	// Admit is the gateway's own rule: does the room match the address, is
	// the user banned? Open calls it with a verified token, before it
	// spends the token, and returns its error unchanged. If the rule cannot
	// tell, return an error that matches [ErrUnavailable]. Any other error
	// tells the client to give up. Nil admits every token, whichever room
	// it is for. Admit must not retain the slices of s.
	Admit func(ctx context.Context, now time.Time, s Summary) error

	// Now is the clock, read once per token. Nil means time.Now. It may be
	// behind the issuer's clock by the ClockSkew of the ring's policy: Open
	// refuses a token issued further in the future. The skew doesn't
	// lengthen a token's life: Open refuses every token past its expiration
	// on this clock.
	Now func() time.Time
}

var (
	errOpenerRing   = Unavailable("token: Opener.Ring is nil or the zero Ring")
	errOpenerGuard  = Unavailable("token: Opener.Guard is nil")
	errOpenerLimits = Unavailable("token: Opener.Guard has lower limits than Opener.Ring: make it with Ring.Limits")
	errSessionUsed  = Unavailable("token: the Session was used while a token was opened into it")
)

// Validate returns an error if Open would refuse honest tokens:
//   - Ring or Guard is missing
//   - Guard has a method Limits, as replay.Guard does, and returns less than
//     Ring.Limits
//
// Open does not call Validate. Call it at the start, and in the health check
// because the policy may be raised.
func (o *Opener) Validate() error {
	if o.Ring == nil || o.Ring.Limits().MaxTTL == 0 {
		return errOpenerRing
	}
	if o.Guard == nil {
		return errOpenerGuard
	}
	if g, ok := o.Guard.(interface{ Limits() keyring.Limits }); ok {
		has, need := g.Limits(), o.Ring.Limits()
		if has.MaxTTL < need.MaxTTL || has.ClockSkew < need.ClockSkew {
			return errOpenerLimits
		}
	}
	return nil
}

// Open verifies text, spends the token, and fills in s. It makes these checks,
// in this order:
//
//	length, prefix, alphabet, canonical form   ErrMalformed
//	key                                        ErrUnknownKey, ErrRevokedKey
//	authenticity                               ErrForged
//	payload                                    ErrPayload
//	not issued in the future                   ErrNotYetValid
//	TTL within limits and session              ErrPayload
//	token expiration, without leeway           ErrTokenExpired
//	Guard.Revoked                              ErrRevoked, ErrAllRevoked,
//	                                           ErrUnavailable
//	Admit                                      its own error
//	Guard.Spend                                ErrSpent, or as Guard.Revoked
//
// s may hold an earlier token. Don't use s elsewhere until Open returns. If
// another call opens a token into s meanwhile, the call that returns last
// leaves s zero and returns an error that matches [ErrUnavailable]. On every
// error s is zero. It retains nothing of text.
//
// Open allocates once, for the claims, unless s has held as long a token
// before. It never allocates for a token that it refuses before Guard.Revoked.
// Open itself never waits; it passes ctx to Admit and the guard.
func (o *Opener) Open(ctx context.Context, s *Session, text string) error {
	guard := o.Guard
	if guard == nil {
		s.Reset()
		return errOpenerGuard
	}
	return o.open(ctx, s, text, guard, true)
}

// OpenWithoutSpending is [Opener.Open] without Guard.Spend: the token may have
// been used before, and can still be used after. It is for tools that inspect
// tokens, and needs no Guard. The Session shows the claims, but is not
// [Session.Spent], counts as expired, and authorizes nothing.
func (o *Opener) OpenWithoutSpending(ctx context.Context, s *Session, text string) error {
	return o.open(ctx, s, text, o.Guard, false)
}

func (o *Opener) open(ctx context.Context, s *Session, text string, guard Guard, spend bool) error {
	s.Reset()
	if o.Ring == nil {
		return errOpenerRing
	}
	if len(text) < MinLen || len(text) > MaxLen || text[:len(Prefix)] != Prefix {
		return ErrMalformed // before anything that costs more than this
	}
	// Detach s.buf so that an early reader of s sees nothing.
	buf, done := s.buf, false
	s.buf = nil
	defer func() {
		if !done { // an error, or the guard or Admit panicked
			s.Reset()
			clear(buf)
			s.buf = buf[:0]
		}
	}()
	now := clock(o.Now)
	var v verified
	if err := o.verify(&v, &buf, text, now); err != nil {
		return err
	}
	// The guard and Admit may take long. So no workspace is held here, and
	// s shows nothing until both have agreed.
	if guard != nil || o.Admit != nil {
		summary := v.summary()
		if err := o.admit(ctx, now, summary, guard); err != nil {
			return err
		}
		if spend {
			if err := spendAt(ctx, now, summary, guard); err != nil {
				return err
			}
			v.spent = true
		}
	}
	if !s.v.isZero() {
		return errSessionUsed
	}
	s.v, s.buf, done = v, buf, true
	return nil
}

// verify makes the checks that need only text, keys and clock. The caller has
// checked length and prefix. On success v is a view of *buf, which verify
// replaces if it is too small.
func (o *Opener) verify(v *verified, buf *[]byte, text string, now time.Time) error {
	n := len(Prefix) + base64url.DecodedLen(len(text)-len(Prefix))
	if n <= cap(*buf) {
		*buf = (*buf)[:n]
		return o.verifyIn(*buf, v, text, now)
	}
	// Allocate only for a token that has passed.
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	b := ws.box[:n]
	defer clear(b)
	if err := o.verifyIn(b, v, text, now); err != nil {
		return err
	}
	*buf = v.payload.MoveTo(make([]byte, 0, n))
	return nil
}

// verifyIn decodes text into b, which has the length of the box, and decrypts
// it in place. v becomes a view of b.
func (o *Opener) verifyIn(b []byte, v *verified, text string, now time.Time) error {
	copy(b, Prefix)
	if _, ok := base64url.Decode(b[len(Prefix):], text[len(Prefix):]); !ok {
		return ErrMalformed
	}
	plaintext, err := o.Ring.OpenBox(box.Inside(), b[box.Ciphertext:box.Ciphertext], b, now)
	if err != nil {
		return invalidKind(err)
	}
	v.payload, err = payload.Parse(plaintext)
	if err != nil {
		return ErrPayload
	}
	copy(v.id[:], b[box.Nonce:])
	v.skew = o.Ring.Limits().ClockSkew
	return v.checkTimes(now.Unix())
}

// invalidKind returns Open's error for one of the ring's.
func invalidKind(err error) error {
	switch err {
	case box.ErrUnknownKey, box.ErrExpiredKey:
		return ErrUnknownKey
	case box.ErrRevokedKey:
		return ErrRevokedKey
	}
	return ErrForged
}

// admit asks the guard for revocations, and then Admit.
func (o *Opener) admit(ctx context.Context, now time.Time, s Summary, guard Guard) error {
	if guard != nil {
		if err := guard.Revoked(s); err != nil {
			return guardError(err)
		}
	}
	if o.Admit != nil {
		return o.Admit(ctx, now, s)
	}
	return nil
}

// spendAt returns nil if the token was fresh.
func spendAt(ctx context.Context, now time.Time, s Summary, guard Guard) error {
	fresh, err := guard.Spend(ctx, now, s)
	if err != nil {
		return guardError(err)
	}
	if !fresh {
		return ErrSpent
	}
	return nil
}

// guardError returns Open's error for one of the guard's.
func guardError(err error) error {
	switch {
	case errors.Is(err, ErrAllRevoked):
		return ErrAllRevoked
	case errors.Is(err, ErrRevoked):
		return ErrRevoked
	case errors.Is(err, ErrUnavailable):
		return err
	}
	return ErrUnavailable
}

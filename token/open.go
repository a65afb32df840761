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

// Opener verifies tokens. Its fields are set before first use and not changed
// after; it is then safe for concurrent use. It may be copied, for instance to
// give one connection an Admit of its own in place of the common one.
type Opener struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// Guard spends tokens, and knows which were revoked. With nil, Open refuses
	// all of them.
	Guard Guard

	// Admit is the embedder's own rule for authentic and timely tokens: does
	// the room match the address, is the user banned? It is asked before the
	// token is spent, and its error is returned as it is. A rule that cannot
	// tell returns [ErrUnavailable] or an error that matches it; an error of
	// the rule's own tells the client to give up. Nil admits all, to whichever
	// room the token is for. What s lends is not retained.
	Admit func(ctx context.Context, now time.Time, s Summary) error

	// Now is the clock, read once per token. Nil means time.Now. It may be
	// behind the minter's by the ClockSkew of the ring's policy: a token that
	// was issued further in the future is refused. The skew never makes a token
	// live longer: none is accepted past its expiration on this clock.
	Now func() time.Time
}

var (
	errOpenerRing   = Unavailable("token: Opener.Ring is nil or the zero Ring")
	errOpenerGuard  = Unavailable("token: Opener.Guard is nil")
	errOpenerLimits = Unavailable("token: Opener.Guard has lower limits than Opener.Ring: make it with Ring.Limits")
	errSessionUsed  = Unavailable("token: the Session was used while a token was opened into it")
)

// Validate returns an error if honest tokens would be refused: Ring or Guard is
// missing, or the guard's limits are below the ring's. (A guard may have a
// method Limits, as replay.Guard does.) Call it at the start and in the health
// check, because the policy may be raised; Open does not call it.
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

// Open verifies text, spends it, and fills in s. The checks are made in this
// order. Only an authentic and timely token reaches the guard and Admit, and
// only an admitted one is spent:
//
//	length, prefix, alphabet and canonical form   ErrMalformed
//	key                                           ErrUnknownKey, ErrRevokedKey
//	authenticity                                  ErrForged
//	payload                                       ErrPayload
//	not issued in the future                      ErrNotYetValid
//	validity within limits and session            ErrPayload
//	token expiration, without any leeway          ErrTokenExpired
//	Guard.Revoked                                 ErrRevoked, ErrAllRevoked, ErrUnavailable
//	Admit                                         its own error
//	Guard.Spend                                   ErrSpent, ErrRevoked, ErrAllRevoked, ErrUnavailable
//
// s is reused, whatever it held, and must not be in use elsewhere until Open
// returns; it retains nothing of text. If another token is opened into it
// meanwhile, s is zero in the end, and an error matches [ErrUnavailable].
// On every error s is zero in every accessor. Open allocates once, for the
// claims, unless s has held as long a token before. A token that is refused
// before Guard.Revoked never allocates. ctx is handed to Admit and the guard;
// Open itself never waits.
func (o *Opener) Open(ctx context.Context, s *Session, text string) error {
	guard := o.Guard
	if guard == nil {
		s.Reset()
		return errOpenerGuard
	}
	return o.open(ctx, s, text, guard, true)
}

// OpenWithoutSpending is [Opener.Open] without Guard.Spend: the token can still
// be used after it, and may have been used before. It is for tools that look at
// tokens, and needs no Guard. The Session shows what the token says, but it is
// not [Session.Spent], counts as expired, and authorizes nothing.
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
		if !done { // an error, or foreign code that panics
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
	// Foreign code runs here, which may take its time: no workspace is held,
	// and s shows nothing until all have agreed.
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

// verify makes all checks that depend on text, keys and clock alone. Length and
// prefix of text have been checked. On success v is a view of *buf, which is
// replaced where it is too small.
func (o *Opener) verify(v *verified, buf *[]byte, text string, now time.Time) error {
	n := len(Prefix) + base64url.DecodedLen(len(text)-len(Prefix))
	if n <= cap(*buf) {
		*buf = (*buf)[:n]
		return o.verifyIn(*buf, v, text, now)
	}
	// Memory of its own is only for a token that has proved worth it.
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

// verifyIn decodes text into b, of the length of its box, and decrypts that in
// place. v becomes a view of b.
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

// invalidKind is the error for a box that the ring did not open.
func invalidKind(err error) error {
	switch err {
	case box.ErrUnknownKey, box.ErrExpiredKey:
		return ErrUnknownKey
	case box.ErrRevokedKey:
		return ErrRevokedKey
	}
	return ErrForged
}

// admit asks those who have a say beyond the token itself.
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

// spendAt returns nil if the guard let the token in.
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

// guardError is the error for a token that the guard refused with err.
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

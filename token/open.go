package token

import (
	"context"
	"errors"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/verdict"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// Guard remembers which tokens were spent.
type Guard interface {
	// Spend uses a token up and reports whether it was fresh: of all calls with
	// the same token ID, at any time and from anywhere, at most one may return
	// true. The token is authentic and, at now, timely and admitted.
	//
	// A Guard that cannot tell returns an error, and the token is refused: with
	// [ErrAllRevoked] or [ErrRevoked] where the error matches that; with the error
	// itself where it matches [ErrUnavailable], so that a Guard may state its
	// reason; else with ErrUnavailable. What t lends is not retained.
	Spend(ctx context.Context, now time.Time, t claims.Summary) (fresh bool, err error)
}

// Opener verifies tokens. Its fields are set before first use and not changed
// after; it is then safe for concurrent use. It may be copied, for instance to
// give one connection an Admit of its own in place of the common one. Revoked is a
// field apart from Admit so that the copy still has it.
type Opener struct {
	// Ring has the keys. It must not be nil.
	Ring *keyring.Ring

	// Guard spends tokens. With nil, Open refuses all of them.
	Guard Guard

	// Revoked tells whether a token was revoked: it returns nil if not, and else
	// [ErrRevoked] or [ErrAllRevoked], with which the token is refused. It is for
	// replay.Revocations.Check, and asked before Admit. Any other error is returned
	// as it is, as Admit's are. Nil revokes nothing. What t lends is not retained.
	Revoked func(t claims.Summary) error

	// Admit is the embedder's own rule for authentic and timely tokens: does
	// the room match the address, is the user banned? It is asked before the
	// token is spent, and its error is returned as it is. A rule that cannot tell
	// returns [ErrUnavailable] or an error that matches it; an error of the rule's
	// own tells the client to give up. Nil admits all, to whichever room the token
	// is for. What t lends is not retained.
	Admit func(ctx context.Context, now time.Time, t claims.Summary) error

	// Now is the clock, read once per token. Nil means time.Now. It may be behind
	// the minter's by the ClockSkew of the ring's policy: a token that was issued
	// further in the future is refused. The skew never makes a token live longer:
	// none is accepted past its expiration on this clock.
	Now func() time.Time
}

var (
	errOpenerRing  = verdict.Unavailable("token: Opener.Ring is nil")
	errOpenerGuard = verdict.Unavailable("token: Opener.Guard is nil")
	errSessionUsed = verdict.Unavailable("token: the Session was used while a token was opened into it")
)

// Open verifies text, spends it, and fills in s. The checks are made in this
// order, and nothing but an authentic, timely and admitted token reaches the
// guard:
//
//	length, prefix, alphabet and canonical form   ErrMalformed
//	key                                           ErrUnknownKey, ErrRevokedKey
//	authenticity                                  ErrForged
//	payload                                       ErrPayload
//	not issued in the future                      ErrNotYetValid
//	validity within limits and session            ErrPayload
//	token expiration, without any leeway          ErrTokenExpired
//	Revoked                                       ErrRevoked, ErrAllRevoked
//	Admit                                         its own error
//	Guard                                         ErrSpent, ErrRevoked, ErrAllRevoked, ErrUnavailable
//
// s is reused, whatever it held, and must not be in use elsewhere until Open
// returns; it retains nothing of text. If another token is opened into it
// meanwhile, both are refused: s is zero, and the error matches [ErrUnavailable].
// On every error s is zero in every accessor. Open does not allocate where s has
// held as long a token before, and once, in the size of the token, where it has
// not. A token that is refused before Revoked never allocates. ctx is handed to
// Admit and the guard; Open itself never waits.
func (o *Opener) Open(ctx context.Context, s *Session, text string) error {
	if o.Guard == nil {
		s.Reset()
		return errOpenerGuard
	}
	return o.open(ctx, s, text, o.Guard)
}

// OpenWithoutSpending is [Opener.Open] without the guard: the token can still
// be used after it, and may have been used before. It is for tools that look
// at tokens. Nobody may be let in on its word.
func (o *Opener) OpenWithoutSpending(ctx context.Context, s *Session, text string) error {
	return o.open(ctx, s, text, nil)
}

func (o *Opener) open(ctx context.Context, s *Session, text string, guard Guard) error {
	s.Reset()
	if o.Ring == nil {
		return errOpenerRing
	}
	if len(text) < MinLen || len(text) > MaxLen || text[:len(Prefix)] != Prefix {
		return ErrMalformed // before anything that costs more than this
	}
	// s is without its memory meanwhile: who uses it too early does not get at
	// what v is a view of.
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
	// Foreign code runs here, which may take its time: no workspace is held, and
	// s shows nothing until all have agreed.
	if err := o.admit(ctx, now, &v, guard); err != nil {
		return err
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
	box := ws.box[:n]
	defer clear(box)
	if err := o.verifyIn(box, v, text, now); err != nil {
		return err
	}
	*buf = v.payload.MoveTo(make([]byte, 0, n))
	return nil
}

// verifyIn decodes text into box and decrypts it in place. v becomes a view of
// box.
func (o *Opener) verifyIn(box []byte, v *verified, text string, now time.Time) error {
	copy(box, Prefix)
	if _, ok := base64url.Decode(box[len(Prefix):], text[len(Prefix):]); !ok {
		return ErrMalformed
	}
	plaintext, err := o.Ring.Open(box[boxHeader:boxHeader], box, now)
	if err != nil {
		return invalidKind(err)
	}
	v.payload, err = claims.ParsePayload(plaintext)
	if err != nil {
		return ErrPayload
	}
	copy(v.id[:], box[len(Prefix)+len(keyring.ID{}):])
	v.skew = o.Ring.ClockSkew()
	return v.checkTimes(now.Unix())
}

// invalidKind is the error for a box that the ring did not open.
func invalidKind(err error) error {
	switch err {
	case keyring.ErrUnknownKey, keyring.ErrExpiredKey:
		return ErrUnknownKey
	case keyring.ErrRevokedKey:
		return ErrRevokedKey
	}
	return ErrForged
}

// admit asks those who have a say beyond the token itself.
func (o *Opener) admit(ctx context.Context, now time.Time, v *verified, guard Guard) error {
	if o.Revoked == nil && o.Admit == nil && guard == nil {
		return nil
	}
	summary := v.summary()
	if o.Revoked != nil {
		if err := o.Revoked(summary); err != nil {
			return err
		}
	}
	if o.Admit != nil {
		if err := o.Admit(ctx, now, summary); err != nil {
			return err
		}
	}
	if guard == nil {
		return nil
	}
	fresh, err := guard.Spend(ctx, now, summary)
	switch {
	case err == nil && fresh:
		return nil
	case err == nil:
		return ErrSpent
	case errors.Is(err, ErrAllRevoked):
		return ErrAllRevoked
	case errors.Is(err, ErrRevoked):
		return ErrRevoked
	case errors.Is(err, ErrUnavailable):
		return err
	}
	return ErrUnavailable
}

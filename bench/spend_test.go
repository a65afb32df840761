package bench_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// batch is how many fresh tokens are minted before they are spent.
const batch = 1 << 12

// tokenSpender opens and spends fresh tokens: a batch under one guard, and then
// the same ones under another, as long as they are valid.
type tokenSpender struct {
	sealer token.Sealer
	opener token.Opener
	claims claims.Claims
	texts  []string
	next   int
	minted time.Time
}

func newTokenSpender(b *testing.B, r *rig) *tokenSpender {
	b.Helper()
	s := &tokenSpender{sealer: r.sealer, opener: r.opener, claims: r.claims, texts: make([]string, batch)}
	s.sealer.TTL = token.DefaultTTL // the usual load of a guard
	s.refill(b)
	return s
}

// refill makes the batch fresh.
func (s *tokenSpender) refill(b *testing.B) {
	s.opener.Guard, s.next = newReplayGuard(b, token.DefaultTTL), 0
	if time.Since(s.minted) < token.DefaultTTL/2 {
		return
	}
	s.minted = time.Now()
	for i := range s.texts {
		minted, err := s.sealer.Create(s.claims)
		check(b, err)
		s.texts[i] = minted.Token
	}
}

func newReplayGuard(b *testing.B, maxTTL time.Duration) *replay.Guard {
	b.Helper()
	limits := keyring.Limits{MaxTTL: maxTTL, ClockSkew: 5 * time.Second}
	guard, err := replay.New(replay.Config{Limits: limits, AcceptIssuedBeforeStart: true})
	check(b, err)
	return guard
}

func (s *tokenSpender) open(b *testing.B, ctx context.Context, session *token.Session) {
	if s.next == batch {
		b.StopTimer()
		s.refill(b)
		b.StartTimer()
	}
	check(b, s.opener.Open(ctx, session, s.texts[s.next]))
	s.next++
}

// OpenSpend: Open of fresh tokens, with the guard in memory.
func BenchmarkOpenSpend(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		s := newTokenSpender(b, r)
		var session token.Session
		for b.Loop() {
			s.open(b, r.ctx, &session)
		}
	})
}

// Refuse: the cost of a refused token, with the claims of small.
func BenchmarkRefuse(b *testing.B) {
	flip := func(text string, i int) string {
		raw := make([]byte, len(text))
		n, _ := base64url.Decode(raw, text[len(token.Prefix):])
		raw[i] ^= 1
		return string(base64url.Append([]byte(token.Prefix), raw[:n]))
	}
	tests := []struct {
		name string
		want error
		text func(*rig) string
	}{
		{"malformed", token.ErrMalformed, func(r *rig) string { return r.text[:len(r.text)-1] + "=" }},
		{"unknown-key", token.ErrUnknownKey, func(r *rig) string { return flip(r.text, 0) }},
		{"forged", token.ErrForged, func(r *rig) string { return flip(r.text, len(keyring.ID{})+30) }},
		{"expired", token.ErrTokenExpired, func(r *rig) string {
			past := r.sealer
			past.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			minted, _ := past.Create(r.claims)
			return minted.Token
		}},
		{"spent", token.ErrSpent, func(r *rig) string { return r.text }},
		{"oversized", token.ErrMalformed, func(r *rig) string { return strings.Repeat("A", 1<<20) }},
	}
	for _, test := range tests {
		b.Run("why="+test.name, func(b *testing.B) {
			r := newRig(b, sizes[0].claims)
			r.opener.Guard = newReplayGuard(b, token.MaxTTL)
			var s token.Session
			check(b, r.opener.Open(r.ctx, &s, r.text)) // spends it, and gives s its memory
			text := test.text(r)
			b.ReportAllocs()
			for b.Loop() {
				if err := r.opener.Open(r.ctx, &s, text); !errors.Is(err, test.want) {
					b.Fatal(err)
				}
			}
		})
	}
}

// Authorize: the question before each message.
func BenchmarkAuthorize(b *testing.B) {
	r := newRig(b, sizes[0].claims)
	r.opener.Guard = newReplayGuard(b, token.MaxTTL)
	var s token.Session
	check(b, r.opener.Open(r.ctx, &s, r.text))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		check(b, s.Authorize(now, claims.SendMessage))
	}
}

// OpenParallel, SealParallel and OpenSpendParallel run on all processors.

func BenchmarkOpenParallel(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		b.RunParallel(func(pb *testing.PB) {
			var s token.Session
			for pb.Next() {
				check(b, r.opener.OpenWithoutSpending(r.ctx, &s, r.text))
			}
		})
	})
}

func BenchmarkSealParallel(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		b.RunParallel(func(pb *testing.PB) {
			dst := make([]byte, 0, token.MaxLen)
			for pb.Next() {
				_, _, err := r.sealer.Seal(dst, &r.claims)
				check(b, err)
			}
		})
	})
}

// In parallel, each token is fresh until the batch is through. After that they
// are spent, at the same cost.
func BenchmarkOpenSpendParallel(b *testing.B) {
	each(b, func(b *testing.B, r *rig) {
		s := newTokenSpender(b, r)
		var next atomic.Uint64
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			var session token.Session
			for pb.Next() {
				err := s.opener.Open(r.ctx, &session, s.texts[next.Add(1)%batch])
				if err != nil && err != token.ErrSpent {
					b.Error(err)
					return
				}
			}
		})
	})
}

package token_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func TestOpenText(t *testing.T) {
	f := newFixture(t)
	good := f.mint(t, tokentest.Claims())
	body := good[len(token.Prefix):]
	replace := func(i int, s string) string { return good[:i] + s + good[i+1:] }
	tests := map[string]string{
		"empty":             "",
		"one character":     "c",
		"prefix only":       token.Prefix,
		"header only":       good[:len(token.Prefix)+38],
		"below the minimum": good[:token.MinLen-1],
		"above the maximum": token.Prefix + strings.Repeat("A", token.MaxLen-len(token.Prefix)+1),
		"1 mod 4":           good[:4+(len(body)/4)*4-3],
		"no prefix":         body,
		"other version":     "ct2_" + body,
		"upper-case prefix": "CT1_" + body,
		"JWT":               "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
		"BOM":               "\ufeff" + good,
		"quoted":            `"` + good + `"`,
		"percent":           good + "%3D",
		"padded":            good + "=",
		"full-width":        replace(10, "Ａ"),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) { f.requireRefused(t, token.ErrMalformed, text) })
	}
	for _, text := range []string{good + good, good + body, token.Prefix + good} {
		// Well-formed, but sealed by nobody.
		f.requireRefused(t, token.ErrInvalid, text)
	}
	for _, c := range "\r\n\t \x00\"'%=+/.,~\u007f\u0080\u00ff" {
		for _, i := range []int{0, 3, 4, 5, len(good) / 2, len(good) - 1} {
			f.requireRefused(t, token.ErrMalformed, replace(i, string(c)))
			f.requireRefused(t, token.ErrMalformed, good[:i]+string(c)+good[i:])
		}
		f.requireRefused(t, token.ErrMalformed, good+string(c))
	}
	for c := 128; c < 256; c++ {
		f.requireRefused(t, token.ErrMalformed, replace(9, string([]byte{byte(c)})))
	}
}

func TestOpenHugeText(t *testing.T) {
	f := newFixture(t)
	f.requireRefused(t, token.ErrMalformed, token.Prefix+strings.Repeat("A", 16<<20))
}

func TestOpenEveryTruncationAndExtension(t *testing.T) {
	f := newFixture(t)
	good := f.mint(t, tokentest.Claims())
	for n := range good {
		f.requireRefused(t, token.ErrInvalid, good[:n])
		f.requireRefused(t, token.ErrInvalid, good[n+1:])
	}
	for n := 1; n <= 64; n++ {
		f.requireRefused(t, token.ErrInvalid, good+strings.Repeat("A", n))
		f.requireRefused(t, token.ErrInvalid, good+good[4:4+n])
	}
}

func TestOpenEveryBitFlip(t *testing.T) {
	f := newFixture(t)
	good := f.mint(t, tokentest.Claims())
	original := unspell(t, good)
	for i := range original {
		for bit := range 8 {
			b := append([]byte(nil), original...)
			b[i] ^= 1 << bit
			if i < len(token.Prefix) {
				// The prefix is not encoded.
				f.requireRefused(t, token.ErrMalformed, string(b[:4])+good[4:])
				continue
			}
			want := token.ErrForged
			if i < len(token.Prefix)+len(keyring.ID{}) {
				want = token.ErrUnknownKey
			}
			f.requireRefused(t, want, spell(b))
		}
	}
	// The same in the text, trailing bits included.
	for i := range good {
		for bit := range 8 {
			b := []byte(good)
			b[i] ^= 1 << bit
			f.requireRefused(t, token.ErrInvalid, string(b))
		}
	}
}

// A token has one spelling.
func TestOpenOneSpelling(t *testing.T) {
	f := newFixture(t)
	for n := range 24 { // all lengths modulo 3 and 4
		c := tokentest.Claims()
		c.UserID = strings.Repeat("u", n+1)
		text := f.mint(t, c)
		require.Equal(t, text, spell(unspell(t, text)))
		last := text[len(text)-1]
		for other := range 256 {
			if byte(other) != last {
				f.requireRefused(t, token.ErrInvalid, text[:len(text)-1]+string([]byte{byte(other)}))
			}
		}
	}
}

func TestOpenSwappedParts(t *testing.T) {
	f := newFixture(t)
	a := unspell(t, f.mint(t, tokentest.Claims()))
	b := unspell(t, f.mint(t, tokentest.Claims()))
	other := newFixture(t)
	foreign := unspell(t, other.mint(t, tokentest.Claims()))
	swap := func(dst, src []byte, from, to int) string {
		mixed := append([]byte(nil), dst...)
		copy(mixed[from:to], src[from:to])
		return spell(mixed)
	}
	n := len(a)
	// The nonce, ciphertext and tag of another token.
	f.requireRefused(t, token.ErrForged, swap(a, b, 8, 32))
	f.requireRefused(t, token.ErrForged, swap(a, b, 32, n-16))
	f.requireRefused(t, token.ErrForged, swap(a, b, n-16, n))
	// Our key ID on a foreign token, and theirs on ours.
	f.requireRefused(t, token.ErrForged, swap(foreign, a, 4, 8))
	f.requireRefused(t, token.ErrUnknownKey, swap(a, foreign, 4, 8))
	f.requireRefused(t, token.ErrUnknownKey, spell(foreign))
	// The start of one token, the rest of another.
	f.requireRefused(t, token.ErrForged, spell(append(a[:40:40], b[40:]...)))
}

// Open tries exactly the key that the header names, although the ring has
// others.
func TestOpenTriesOneKey(t *testing.T) {
	f := newFixture(t)
	original := unspell(t, f.mint(t, tokentest.Claims()))
	tried := 0
	for key := range f.ring.Keys(f.now) {
		b := append([]byte(nil), original...)
		if string(b[4:8]) == string(key.ID[:]) {
			continue
		}
		copy(b[4:8], key.ID[:])
		f.requireRefused(t, token.ErrForged, spell(b))
		tried++
	}
	assert.NotZero(t, tried)
}

func TestOpenTime(t *testing.T) {
	floor := start.Truncate(time.Second)
	tests := []struct {
		name string
		now  time.Time
		want error
	}{
		{"minted", start, nil},
		{"a nanosecond before expiration", floor.Add(time.Minute - 1), nil},
		{"expiration", floor.Add(time.Minute), token.ErrTokenExpired},
		{"a nanosecond after expiration", floor.Add(time.Minute + 1), token.ErrTokenExpired},
		{"a clock behind by the skew", floor.Add(-5 * time.Second), nil},
		{"a clock behind by a nanosecond more", floor.Add(-5*time.Second - 1), token.ErrNotYetValid},
		{"a clock behind by a second more", floor.Add(-6 * time.Second), token.ErrNotYetValid},
		{"no time", time.Time{}, token.ErrNotYetValid},
		{"1900", time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), token.ErrNotYetValid},
		{"1970", time.Unix(0, 0), token.ErrNotYetValid},
		{"a day later", floor.AddDate(0, 0, 1), token.ErrTokenExpired},
		// Years later the key has expired, too.
		{"2038", time.Unix(math.MaxInt32, 0), token.ErrUnknownKey},
		{"after 2038", time.Unix(math.MaxInt32+1, 0), token.ErrUnknownKey},
		{"2106", time.Unix(math.MaxUint32, 0), token.ErrUnknownKey},
		{"9999", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), token.ErrUnknownKey},
		{"292277026596", time.Unix(1<<62, 0), token.ErrUnknownKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			text := f.mint(t, tokentest.Claims())
			f.now = test.now
			var s token.Session
			assert.Equal(t, test.want, f.opener.Open(t.Context(), &s, text))
		})
	}
}

// At any time that a clock can show, tokens can be minted and opened.
func TestOpenAnyEra(t *testing.T) {
	for _, now := range []time.Time{
		time.Unix(0, 0), time.Unix(1, 0), time.Unix(math.MaxInt32, 0), time.Unix(math.MaxInt32+1, 0),
		time.Unix(math.MaxUint32, 0), time.Unix(math.MaxUint32+1, 0),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	} {
		f := newFixture(t)
		f.now = now
		minted, err := f.sealer.Create(tokentest.Claims())
		require.NoError(t, err)
		var s token.Session
		require.NoError(t, f.opener.Open(t.Context(), &s, minted.Token), "%v", now)
		assert.Equal(t, now.Unix()+30*60, s.SessionExpiration().Unix())
		f.now = minted.TokenExpiration
		assert.Equal(t, token.ErrTokenExpired, f.opener.Open(t.Context(), &s, minted.Token))
	}
}

// TestOpenPayload opens authentic payloads that no Sealer makes.
func TestOpenPayload(t *testing.T) {
	f := newFixture(t)
	// Issued at 1647405597.
	head := "\x87" + "\x61r" + "\x61u" + "\x00" + "\xa0" + "\x1a\x62\x31\x6a\x1d"
	f.now = time.Unix(1647405597, 0)
	var s token.Session
	require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &s, f.sealPayload(t, []byte(head+"\x18\x3c\x18\x1e"))))

	for name, payload := range map[string]string{
		"empty is too short for a token": "\x87" + "\x61r" + "\x61u" + "\x00" + "\xa0" + "\x00\x05",
		"TTL 0":                          head + "\x00" + "\x18\x1e",
		"TTL 4":                          head + "\x04" + "\x18\x1e",
		"TTL 601":                        head + "\x19\x02\x59" + "\x18\x1e",
		"TTL 2^32":                       head + "\x1b\x00\x00\x00\x01\x00\x00\x00\x00" + "\x18\x1e",
		"TTL 2^64-1":                     head + "\x1b\xff\xff\xff\xff\xff\xff\xff\xff" + "\x18\x1e",
		"TTL longer than the session":    head + "\x18\x3d" + "\x01",
		"session 0":                      head + "\x18\x3c" + "\x00",
		"session 181":                    head + "\x18\x3c" + "\x18\xb5",
		"long head":                      head + "\x19\x00\x3c" + "\x18\x1e",
		"trailing byte":                  head + "\x18\x3c\x18\x1e\x00",
		"not CBOR":                       "hello, this is no CBOR",
		"largest":                        strings.Repeat("\x00", 2840),
	} {
		t.Run(name, func(t *testing.T) {
			text := f.sealPayload(t, []byte(payload))
			if len(text) < token.MinLen {
				f.requireRefused(t, token.ErrMalformed, text)
				return
			}
			f.requireRefused(t, token.ErrPayload, text)
		})
	}

	// The order of checks: the future, the limits of the TTL, expiration.
	f.now = time.Unix(1647405597-6, 0)
	f.requireRefused(t, token.ErrNotYetValid, f.sealPayload(t, []byte(head+"\x04\x18\x1e")))
	f.now = time.Unix(1647405597+3600, 0)
	f.requireRefused(t, token.ErrPayload, f.sealPayload(t, []byte(head+"\x04\x18\x1e")))
	f.requireRefused(t, token.ErrTokenExpired, f.sealPayload(t, []byte(head+"\x05\x18\x1e")))
}

func TestOpenSpendsLast(t *testing.T) {
	f := newFixture(t)
	text := f.mint(t, tokentest.Claims())
	var asked []string
	refusal := errors.New("not in this room")
	var admitErr error
	f.opener.Admit = func(_ context.Context, now time.Time, s token.Summary) error {
		asked = append(asked, "admit")
		assert.Equal(t, f.now, now)
		assert.Equal(t, tokentest.Room, string(s.RoomIdentifier))
		assert.Equal(t, "11231234", string(s.UserID))
		assert.Equal(t, start.Truncate(time.Second), s.IssuedAt)
		assert.Equal(t, start.Truncate(time.Second).Add(time.Minute), s.Expiration)
		return admitErr
	}

	var revoked error
	f.guard.revoked = func(s token.Summary) error {
		asked = append(asked, "revoked")
		assert.Equal(t, "11231234", string(s.UserID))
		assert.Equal(t, f.ring.Limits().ClockSkew, s.ClockSkew)
		return revoked
	}

	admitErr = refusal
	f.requireRefused(t, refusal, text)
	assert.Equal(t, []string{"revoked", "admit", "revoked", "admit"}, asked)
	for _, revoked = range []error{token.ErrRevoked, token.ErrAllRevoked} {
		asked = nil
		f.requireRefused(t, revoked, text)
		assert.NotContains(t, asked, "admit")
		require.Equal(t, revoked, f.opener.OpenWithoutSpending(t.Context(), new(token.Session), text))
	}
	revoked = nil
	require.Equal(t, refusal, f.opener.OpenWithoutSpending(t.Context(), new(token.Session), text), "the rule is asked without spending too")
	f.now = start.Add(time.Hour)
	asked = nil
	f.requireRefusedBeforeAdmit(t, token.ErrTokenExpired, text, &asked)
	f.now = start

	admitErr = nil
	var s token.Session
	require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &s, text))
	assert.Zero(t, f.guard.calls)
	require.NoError(t, f.opener.Open(t.Context(), &s, text))
	assert.Equal(t, 1, f.guard.calls)
	assert.Equal(t, f.now, f.guard.now)
	assert.Equal(t, s.Summary(), f.guard.last)
	assert.Equal(t, s.TokenID(), f.guard.last.TokenID)
	assert.Equal(t, string(unspell(t, text)[8:24]), string(f.guard.last.TokenID[:]), "the token ID is the nonce's first 16 bytes")

	assert.Equal(t, token.ErrSpent, f.opener.Open(t.Context(), &s, text))
	requireZero(t, &s)
}

func (f *fixture) requireRefusedBeforeAdmit(t testing.TB, want error, text string, asked *[]string) {
	t.Helper()
	var s token.Session
	require.Equal(t, want, f.opener.Open(t.Context(), &s, text))
	require.Empty(t, *asked)
}

type guardFunc func(context.Context, time.Time, token.Summary) (bool, error)

func (guardFunc) Revoked(token.Summary) error { return nil }

func (f guardFunc) Spend(ctx context.Context, now time.Time, t token.Summary) (bool, error) {
	return f(ctx, now, t)
}

type down struct{}

func (down) Error() string        { return "the server is down" }
func (down) Is(target error) bool { return target == token.ErrUnavailable }

func TestOpenGuardAnswers(t *testing.T) {
	tests := []struct {
		name  string
		fresh bool
		err   error
		want  error
	}{
		{"fresh", true, nil, nil},
		{"zero answer", false, nil, token.ErrSpent},
		{"fresh with an error", true, errors.New("?"), token.ErrUnavailable},
		{"unknown error", false, errors.New("?"), token.ErrUnavailable},
		{"cancelled", false, context.Canceled, token.ErrUnavailable},
		{"unavailable", false, token.ErrUnavailable, token.ErrUnavailable},
		{"unavailable with a reason", false, down{}, down{}},
		{"revoked", false, token.ErrRevoked, token.ErrRevoked},
		{"all revoked", false, token.ErrAllRevoked, token.ErrAllRevoked},
		{"all revoked, wrapped", true, fmt.Errorf("x: %w", token.ErrAllRevoked), token.ErrAllRevoked},
		{"revoked, wrapped", true, fmt.Errorf("x: %w", token.ErrRevoked), token.ErrRevoked},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			type contextKey struct{}
			ctx := context.WithValue(t.Context(), contextKey{}, "passed on")
			f.opener.Guard = guardFunc(func(ctx context.Context, _ time.Time, _ token.Summary) (bool, error) {
				assert.Equal(t, "passed on", ctx.Value(contextKey{}))
				return test.fresh, test.err
			})
			s := f.usedSession(t)
			err := f.opener.Open(ctx, s, f.mint(t, tokentest.Claims()))
			assert.Equal(t, test.want, err)
			if test.want != nil {
				requireZero(t, s)
			}
		})
	}
}

func TestOpenMisconfigured(t *testing.T) {
	f := newFixture(t)
	text := f.mint(t, tokentest.Claims())
	s := f.usedSession(t)
	err := (&token.Opener{Ring: f.ring}).Open(t.Context(), s, text)
	assert.ErrorIs(t, err, token.ErrUnavailable)
	assert.ErrorContains(t, err, "Guard is nil")
	requireZero(t, s)
	err = (&token.Opener{Guard: f.guard}).Open(t.Context(), s, text)
	assert.ErrorIs(t, err, token.ErrUnavailable)
	assert.ErrorContains(t, err, "Ring is nil")
	err = (&token.Opener{Guard: f.guard, Ring: new(keyring.Ring)}).Open(t.Context(), s, text)
	assert.Equal(t, token.ErrUnknownKey, err)
	assert.Zero(t, f.guard.calls)
}

// A guard panics, and the server recovers: no Session looks verified.
func TestOpenGuardPanics(t *testing.T) {
	f := newFixture(t)
	var view []byte
	f.opener.Guard = guardFunc(func(_ context.Context, _ time.Time, t token.Summary) (bool, error) {
		view = t.UserID
		panic("guard")
	})
	s := f.usedSession(t)
	assert.Panics(t, func() { _ = f.opener.Open(t.Context(), s, f.mint(t, tokentest.Claims())) })
	requireZero(t, s)
	assert.Equal(t, make([]byte, len("11231234")), view, "no plaintext is left")
	f.opener.Guard = f.guard
	require.NoError(t, f.opener.Open(t.Context(), s, f.mint(t, tokentest.Claims())))
	assert.Equal(t, tokentest.Claims(), s.Claims())
}

// While a guard waits, Open holds the few bytes of the token and no workspace.
func TestOpenHoldsLittleWhileTheGuardWaits(t *testing.T) {
	const waiting = 2000
	f := newFixture(t)
	arrived, release := make(chan bool), make(chan bool)
	f.opener.Guard = guardFunc(func(context.Context, time.Time, token.Summary) (bool, error) {
		arrived <- true
		<-release
		return true, nil
	})
	text := f.mint(t, tokentest.Claims())
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // twice, so that pools are empty
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var done sync.WaitGroup
	for range waiting {
		done.Go(func() {
			var s token.Session
			assert.NoError(t, f.opener.Open(context.Background(), &s, text))
		})
	}
	for range waiting {
		<-arrived
	}
	each := int64(heap()-before) / waiting
	close(release)
	done.Wait()
	assert.Less(t, each, int64(1500), "bytes held per waiting token")
}

func TestOpenKeyStates(t *testing.T) {
	f := newFixture(t)
	keys := func(state keyring.State) (keyring.Key, bool) {
		for k := range f.ring.Keys(f.now) {
			if k.State == state {
				return k, true
			}
		}
		return keyring.Key{}, false
	}
	old := f.mint(t, tokentest.Claims())
	pending, ok := keys(keyring.Pending)
	require.True(t, ok)

	// An issuer whose clock is ahead already seals under the key that is
	// pending here.
	f.now = pending.Activates
	early := f.mint(t, tokentest.Claims())
	require.Equal(t, string(pending.ID[:]), string(unspell(t, early)[4:8]))
	f.now = pending.Activates.Add(-5 * time.Second)
	var s token.Session
	require.NoError(t, f.opener.Open(t.Context(), &s, early), "a pending key opens")

	// The last token under the old key opens until it expires.
	f.now = pending.Activates.Add(-1)
	last := f.mint(t, tokentest.Claims())
	f.now = f.now.Truncate(time.Second).Add(time.Minute - 1)
	require.NoError(t, f.opener.Open(t.Context(), &s, last), "a retired key opens")

	retired, ok := keys(keyring.Retired)
	require.True(t, ok)
	f.now = retired.Expires.Add(-1)
	f.requireRefused(t, token.ErrTokenExpired, old)
	f.now = retired.Expires
	f.requireRefused(t, token.ErrUnknownKey, old)

	f = newFixture(t)
	text := f.mint(t, tokentest.Claims())
	primary, _ := keys(keyring.Primary)
	require.NoError(t, f.ring.Revoke(f.now, primary.ID))
	f.requireRefused(t, token.ErrRevokedKey, text)
	require.NoError(t, f.opener.Open(t.Context(), &s, f.mint(t, tokentest.Claims())), "the spare seals at once")
}

// A million unknown keys and a million forgeries leave nothing behind.
func TestOpenFlood(t *testing.T) {
	n := 1_000_000
	if testing.Short() || testenv.Race {
		n = 10_000
	}
	f := newFixture(t)
	original := unspell(t, f.mint(t, tokentest.Claims()))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // twice, so that pools are empty
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, flood := range []struct {
		at   int // where the tokens differ
		want error
	}{{len(token.Prefix), token.ErrUnknownKey}, {len(original) - 4, token.ErrForged}} {
		var s token.Session
		b := bytes.Clone(original)
		before := heap()
		for i := range n {
			counter := binary.BigEndian.Uint32(original[flood.at:]) + 1 + uint32(i)
			binary.BigEndian.PutUint32(b[flood.at:], counter)
			if err := f.opener.Open(t.Context(), &s, spell(b)); err != flood.want {
				if err == token.ErrForged && flood.want == token.ErrUnknownKey {
					// The spare's ID, once in 4,000 runs.
					continue
				}
				t.Fatalf("token %d: got %v, want %v", i, err, flood.want)
			}
		}
		assert.Less(t, int64(heap()-before), int64(64<<10), "bytes that are left")
	}
	assert.Zero(t, f.guard.calls)
}

func TestOpenConcurrently(t *testing.T) {
	f := newFixture(t)
	f.opener.Guard = guardFunc(func(context.Context, time.Time, token.Summary) (bool, error) { return true, nil })
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			c := tokentest.Claims()
			c.UserID = fmt.Sprint("user ", g)
			c.Attributes = map[string]string{"g": strings.Repeat("x", g*60)}
			c.SessionMinutes = 1 + g
			var s token.Session
			for range 500 {
				minted, err := f.sealer.Create(c)
				if !assert.NoError(t, err) || !assert.NoError(t, f.opener.Open(context.Background(), &s, minted.Token)) || !assert.Equal(t, c, s.Claims()) {
					return
				}
				assert.ErrorIs(t, f.opener.Open(context.Background(), &s, minted.Token[1:]+"A"), token.ErrInvalid)
			}
		})
	}
	wg.Wait()
}

package token_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/vectors"
)

func readVectors(t *testing.T) vectors.Vectors {
	t.Helper()
	v, err := vectors.Read()
	require.NoError(t, err)
	return v
}

func TestVectorsValid(t *testing.T) {
	all := readVectors(t).Valid
	require.Equal(t, 73, len(all))
	shortest, longest := token.MaxLen, token.MinLen
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			shortest, longest = min(shortest, len(v.Token)), max(longest, len(v.Token))
			var want claims.Claims
			require.NoError(t, json.Unmarshal(v.Claims, &want))
			ring := ringOf(t, v.Secret, v.Context, 600, 5)
			var s token.Session
			require.NoError(t, open(t, ring, &s, v.Token, v.Now))
			assert.Equal(t, want, s.Claims())
			assert.Equal(t, v.IssuedAt, s.IssuedAt().Unix())
			assert.Equal(t, v.IssuedAt+v.TTL, s.Summary().Expiration.Unix())
			assert.Equal(t, want.SessionDuration(), s.SessionExpiration().Sub(s.IssuedAt()))
			assert.Equal(t, token.ID(v.Nonce[:16]), s.TokenID())

			sealer := token.Sealer{Ring: ring, TTL: time.Duration(v.TTL) * time.Second, Room: anyRoom, Now: fixedClock(v.IssuedAt)}
			randomIs(t, v.Nonce)
			minted, err := sealer.Create(want)
			require.NoError(t, err)
			assert.Equal(t, v.Token, minted.Token)
		})
	}
	assert.Equal(t, token.MinLen, shortest)
	assert.Equal(t, token.MaxLen, longest)
}

func TestVectorsInvalid(t *testing.T) {
	counts := map[string]int{}
	var s token.Session // reused, so that a refusal must clear it
	for _, v := range readVectors(t).Invalid {
		counts[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			ring := ringOf(t, v.Secret, v.Context, 600, 5)
			assert.Equal(t, v.Reason, token.Reason(open(t, ring, &s, v.Token, v.Now)))
			requireZero(t, &s)
		})
	}
	assert.Equal(t, map[string]int{
		"malformed":     46,
		"unknown-key":   5,
		"forged":        15,
		"payload":       206,
		"not-yet-valid": 5,
		"expired":       5,
	}, counts)
}

func TestVectorsOpens(t *testing.T) {
	counts := map[string]int{}
	for _, v := range readVectors(t).Opens {
		counts[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			var s token.Session
			err := open(t, load(t, v.KEK, v.Sealed, v.Context), &s, v.Token, v.Now)
			assert.Equal(t, v.Reason, token.Reason(err))
		})
	}
	assert.Equal(t, map[string]int{
		"":              15,
		"unknown-key":   8,
		"revoked-key":   6,
		"forged":        3,
		"not-yet-valid": 3,
		"expired":       2,
	}, counts)
}

func TestVectorsMints(t *testing.T) {
	minted, refused := 0, 0
	for _, v := range readVectors(t).Mints {
		t.Run(v.Name, func(t *testing.T) {
			s := token.Sealer{TTL: time.Duration(v.TTL) * time.Second, Now: fixedClock(v.Now)}
			if v.Secret != nil {
				s.Ring = ringOf(t, v.Secret, v.Context, v.MaxTTL, v.ClockSkew)
			} else {
				s.Ring = load(t, v.KEK, v.Sealed, v.Context)
			}
			if v.AnyRoom {
				s.Room = anyRoom
			}
			// A request without a token has no nonce and must draw
			// none.
			randomIs(t, v.Nonce)
			got, err := mint(&s, v.Claims)
			assert.Equal(t, v.Token, got.Token)
			var invalid *claims.ValidationError
			if errors.As(err, &invalid) {
				var fields []string
				for _, f := range invalid.Fields {
					fields = append(fields, f.Name)
				}
				assert.Equal(t, v.Fields, fields)
				refused++
				return
			}
			assert.Empty(t, v.Fields)
			if v.Token != "" {
				assert.Equal(t, v.TokenExpiration, got.TokenExpiration.Unix())
				assert.Equal(t, v.SessionExpiration, got.SessionExpiration.Unix())
			}
			assert.Equal(t, v.Error != "", err != nil, err)
			if err != nil {
				assert.Equal(t, v.Error == "clock", errors.Is(err, token.ErrClock), err)
				refused++
				return
			}
			minted++
		})
	}
	assert.Equal(t, [2]int{30, 48}, [2]int{minted, refused})
}

// mint mints a token from a request.
func mint(s *token.Sealer, request []byte) (token.ChatToken, error) {
	c, err := claims.ParseJSON(request, s.Room)
	if err != nil {
		return token.ChatToken{}, err
	}
	return s.Create(c)
}

func TestVectorsAuthorizations(t *testing.T) {
	counts := map[string]int{}
	for _, v := range readVectors(t).Authorizations {
		counts[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			opener := token.Opener{
				Ring: ringOf(t, v.Secret, v.Context, 600, 5), Guard: new(memory), Now: fixedClock(v.IssuedAt),
			}
			var s token.Session
			require.NoError(t, opener.Open(t.Context(), &s, v.Token))
			needs, err := claims.ParseCapabilities(v.Capabilities...)
			require.NoError(t, err)
			assert.Equal(t, v.Reason, token.Reason(s.Authorize(time.Unix(v.Now, 0), needs)))
		})
	}
	assert.Equal(t, map[string]int{"": 7, "not-permitted": 5, "session-expired": 3}, counts)
}

// TestVectorsAccumulated mints more tokens than vectors could hold, with all
// kinds of text. SPEC.md says how.
func TestVectorsAccumulated(t *testing.T) {
	want := readVectors(t).Accumulated
	require.Positive(t, want.Tokens)
	var in stream
	ring := ringOf(t, in.bytes(32), nil, 600, 5)
	all := sha256.New()
	var text []byte
	for i := range want.Tokens {
		nonce := in.bytes(24)
		c := claims.Claims{RoomIdentifier: in.text(1 + in.below(32)), UserID: in.text(1 + in.below(128))}
		c.Capabilities = claims.Capabilities(in.below(8))
		c.Attributes = map[string]string{}
		for range in.below(10) {
			key := in.text(1 + in.below(8))
			c.Attributes[key] = in.text(in.below(17))
		}
		c.SessionMinutes = 1 + in.below(180)
		s := token.Sealer{
			Ring: ring, Room: anyRoom, TTL: time.Duration(5+in.below(596)) * time.Second, Now: fixedClock(1647405789 + 1_000_000*int64(i)),
		}
		randomIs(t, nonce)
		var err error
		text, _, err = s.Seal(text[:0], &c)
		require.NoError(t, err)
		all.Write(text)
	}
	require.Equal(t, []byte(want.SHA256), all.Sum(nil))
}

// stream is the one that SPEC.md describes.
type stream struct {
	block uint64
	rest  []byte
}

func (s *stream) bytes(n int) []byte {
	for len(s.rest) < n {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("chattoken accumulated"), s.block))
		s.block++
		s.rest = append(s.rest, sum[:]...)
	}
	defer func() { s.rest = s.rest[n:] }()
	return s.rest[:n:n]
}

func (s *stream) below(n int) int {
	b := s.bytes(2)
	return (int(b[0])<<8 | int(b[1])) % n
}

func (s *stream) text(n int) string {
	runes := make([]rune, n)
	for i := range runes {
		switch s.below(4) {
		case 0:
			runes[i] = rune(s.below(0x80))
		case 1:
			runes[i] = rune(0x80 + s.below(0x780))
		case 2:
			runes[i] = rune(0x800 + s.below(0xd000))
		default:
			runes[i] = rune(0x10000 + s.below(0x10000))
		}
	}
	return string(runes)
}

func anyRoom(string) bool { return true }

func fixedClock(now int64) func() time.Time {
	return func() time.Time { return time.Unix(now, 0) }
}

func open(t *testing.T, ring *keyring.Ring, s *token.Session, text string, now int64) error {
	t.Helper()
	opener := token.Opener{Ring: ring, Now: fixedClock(now)}
	return opener.OpenWithoutSpending(t.Context(), s, text)
}

// randomIs makes b all the randomness that there is.
func randomIs(t *testing.T, b []byte) {
	t.Helper()
	old := rand.Reader
	t.Cleanup(func() { rand.Reader = old })
	rand.Reader = bytes.NewReader(b)
}

func load(t *testing.T, kekText string, sealed, context []byte) *keyring.Ring {
	t.Helper()
	kek, err := keyring.ParseKEK(kekText)
	require.NoError(t, err)
	ring, err := keyring.Load(t.Context(), kek, sealed, keyring.Config{Context: string(context)})
	require.NoError(t, err)
	return ring
}

// clearKEK takes the wrapped key for the data key.
type clearKEK struct{}

func (clearKEK) Wrap(_ context.Context, dataKey []byte) (string, []byte, error) {
	return "clear", slices.Clone(dataKey), nil
}

func (clearKEK) Unwrap(_ context.Context, _ string, wrapped []byte) ([]byte, error) {
	return slices.Clone(wrapped), nil
}

// ringOf makes a ring of one key that seals and opens at any time.
func ringOf(t *testing.T, secret, context []byte, maxTTL, clockSkew int64) *keyring.Ring {
	t.Helper()
	document, err := cbor.Marshal([]any{1, []any{maxTTL, clockSkew, 3600, 3600}, []any{[]any{secret, 0, 0, 0, 0, 0}}, []any{}})
	require.NoError(t, err)
	dataKey, nonce := bytes.Repeat([]byte{1}, 32), make([]byte, 24)
	header := append([]byte("chattoken-keyring\x01\x05clear\x00\x20"), dataKey...)
	aead, err := chacha20poly1305.NewX(dataKey)
	require.NoError(t, err)
	sealed := aead.Seal(append(slices.Clone(header), nonce...), nonce, document, header)
	ring, err := keyring.Load(t.Context(), clearKEK{}, sealed, keyring.Config{Context: string(context)})
	require.NoError(t, err)
	return ring
}

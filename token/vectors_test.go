package token_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

var updateVectors = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors is what testdata/vectors.json holds. SPEC.md describes it: vectors
// are added, those that were published are not changed.
type vectors struct {
	Comment     string             `json:"comment"`
	Derivations []derivationVector `json:"derivations"`
	Valid       []validVector      `json:"valid"`
	Invalid     []invalidVector    `json:"invalid"`
	Accumulated accumulatedVector  `json:"accumulated"`
	Rings       []ringVector       `json:"rings"`
}

type derivationVector struct {
	Name    string   `json:"name"`
	Secret  hexBytes `json:"secret"`
	Context hexBytes `json:"context"`
	Key     hexBytes `json:"key"`
	KeyID   hexBytes `json:"keyID"`
}

type validVector struct {
	Name     string        `json:"name"`
	Secret   hexBytes      `json:"secret"`
	Context  hexBytes      `json:"context"`
	Now      int64         `json:"now"` // when it is opened
	Claims   claims.Claims `json:"claims"`
	IssuedAt int64         `json:"issuedAt"`
	TTL      int64         `json:"ttl"`
	Payload  hexBytes      `json:"payload"`
	Nonce    hexBytes      `json:"nonce"`
	Token    string        `json:"token"`
}

type invalidVector struct {
	Name    string   `json:"name"`
	Reason  string   `json:"reason"` // of token.Reason
	Secret  hexBytes `json:"secret"`
	Context hexBytes `json:"context"`
	Now     int64    `json:"now"`
	Token   string   `json:"token"`
}

type accumulatedVector struct {
	Tokens int      `json:"tokens"`
	SHA256 hexBytes `json:"sha256"`
}

type ringVector struct {
	Name    string          `json:"name"`
	KEK     string          `json:"kek"`
	Context hexBytes        `json:"context"`
	Now     int64           `json:"now"`
	Sealed  hexBytes        `json:"sealed"`
	Serial  uint64          `json:"serial"`
	Keys    []ringKeyVector `json:"keys"`
}

// ringKeyVector has 0 for a time that is not set.
type ringKeyVector struct {
	KeyID     keyring.ID `json:"keyID"`
	State     string     `json:"state"`
	Created   int64      `json:"created"`
	Activates int64      `json:"activates"`
	Retires   int64      `json:"retires"`
	Expires   int64      `json:"expires"`
	Revoked   int64      `json:"revoked"`
}

// hexBytes is a byte string that JSON shows in hexadecimal.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode([]byte{}, text)
	return err
}

var vectorsFile = filepath.Join("testdata", "vectors.json")

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	data, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}

// TestVectorsFrozen makes all vectors anew: what is minted today, to the last
// bit, is what was minted when they were published.
func TestVectorsFrozen(t *testing.T) {
	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(makeVectors(t)))
	if *updateVectors {
		require.NoError(t, os.WriteFile(vectorsFile, made.Bytes(), 0o644))
	}
	published, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	got, want := bytes.Split(made.Bytes(), []byte("\n")), bytes.Split(published, []byte("\n"))
	for i := range min(len(got), len(want)) {
		require.Equal(t, string(want[i]), string(got[i]), "line %d of %s", i+1, vectorsFile)
	}
	require.Len(t, got, len(want))
}

func TestVectorsDerivation(t *testing.T) {
	v := readVectors(t)
	require.Len(t, v.Derivations, 14)
	keys, ids := map[string]bool{}, map[string]bool{}
	for _, d := range v.Derivations {
		key, id := deriveByHand(t, d.Secret, string(d.Context))
		assert.Equal(t, []byte(d.Key), key, d.Name)
		assert.Equal(t, []byte(d.KeyID), id, d.Name)
		keys[string(d.Key[:4])], ids[string(id)] = true, true
	}
	for id := range ids {
		assert.False(t, keys[id], "the labels are not separate: %x is ID and key", id)
	}
	assert.Len(t, ids, len(v.Derivations))
}

func TestVectorsValid(t *testing.T) {
	v := readVectors(t)
	require.Len(t, v.Valid, 40)
	rings := vectorRings(t)
	shortest, longest := token.MaxLen, token.MinLen
	for _, v := range v.Valid {
		t.Run(v.Name, func(t *testing.T) {
			shortest, longest = min(shortest, len(v.Token)), max(longest, len(v.Token))
			r := findRing(t, rings, v.Secret, string(v.Context))
			var s token.Session
			require.NoError(t, r.open(t, &s, v.Token, v.Now))
			assert.Equal(t, v.Claims, s.Claims())
			assert.Equal(t, v.IssuedAt, s.IssuedAt().Unix())
			assert.Equal(t, v.IssuedAt+v.TTL, s.Summary().Expiration.Unix())
			assert.Equal(t, token.ID(v.Nonce[:16]), s.TokenID())
			assert.Equal(t, []byte(v.Payload), openByHand(t, v.Secret, string(v.Context), v.Token))
		})
	}
	assert.Equal(t, token.MinLen, shortest)
	assert.Equal(t, token.MaxLen, longest)
}

func TestVectorsInvalid(t *testing.T) {
	v := readVectors(t)
	counts := map[string]int{}
	rings := vectorRings(t)
	var s token.Session // reused, so that a refusal must clear it
	for _, v := range v.Invalid {
		counts[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			r := findRing(t, rings, v.Secret, string(v.Context))
			assert.Equal(t, v.Reason, token.Reason(r.open(t, &s, v.Token, v.Now)))
			requireZero(t, &s)
		})
	}
	assert.Equal(t, map[string]int{
		"malformed":     42,
		"unknown-key":   5,
		"forged":        15,
		"payload":       97,
		"not-yet-valid": 4,
		"expired":       5,
	}, counts)
}

func TestVectorsRing(t *testing.T) {
	v := readVectors(t)
	require.Len(t, v.Rings, 4)
	for _, v := range v.Rings {
		t.Run(v.Name, func(t *testing.T) {
			kek, err := keyring.ParseKEK(v.KEK)
			require.NoError(t, err)
			form := v.Sealed[len("chattoken-keyring")]
			c := keyring.Config{Context: string(v.Context)}
			ring, err := keyring.Load(t.Context(), kek, v.Sealed, c)
			require.NoError(t, err)
			require.EqualValues(t, form, ring.Form())
			c.RefuseForm1 = true
			_, err = keyring.Load(t.Context(), kek, v.Sealed, c)
			assert.Equal(t, form == 1, errors.Is(err, keyring.ErrContext), "form %d, if form 1 is refused: %v", form, err)
			c.RefuseForm1, c.Context = false, "another"
			_, err = keyring.Load(t.Context(), kek, v.Sealed, c)
			assert.Equal(t, form == 2, err == keyring.ErrContext, "form %d under another context: %v", form, err)
			assert.Equal(t, v.Serial, ring.Serial())
			assert.Equal(t, v.Keys, describeKeys(ring, time.Unix(v.Now, 0)))
		})
	}
}

// A vectorRing is a ring of two keys whose secrets are known. It is made in
// 1970: its first key seals for 30 days and its second one ever after.
type vectorRing struct {
	ring    *keyring.Ring
	context string
	secrets [2][]byte
}

// newVectorRing makes a ring of which the seed determines the secrets: they are
// the first 64 bytes of that random stream.
func newVectorRing(t *testing.T, seed uint64, context string) vectorRing {
	t.Helper()
	r := vectorRing{context: context}
	cryptotest.SetGlobalRandom(t, seed)
	for i := range r.secrets {
		r.secrets[i] = make([]byte, 32)
		rand.Read(r.secrets[i])
	}
	cryptotest.SetGlobalRandom(t, seed)
	var err error
	r.ring, err = keyring.New(time.Unix(0, 0), keyring.Config{
		Context: context,
		Policy:  keyring.Policy{MaxTTL: token.MaxTTL},
	})
	require.NoError(t, err)
	keys := slices.Collect(r.ring.Keys(time.Unix(0, 0)))
	require.Len(t, keys, len(r.secrets))
	for i, secret := range r.secrets {
		_, id := deriveByHand(t, secret, context)
		require.Equal(t, id, keys[i].ID[:], "the ring draws its secrets otherwise")
	}
	return r
}

// vectorRings are the rings under which the tokens of the vectors are sealed.
func vectorRings(t *testing.T) []vectorRing {
	t.Helper()
	return []vectorRing{
		newVectorRing(t, 1, ""),
		newVectorRing(t, 1, "chat.example.com production"),
		newVectorRing(t, 2, string(bytes.Repeat([]byte{0xff}, 255))),
	}
}

// findRing returns the ring that has the secret under the context.
func findRing(t *testing.T, rings []vectorRing, secret []byte, context string) vectorRing {
	t.Helper()
	for _, r := range rings {
		has := func(s []byte) bool { return bytes.Equal(s, secret) }
		if r.context == context && slices.ContainsFunc(r.secrets[:], has) {
			return r
		}
	}
	require.Fail(t, "no ring has this secret and context")
	return vectorRing{}
}

func (r vectorRing) open(t *testing.T, s *token.Session, text string, now int64) error {
	t.Helper()
	opener := token.Opener{Ring: r.ring, Now: fixedClock(now)}
	return opener.OpenWithoutSpending(t.Context(), s, text)
}

func fixedClock(now int64) func() time.Time {
	return func() time.Time { return time.Unix(now, 0) }
}

// The functions below do by hand, from the primitives, what SPEC.md says.

func deriveByHand(t *testing.T, secret []byte, context string) (key, id []byte) {
	t.Helper()
	key, err := hkdf.Key(sha256.New, secret, nil, "chattoken/v1 key\x00"+context, 32)
	require.NoError(t, err)
	id, err = hkdf.Key(sha256.New, secret, nil, "chattoken/v1 key-id\x00"+context, 4)
	require.NoError(t, err)
	return key, id
}

func openByHand(t *testing.T, secret []byte, context, text string) (payload []byte) {
	t.Helper()
	key, id := deriveByHand(t, secret, context)
	aead, err := chacha20poly1305.NewX(key)
	require.NoError(t, err)
	b := unspell(t, text)
	require.Equal(t, id, b[4:8])
	payload, err = aead.Open(nil, b[8:32], b[32:], b[:8])
	require.NoError(t, err)
	return payload
}

package token_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// makeVectors makes all vectors, the same ones each time.
func makeVectors(t *testing.T) vectors {
	t.Helper()
	return vectors{
		Comment:     "Test vectors of chattoken version 1; see SPEC.md. Byte strings are in hexadecimal, times are Unix seconds, the clock skew is 5 s.",
		Derivations: makeDerivations(t),
		Valid:       makeValid(t),
		Invalid:     makeInvalid(t),
		Accumulated: accumulate(t, 10_000),
		Rings:       makeRings(t),
	}
}

func makeDerivations(t *testing.T) (all []derivationVector) {
	t.Helper()
	for _, of := range []struct {
		name    string
		seed    uint64
		context string
	}{
		{"no context", 1, ""},
		{"a context", 1, "chat.example.com production"},
		{"another secret", 2, ""},
		{"the longest context, bytes that are not UTF-8", 2, strings.Repeat("\xff", 255)},
		{"label separation: without 0x00 this ID", 1, "x"},
		{"label separation: would be this key's beginning", 1, "-idx"},
		{"a context that begins with 0x00", 1, "\x00x"},
	} {
		r := newVectorRing(t, of.seed, of.context)
		for i, secret := range r.secrets {
			key, id := deriveByHand(t, secret, r.context)
			all = append(all, derivationVector{fmt.Sprintf("%s (%d)", of.name, i+1), secret, hexBytes(r.context), key, id})
		}
	}
	return all
}

// validCase is a token to be minted. Fields that are zero have the value of the
// documentation's example, which is issued at base.
type validCase struct {
	name     string
	claims   claims.Claims
	issuedAt int64
	ttl      time.Duration
	opened   int64 // seconds after issuedAt
	ring     int   // of vectorRings
}

// base is when most tokens of the vectors are issued: 2022-03-16T04:43:09Z.
const base = 1647405789

func validCases() []validCase {
	cases := []validCase{
		{name: "the service documentation's example", claims: tokentest.Claims()},
		{name: "shortest", claims: claims.Claims{RoomIdentifier: "r", UserID: "u", SessionMinutes: 1}, issuedAt: 1, ttl: token.MinTTL},
		{name: "longest", claims: testenv.LongestClaims(), issuedAt: 1 << 32, ttl: token.MaxTTL},
		{name: "context", claims: tokentest.Claims(), ring: 1},
		{name: "longest context", claims: tokentest.Claims(), ring: 2},
		{name: "TTL 5 s", claims: tokentest.Claims(), ttl: token.MinTTL},
		{name: "TTL 10 min", claims: tokentest.Claims(), ttl: token.MaxTTL},
		{name: "opened in its last second", claims: tokentest.Claims(), opened: 59},
		{name: "opened by a clock that is behind by the skew", claims: tokentest.Claims(), opened: -5},
		{name: "issued in 1970", claims: tokentest.Claims(), issuedAt: 30 * 24 * 60 * 60},
		{name: "issued at 2^31 - 1", claims: tokentest.Claims(), issuedAt: 1<<31 - 1},
		{name: "issued at 2^32 - 1", claims: tokentest.Claims(), issuedAt: 1<<32 - 1},
		{name: "issued at 2^32", claims: tokentest.Claims(), issuedAt: 1 << 32},
		{name: "issued in the last second of 9999", claims: tokentest.Claims(), issuedAt: 253402300799},
	}
	cases = append(cases, capabilityCases()...)
	cases = append(cases, sessionCases()...)
	cases = append(cases, textCases()...)
	return append(cases, attributeCases()...)
}

func capabilityCases() (cases []validCase) {
	for set := range claims.Capabilities(8) {
		c := tokentest.Claims()
		c.Capabilities = set
		cases = append(cases, validCase{name: "capabilities " + set.String(), claims: c})
	}
	return cases
}

func sessionCases() (cases []validCase) {
	for _, minutes := range []int{0, 1, 23, 24, 180} {
		c := tokentest.Claims()
		c.SessionMinutes = minutes
		name := fmt.Sprintf("session of %d minutes", minutes)
		// A TTL that is longer than the shortest session is shortened.
		cases = append(cases, validCase{name: name, claims: c, ttl: 2 * time.Minute})
	}
	cases[0].name = "session duration absent"
	return cases
}

func textCases() (cases []validCase) {
	for _, of := range []struct{ name, userID string }{
		{"user ID of 23 bytes", strings.Repeat("u", 23)},
		{"user ID of 24 bytes", strings.Repeat("u", 24)},
		{"user ID of 128 code points of 2 bytes", strings.Repeat("é", 128)},
		{"user ID of 128 code points of 4 bytes", strings.Repeat("\U0010ffff", 128)},
		{"odd text", "\x00 \r\n\t\x7f\"\\\u0085\u00a0\u00adé e\u0301 \u202eevil\u2066\u2028 \ufeff\ufffd\ufffe\uffff \U0001f469\u200d\U0001f680 \U0010ffff"},
	} {
		c := tokentest.Claims()
		c.UserID = of.userID
		cases = append(cases, validCase{name: of.name, claims: c})
	}
	c := tokentest.Claims()
	c.RoomIdentifier = tokentest.Room + strings.Repeat("x", claims.MaxRoomIdentifierBytes-len(tokentest.Room))
	return append(cases, validCase{name: "room identifier of 128 bytes", claims: c})
}

func attributeCases() (cases []validCase) {
	numbered := map[string]string{}
	for i := range 24 {
		numbered[fmt.Sprint(i)] = fmt.Sprint(i * i)
	}
	for _, of := range []struct {
		name       string
		attributes map[string]string
	}{
		{"no attributes", nil},
		{"attributes in the order of their encoding", map[string]string{"b": "1", "é": "2", "aa": "3", "~~": "4"}},
		{"24 attributes", numbered},
		{"keys and values of 23, 24, 255 and 256 bytes", map[string]string{
			strings.Repeat("k", 23): strings.Repeat("v", 24), strings.Repeat("k", 24): strings.Repeat("v", 23),
			strings.Repeat("k", 255): strings.Repeat("v", 256),
		}},
		{"one value of 1,023 bytes", map[string]string{"k": strings.Repeat("v", 1023)}},
		{"one key of 1,024 bytes", map[string]string{strings.Repeat("k", 1024): ""}},
		{"odd text in attributes", map[string]string{"\x00": "\x00", "\u202e": "\U0010ffff", "k": "\u2028"}},
	} {
		c := tokentest.Claims()
		c.Attributes = of.attributes
		cases = append(cases, validCase{name: of.name, claims: c})
	}
	return cases
}

func makeValid(t *testing.T) (all []validVector) {
	t.Helper()
	rings := vectorRings(t)
	for _, of := range validCases() {
		if of.issuedAt == 0 {
			of.issuedAt = base
		}
		all = append(all, rings[of.ring].mint(t, of))
	}
	return all
}

// mint makes the token of a case. Its nonce follows from its name, so that a
// vector that is added does not change the others.
func (r vectorRing) mint(t *testing.T, of validCase) validVector {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seedOf(of.name))
	sealer := token.Sealer{
		Ring: r.ring,
		TTL:  of.ttl,
		Room: func(string) bool { return true },
		Now:  fixedClock(of.issuedAt),
	}
	minted, err := sealer.Create(of.claims)
	require.NoError(t, err)
	if of.claims.SessionMinutes == 0 {
		of.claims.SessionMinutes = claims.DefaultSessionMinutes
	}
	secret := r.secretAt(of.issuedAt)
	return validVector{
		Name:     of.name,
		Secret:   secret,
		Context:  hexBytes(r.context),
		Now:      of.issuedAt + of.opened,
		Claims:   of.claims,
		IssuedAt: of.issuedAt,
		TTL:      minted.TokenExpiration.Unix() - of.issuedAt,
		Payload:  openByHand(t, secret, r.context, minted.Token),
		Nonce:    unspell(t, minted.Token)[8:32],
		Token:    minted.Token,
	}
}

// secretAt returns the secret of the key that seals at now.
func (r vectorRing) secretAt(now int64) []byte {
	if now < 30*24*60*60 {
		return r.secrets[0]
	}
	return r.secrets[1]
}

func seedOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// accumulate mints n tokens of pseudo-random claims and hashes them all. The
// claims come in all lengths, so that a difference in any of them shows, which
// as many vectors would take too much room for.
func accumulate(t *testing.T, n int) accumulatedVector {
	t.Helper()
	r := newVectorRing(t, 3, "")
	cryptotest.SetGlobalRandom(t, 4)
	random := rand.New(rand.NewPCG(5, 6))
	hash := sha256.New()
	var text []byte
	for i := range n {
		sealer := token.Sealer{Ring: r.ring, Now: fixedClock(base + int64(i)*1_000_000)}
		c := randomClaims(random)
		var err error
		text, _, err = sealer.Seal(text[:0], &c)
		require.NoError(t, err)
		hash.Write(text)
	}
	return accumulatedVector{n, hash.Sum(nil)}
}

func randomClaims(r *rand.Rand) claims.Claims {
	c := claims.Claims{
		RoomIdentifier: tokentest.Room[:len(tokentest.Room)-r.IntN(12)],
		UserID:         randomText(r, 1+r.IntN(128)),
		Capabilities:   claims.Capabilities(r.IntN(8)),
		SessionMinutes: r.IntN(181),
		Attributes:     map[string]string{},
	}
	for range r.IntN(10) {
		c.Attributes[randomText(r, 1+r.IntN(8))] = randomText(r, r.IntN(17))
	}
	return c
}

// randomText returns n code points of all lengths, none of them a surrogate.
func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteRune([]rune{r.Int32N(0x80), r.Int32N(0x800), r.Int32N(0xd800), 0xe000 + r.Int32N(0x10_2000)}[r.IntN(4)])
	}
	return b.String()
}

func makeRings(t *testing.T) []ringVector {
	t.Helper()
	fresh := func(*keyring.Ring) int64 { return base }
	used := func(r *keyring.Ring) int64 {
		now := int64(base)
		for range 3 {
			now += 40 * 24 * 60 * 60
			_, err := r.Rotate(time.Unix(now, 0))
			require.NoError(t, err)
		}
		for _, k := range describeKeys(r, time.Unix(now, 0)) {
			if k.State == "primary" {
				require.NoError(t, r.Revoke(time.Unix(now, 0), k.KeyID))
			}
		}
		require.NoError(t, r.RotateNow(time.Unix(now+3600, 0)))
		return now + 3600
	}
	const ringContext = "chat.example.com production"
	return []ringVector{
		asForm1(t, makeRing(t, "fresh", "", fresh)),
		asForm1(t, makeRing(t, "rotated and revoked", ringContext, used)),
		makeRing(t, "fresh, form 2", "", fresh),
		makeRing(t, "rotated and revoked, form 2", ringContext, used),
	}
}

// asForm1 seals the same document in form 1, as it was before there was form 2:
// under the same data key and nonce, without the digest of the context.
func asForm1(t *testing.T, v ringVector) ringVector {
	t.Helper()
	kek, err := keyring.ParseKEK(v.KEK)
	require.NoError(t, err)
	const form, headerLen = len("chattoken-keyring"), 17 + 1 + 1 + 22 + 2 + 72
	header := bytes.Clone(v.Sealed[:headerLen])
	nonce, ciphertext := v.Sealed[headerLen:headerLen+24], v.Sealed[headerLen+24:]
	dataKey, err := kek.Unwrap(t.Context(), kek.ID(), header[headerLen-72:])
	require.NoError(t, err)
	aead, err := chacha20poly1305.NewX(dataKey)
	require.NoError(t, err)
	plaintext, err := aead.Open(nil, nonce, ciphertext, header)
	require.NoError(t, err)
	header[form] = 1
	v.Sealed = aead.Seal(slices.Concat(header, nonce), nonce, plaintext[32:], header)
	return v
}

// makeRing makes a ring at base, lets use change it, and seals what it is at
// the time that use returns.
func makeRing(t *testing.T, name, context string, use func(*keyring.Ring) int64) ringVector {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seedOf(name))
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	ring, err := keyring.New(time.Unix(base, 0), keyring.Config{Context: context})
	require.NoError(t, err)
	now := use(ring)
	sealed, err := ring.Marshal(t.Context(), kek)
	require.NoError(t, err)
	return ringVector{
		Name:    name,
		KEK:     kek.InsecureText(),
		Context: hexBytes(context),
		Now:     now,
		Sealed:  sealed,
		Serial:  ring.Serial(),
		Keys:    describeKeys(ring, time.Unix(now, 0)),
	}
}

func describeKeys(r *keyring.Ring, now time.Time) (keys []ringKeyVector) {
	for k := range r.Keys(now) {
		keys = append(keys, ringKeyVector{
			KeyID:     k.ID,
			State:     k.State.String(),
			Created:   unixOrZero(k.Created),
			Activates: unixOrZero(k.Activates),
			Retires:   unixOrZero(k.Retires),
			Expires:   unixOrZero(k.Expires),
			Revoked:   unixOrZero(k.Revoked),
		})
	}
	return keys
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

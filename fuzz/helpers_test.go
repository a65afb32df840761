package fuzz_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// start is when the targets begin, in Unix seconds: 2022-03-16T04:43:09Z.
const start = 1647405789

// after returns the moment ns nanoseconds after start.
func after(ns int64) time.Time { return time.Unix(start, 0).Add(time.Duration(ns)) }

// pseudo returns n known bytes, different for each name.
func pseudo(n int, name string) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, name, " ", i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// anyRoom accepts every room identifier.
func anyRoom(string) bool { return true }

// claimsOfSizes returns the claims of the seeds: those of the service's
// documentation, the shortest, and the longest.
func claimsOfSizes() []claims.Claims {
	return []claims.Claims{tokentest.Claims(), {RoomIdentifier: "r", UserID: "u", SessionMinutes: 1}, testenv.LongestClaims()}
}

// payloadOf returns what a token of c says.
func payloadOf(c claims.Claims, issuedAt, ttl int64) *plain {
	return &plain{
		Room:           c.RoomIdentifier,
		User:           c.UserID,
		Capabilities:   uint64(c.Capabilities),
		Attributes:     c.Attributes,
		IssuedAt:       uint64(issuedAt),
		TTL:            uint64(ttl),
		SessionMinutes: uint64(c.SessionMinutes),
	}
}

// testKEK and testContext are those of all sealed rings here.
var testKEK = localKEK(pseudo(32, "KEK"))

const testContext = "fuzz"

// testDocument returns a ring with a key in each state, for some minutes around
// start.
func testDocument() *ringDocument {
	d := &ringDocument{Serial: 7, Policy: ringPolicy{MaxTTL: 600, ClockSkew: 5, Period: 3600, Lead: 60}}
	const overlap = 600 + 2*5
	times := []uint64{0, start - 2000, start - 300, start + 300, 0}
	for i := range 4 {
		k := ringKey{Secret: pseudo(32, fmt.Sprint("key ", i)), Created: start - 4000, Activates: times[i], Retires: times[i+1]}
		if k.Retires != 0 {
			k.Expires = k.Retires + overlap
		}
		d.Chain = append(d.Chain, k)
	}
	d.Revoked = []ringKey{{Secret: pseudo(32, "revoked key"), Created: 1, Activates: 1, Expires: start + 4000, Revoked: start - 10}}
	return d
}

// sealTestRing seals a document under testKEK, always to the same bytes.
func sealTestRing(document []byte) []byte { return sealTestRingAs(2, testContext, document) }

func sealTestRingAs(form byte, context string, document []byte) []byte {
	dataKey := pseudo(32, "data key")
	wrapped := testKEK.wrap(pseudo(24, "nonce of the KEK"), dataKey)
	return sealRing(form, context, testKEK.id(), wrapped, dataKey, pseudo(24, "nonce of the ring"), document)
}

func loadTestRing(t testing.TB) *keyring.Ring {
	t.Helper()
	kek, err := keyring.ParseKEK(testKEK.text())
	require.NoError(t, err)
	ring, err := keyring.Load(t.Context(), kek, sealTestRing(encode(t, testDocument())), keyring.Config{Context: testContext})
	require.NoError(t, err)
	return ring
}

// testTokens returns tokens of all sizes under each key of testDocument, issued
// at start and valid for a minute. Under the primary key there are also some
// with a TTL at a limit or beyond it.
func testTokens(t testing.TB) []string {
	t.Helper()
	var tokens []string
	for i, k := range testDocument().keys() {
		for j, c := range claimsOfSizes() {
			nonce := pseudo(24, fmt.Sprint("token ", i, j))
			tokens = append(tokens, k.sealToken(testContext, nonce, encode(t, payloadOf(c, start, 60))))
		}
	}
	primary := testDocument().Chain[2]
	for i, odd := range []struct{ minutes, ttl int64 }{{1, 4}, {1, 5}, {1, 61}, {180, 600}, {180, 601}} {
		c := claims.Claims{RoomIdentifier: "r", UserID: "u", SessionMinutes: int(odd.minutes)}
		nonce := pseudo(24, fmt.Sprint("odd token ", i))
		tokens = append(tokens, primary.sealToken(testContext, nonce, encode(t, payloadOf(c, start, odd.ttl))))
	}
	return tokens
}

// gateway opens tokens of testDocument's ring at any time, and compares each
// answer with the reference's.
type gateway struct {
	opener   token.Opener
	document *ringDocument
	guard    memory
	now      time.Time
	session  token.Session // reused, so that leftovers could show
	used     string        // a token for fillSession
}

func newGateway(t testing.TB) *gateway {
	g := &gateway{document: testDocument()}
	g.opener = token.Opener{Ring: loadTestRing(t), Guard: &g.guard, Now: func() time.Time { return g.now }}
	g.used = testTokens(t)[6] // the example under the primary key
	return g
}

// requireAsReference opens text twice. It reports whether the gateway accepted
// it the first time.
func (g *gateway) requireAsReference(t testing.TB, text string, now time.Time) bool {
	t.Helper()
	want, id, wantErr := g.document.open(testContext, text, now)
	g.fillSession(t)
	g.now, g.guard = now, memory{}
	view := g.session.UserID()
	err := g.opener.Open(t.Context(), &g.session, text)
	require.Equal(t, wantErr, err, "%q at %v", text, now)
	if err != nil {
		require.Zero(t, g.guard.calls, "the guard was asked about what was refused")
		requireCleared(t, &g.session, view)
		return false
	}
	requireSession(t, want, id, &g.session)
	view = g.session.UserID()
	require.Equal(t, token.ErrSpent, g.opener.Open(t.Context(), &g.session, text))
	requireCleared(t, &g.session, view)
	return true
}

// fillSession opens a good token, so that the Session has something to leak.
func (g *gateway) fillSession(t testing.TB) {
	t.Helper()
	g.now = after(0)
	require.NoError(t, g.opener.OpenWithoutSpending(t.Context(), &g.session, g.used))
}

// requireSession checks that s says what p does, until its last nanosecond.
func requireSession(t testing.TB, p *plain, id token.ID, s *token.Session) {
	t.Helper()
	require.Equal(t, p.claims(), s.Claims())
	require.Equal(t, id, s.TokenID())
	require.Equal(t, time.Unix(int64(p.IssuedAt), 0).UTC(), s.IssuedAt())
	require.Equal(t, p.expiration(), s.Summary().Expiration)
	end := p.sessionExpiration()
	require.Equal(t, end, s.SessionExpiration())
	for want := range claims.Capabilities(8) {
		err := token.ErrNotPermitted
		if want != 0 && uint64(want)&^p.Capabilities == 0 {
			err = nil
		}
		require.Equal(t, err, s.Authorize(end.Add(-1), want))
		require.Equal(t, token.ErrSessionExpired, s.Authorize(end, want))
	}
}

// requireCleared checks that s is zero, and that the memory of its views is,
// too.
func requireCleared(t testing.TB, s *token.Session, view []byte) {
	t.Helper()
	requireZero(t, s)
	require.Equal(t, make([]byte, len(view)), view, "claims are left in memory")
}

func requireZero(t testing.TB, s *token.Session) {
	t.Helper()
	require.Zero(t, s.Claims())
	require.Zero(t, s.Summary())
	require.Zero(t, s.SessionExpiration())
	for range s.Attributes() {
		require.Fail(t, "a zero Session has attributes")
	}
	require.Error(t, s.Authorize(time.Time{}, claims.SendMessage))
	require.Error(t, s.Authorize(after(0), claims.SendMessage))
}

// memory is a guard that never forgets, for one goroutine.
type memory struct {
	calls int
	spent map[token.ID]bool
}

func (m *memory) Spend(_ context.Context, _ time.Time, t token.Summary) (bool, error) {
	m.calls++
	if m.spent[t.TokenID] {
		return false, nil
	}
	if m.spent == nil {
		m.spent = map[token.ID]bool{}
	}
	m.spent[t.TokenID] = true
	return true, nil
}

func (*memory) Revoked(token.Summary) error { return nil }

// tape is a fuzz input that is read as a program. After its end it yields
// zeros.
type tape []byte

func (p *tape) next() byte {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return b
}

// below returns a number from 0 to n-1, or 0 if n is 0.
func (p *tape) below(n int) int {
	x := int(p.next())<<8 | int(p.next())
	if n <= 0 {
		return 0
	}
	return x % n
}

// refusedFields returns the names in a *claims.ValidationError, each once.
func refusedFields(t testing.TB, err error) []string {
	t.Helper()
	var invalid *claims.ValidationError
	require.True(t, errors.As(err, &invalid), "%v is no *ValidationError", err)
	require.NotEmpty(t, invalid.Fields)
	var names []string
	for _, f := range invalid.Fields {
		require.NotEmpty(t, f.Message)
		if len(names) == 0 || names[len(names)-1] != f.Name {
			names = append(names, f.Name)
		}
	}
	return names
}

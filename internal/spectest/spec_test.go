// Package spectest_test compares the implementation in chattoken.py, which
// follows SPEC.md, with the one in Go and with the vectors. It also checks that
// the vectors notice each fault that lenient.py makes in it.
package spectest_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/internal/payload"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
	"github.com/seed17cb2b26/chattoken/vectors"
)

// python3 is Debian's own, which has the modules of Debian's packages. An
// earlier one on PATH would not.
const python3 = "/usr/bin/python3"

// TestSpec shares one Python process between its parts, because it is slow to
// start.
func TestSpec(t *testing.T) {
	p := startPython(t, "chattoken.py")
	t.Run("Vectors", p.testVectors)
	t.Run("FromGo", p.testFromGo)
	t.Run("FromPython", p.testFromPython)
	t.Run("Mutations", p.testMutations)
	t.Run("Command", p.testCommand)
}

// python is a running chattoken.py, which answers one request after the other.
type python struct {
	requests *json.Encoder
	replies  *json.Decoder
}

func startPython(t *testing.T, name string) *python {
	t.Helper()
	if err := exec.Command(python3, "-I", "-c", "import cbor2, nacl.bindings").Run(); err != nil {
		testenv.Skip(t, python3+" with python3-nacl and python3-cbor2 is not installed")
	}
	// Go test reruns a test if a file that it has opened changes.
	for _, file := range []string{"chattoken.py", "lenient.py"} {
		_, err := os.Stat(file)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, python3, "-I", "-B", name)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		io.Copy(io.Discard, stdout)
		cmd.Wait()
	})
	return &python{json.NewEncoder(stdin), json.NewDecoder(stdout)}
}

// A request has what the operations of chattoken.py take.
type request struct {
	Op string `json:"op"`
	keys
	Now    int64           `json:"now"`
	Token  string          `json:"token"`
	Claims json.RawMessage `json:"claims,omitempty"`
	TTL    int64           `json:"ttl,omitempty"`
}

// keys are a sealed ring and its KEK.
type keys struct {
	Context string `json:"context"`
	Sealed  string `json:"sealed"`
	KEK     string `json:"kek,omitempty"`
}

// A reply of chattoken.py.
type reply struct {
	Error    string        `json:"error"` // an unexpected exception
	Reason   reason        `json:"reason"`
	Key      vectors.Bytes `json:"key"`
	KeyID    vectors.Bytes `json:"keyID"`
	KEKID    string        `json:"kekID"`
	Token    string        `json:"token"`
	Claims   claims.Claims `json:"claims"`
	IssuedAt int64         `json:"issuedAt"`
	TTL      int64         `json:"ttl"`

	TokenExpiration   int64 `json:"tokenExpiration"`
	SessionExpiration int64 `json:"sessionExpiration"`

	TokenID string        `json:"tokenID"`
	Payload vectors.Bytes `json:"payload"`
	Serial  uint64        `json:"serial"`
	Keys    []vectors.Key `json:"keys"`
	Names   []string      `json:"names"`
}

// reason is a word, or names of fields separated by commas. Empty is none.
type reason string

func (r *reason) UnmarshalJSON(data []byte) error {
	var fields []string
	if json.Unmarshal(data, &fields) == nil {
		*r = reason(strings.Join(fields, ","))
		return nil
	}
	return json.Unmarshal(data, (*string)(r))
}

// answer returns the reply to a request. It may be an error.
func (p *python) answer(t *testing.T, request any) (answer reply) {
	t.Helper()
	require.NoError(t, p.requests.Encode(request))
	require.NoError(t, p.replies.Decode(&answer))
	return answer
}

func (p *python) ask(t *testing.T, request any) reply {
	t.Helper()
	answer := p.answer(t, request)
	require.Empty(t, answer.Error)
	return answer
}

// house is a ring that both implementations have.
type house struct {
	kek  *keyring.LocalKEK
	ring *keyring.Ring
	keys keys
}

// start is when the rings of this test are made.
const start = 1647405789

const ringContext = "chat.example.com test"

func newHouse(t *testing.T, now time.Time) *house {
	t.Helper()
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	ring, err := keyring.New(now, keyring.Config{
		Context: ringContext,
		Policy:  keyring.Policy{MaxTTL: token.MaxTTL, ClockSkew: 3 * time.Second},
	})
	require.NoError(t, err)
	sealed, err := ring.Marshal(t.Context(), kek)
	require.NoError(t, err)
	return &house{kek, ring, keys{
		Context: hex.EncodeToString([]byte(ringContext)),
		Sealed:  hex.EncodeToString(sealed),
		KEK:     kek.InsecureText(),
	}}
}

// rounds is how many tokens of random claims go each way.
const rounds = 500

// attempt is a token that is minted and opened at random moments, under either
// of the ring's keys, sometimes too early or too late.
type attempt struct {
	claims         claims.Claims
	ttl            time.Duration
	minted, opened int64
}

func randomAttempt(r *rand.Rand) attempt {
	a := attempt{
		claims: randomClaims(r),
		ttl:    token.MinTTL + time.Duration(r.IntN(596))*time.Second,
		minted: start + r.Int64N(60*24*60*60),
	}
	a.opened = a.minted - 5 + r.Int64N(int64(a.ttl/time.Second)+10)
	return a
}

func randomClaims(r *rand.Rand) claims.Claims {
	c := claims.Claims{
		RoomIdentifier: tokentest.Room[:len(tokentest.Room)-r.IntN(12)],
		UserID:         randomText(r, 1+r.IntN(128)),
		Capabilities:   claims.Capabilities(r.IntN(8)),
		SessionMinutes: 1 + r.IntN(180),
	}
	for range r.IntN(10) {
		if c.Attributes == nil {
			c.Attributes = map[string]string{}
		}
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

func (p *python) testFromGo(t *testing.T) {
	h := newHouse(t, time.Unix(start, 0))
	p.compare(t, h, func(a attempt) string {
		sealer := token.Sealer{Ring: h.ring, TTL: a.ttl, Now: clock(a.minted)}
		minted, err := sealer.Create(a.claims)
		require.NoError(t, err)
		return minted.Token
	})
}

func (p *python) testFromPython(t *testing.T) {
	h := newHouse(t, time.Unix(start, 0))
	p.compare(t, h, func(a attempt) string {
		requested, err := json.Marshal(a.claims)
		require.NoError(t, err)
		return p.ask(t, request{Op: "mint", keys: h.keys, Now: a.minted, TTL: int64(a.ttl / time.Second), Claims: requested}).Token
	})
}

// compare mints tokens and opens them with both implementations. Both must give
// the same, right answer for each.
func (p *python) compare(t *testing.T, h *house, mint func(attempt) string) {
	t.Helper()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	reasons := map[string]int{}
	for i := range rounds {
		a := randomAttempt(random)
		text := mint(a)
		opener := token.Opener{Ring: h.ring, Now: clock(a.opened)}
		var s token.Session
		err := opener.OpenWithoutSpending(t.Context(), &s, text)
		got := p.ask(t, request{Op: "open", keys: h.keys, Now: a.opened, Token: text})
		reasons[string(got.Reason)]++
		require.Equal(t, token.Reason(err), string(got.Reason), "seed %d, round %d", seed, i)
		require.Equal(t, s.Claims(), got.Claims, "seed %d, round %d", seed, i)
		if err == nil {
			require.Equal(t, a.claims, got.Claims, "seed %d, round %d", seed, i)
			require.Equal(t, s.TokenID().String(), got.TokenID)
			require.Equal(t, s.IssuedAt().Unix(), got.IssuedAt)
			require.Equal(t, s.Summary().Expiration.Unix(), got.IssuedAt+got.TTL)
		}
	}
	assert.Greater(t, reasons[""], rounds/2, "seed %d: %v", seed, reasons)
	assert.Equal(t, rounds, reasons[""]+reasons["not-yet-valid"]+reasons["expired"], "seed %d: %v", seed, reasons)
}

// testMutations damages payloads and then seals them. Both implementations must
// accept the same ones, and read the same.
func (p *python) testMutations(t *testing.T) {
	h := newHouse(t, time.Unix(start, 0))
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	reasons := map[string]int{}
	for i := range rounds {
		c := randomClaims(random)
		plaintext, err := new(payload.Encoder).Append(nil, c, nil, start, 60)
		require.NoError(t, err)
		b, err := h.ring.SealBox(box.Inside(), nil, mutate(random, plaintext), time.Unix(start, 0))
		require.NoError(t, err)
		text := string(base64url.Append([]byte(token.Prefix), b[len(token.Prefix):]))
		opener := token.Opener{Ring: h.ring, Now: clock(start)}
		var s token.Session
		err = opener.OpenWithoutSpending(t.Context(), &s, text)
		got := p.ask(t, request{Op: "open", keys: h.keys, Now: start, Token: text})
		reasons[string(got.Reason)]++
		require.Equal(t, token.Reason(err), string(got.Reason), "seed %d, round %d", seed, i)
		require.Equal(t, s.Claims(), got.Claims, "seed %d, round %d", seed, i)
	}
	assert.NotZero(t, reasons[""], "seed %d: %v", seed, reasons)
	assert.NotZero(t, reasons["payload"], "seed %d: %v", seed, reasons)
}

// mutate changes, inserts or removes a byte: mostly a head among the last ones,
// because most other bytes are text.
func mutate(r *rand.Rand, b []byte) []byte {
	at := r.IntN(len(b))
	if r.IntN(2) == 0 {
		at = len(b) - 1 - r.IntN(12)
	}
	switch r.IntN(4) {
	case 0:
		return slices.Insert(b, at, byte(r.Uint32()))
	case 1:
		return slices.Delete(b, at, at+1)
	case 2:
		b[at] = byte(r.Uint32())
	default:
		b[at] ^= 1 << r.IntN(8)
	}
	return b
}

func clock(now int64) func() time.Time {
	return func() time.Time { return time.Unix(now, 0) }
}

// testCommand lets the command and Python open each other's tokens.
func (p *python) testCommand(t *testing.T) {
	c := newCommand(t)
	want := claims.Claims{
		RoomIdentifier: tokentest.Room,
		UserID:         "Zoë \U0001f680",
		Capabilities:   claims.SendMessage | claims.DeleteMessage,
		Attributes:     map[string]string{"displayName": "Zoë", "colour": "red"},
		SessionMinutes: 30,
	}

	var minted token.ChatToken
	require.NoError(t, json.Unmarshal(c.run(t, "", "create-chat-token",
		"--room-identifier", want.RoomIdentifier,
		"--user-id", want.UserID,
		"--capabilities", "SEND_MESSAGE", "DELETE_MESSAGE",
		"--attributes", "displayName=Zoë,colour=red",
		"--session-duration-in-minutes", "30"), &minted))
	got := p.ask(t, request{Op: "open", keys: c.keys, Now: time.Now().Unix(), Token: minted.Token})
	assert.Empty(t, got.Reason)
	assert.Equal(t, want, got.Claims)
	assert.Equal(t, minted.TokenExpiration.Unix(), got.IssuedAt+got.TTL)

	requested, err := json.Marshal(want)
	require.NoError(t, err)
	text := p.ask(t, request{Op: "mint", keys: c.keys, Now: time.Now().Unix(), TTL: 600, Claims: requested}).Token
	var opened claims.Claims
	require.NoError(t, json.Unmarshal(c.run(t, text+"\n", "open", "-"), &opened))
	assert.Equal(t, want, opened)
}

// command is the chattoken command, with keyring and KEK in files. Python gets
// them, too.
type command struct {
	binary, ring, kek string
	keys              keys
}

func newCommand(t *testing.T) *command {
	t.Helper()
	dir := t.TempDir()
	c := &command{filepath.Join(dir, "chattoken"), filepath.Join(dir, "ring"), filepath.Join(dir, "kek"), keys{}}
	out, err := exec.Command("go", "build", "-o", c.binary, "../../cmd/chattoken").CombinedOutput()
	require.NoError(t, err, "%s", out)

	h := newHouse(t, time.Now())
	file := keyring.File{Name: c.ring, KEK: h.kek, Config: keyring.Config{Context: ringContext}}
	require.NoError(t, file.Save(t.Context(), h.ring))
	require.NoError(t, h.kek.WriteFile(c.kek))
	sealed, err := os.ReadFile(c.ring)
	require.NoError(t, err)
	kek, err := os.ReadFile(c.kek)
	require.NoError(t, err)
	c.keys = keys{
		Context: h.keys.Context,
		Sealed:  hex.EncodeToString(sealed),
		KEK:     strings.TrimSuffix(string(kek), "\n"),
	}
	return c
}

// run runs the command and returns what it prints.
func (c *command) run(t *testing.T, stdin string, args ...string) []byte {
	t.Helper()
	args = append(args, "--keyring", c.ring, "--kek-file", c.kek, "--context", ringContext)
	cmd := exec.CommandContext(t.Context(), c.binary, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), t.Output()
	out, err := cmd.Output()
	require.NoError(t, err)
	return out
}

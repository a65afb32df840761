package valkey_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/internal/testenv/redistest"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

var _ token.Guard = (*valkey.Guard)(nil)

func TestOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		a, b := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
		for n := range uint64(300) {
			require.Equal(t, "fresh", spend(a, numbered(n)))
			require.Equal(t, "spent", spend(b, numbered(n)))
			require.Equal(t, "spent", spend(a, numbered(n)))
		}
		st := a.Stats()
		assert.EqualValues(t, 300, st.Fresh)
		assert.EqualValues(t, 300, st.Spent)
		assert.Zero(t, st.Waiting)
		assert.Equal(t, 1, st.Servers)
		assert.EqualValues(t, 1, st.Losses, "the first guard found no state")
		assert.Zero(t, b.Stats().Losses)
	})
}

// TestRemembered looks at what is on the server: the time to live is what is left
// of the token, and the margin.
func TestRemembered(t *testing.T) {
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	now := clock()
	for _, tt := range []struct {
		left time.Duration
		want time.Duration
	}{
		{time.Minute, 2 * time.Minute},
		{5 * time.Second, 65 * time.Second},
		{time.Nanosecond, time.Minute},
		{-time.Second, time.Minute}, // it expired while it waited
	} {
		tok := tokenAt(uint64(tt.left), now, time.Minute)
		at := tok.Expiration.Add(-tt.left)
		fresh, err := g.Spend(ctx, at, tok)
		// What a gateway with the clock at says, the server's clock need not
		// agree with: that is for TestClocks.
		require.True(t, fresh || errors.Is(err, valkey.ErrClock), "%v", err)
		key := valkey.DefaultPrefix + string(tok.TokenID[:])
		ttl, err := s.do("PTTL", key).AsInt64()
		require.NoError(t, err)
		assert.InDelta(t, tt.want.Milliseconds(), ttl, float64(hang.Milliseconds())/2)
		assert.LessOrEqual(t, ttl, tt.want.Milliseconds()+1)
		value, err := s.do("GET", key).ToString()
		require.NoError(t, err)
		assert.Len(t, value, 16)
	}
}

// TestRace lets goroutines of two guards race for each token.
func TestRace(t *testing.T) {
	tokens := 20_000
	if testing.Short() || testenv.Race {
		tokens = 2000
	}
	s := startServer(t)
	c := raceConfig(s.Address)
	guards := []*valkey.Guard{newGuard(t, c), newGuard(t, c)}
	winners := make([]atomic.Int32, tokens)
	all := make([]claims.Summary, tokens)
	for n := range all {
		all[n] = tokenAt(uint64(n), clock(), c.MaxTTL)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range all {
				fresh, err := guards[i%2].Spend(ctx, clock(), all[n])
				if err != nil {
					t.Error(err)
					return
				}
				if fresh {
					winners[n].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for n := range winners {
		require.EqualValues(t, 1, winners[n].Load(), "token %d", n)
	}
}

const racerVariable = "CHATTOKEN_TEST_RACER"

// TestEightProcesses has eight processes race for the same 100,000 tokens.
func TestEightProcesses(t *testing.T) {
	const processes = 8
	if address := os.Getenv(racerVariable); address != "" {
		raceAlone(t, address)
		return
	}
	redistest.Each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		newGuard(t, raceConfig(s.Address))
		issued := make([]byte, 8)
		binary.BigEndian.PutUint64(issued, uint64(clock().Unix()))
		s.must("SET", "issued", string(issued))
		outputs := make([][]byte, processes)
		var wg sync.WaitGroup
		for i := range outputs {
			wg.Go(func() {
				cmd := exec.Command(os.Args[0], "-test.run=^TestEightProcesses$", "-test.short="+map[bool]string{true: "true", false: "false"}[testing.Short()])
				cmd.Env = append(os.Environ(), racerVariable+"="+s.Address)
				var err error
				outputs[i], err = cmd.CombinedOutput()
				assert.NoError(t, err, "%s", outputs[i])
			})
		}
		wg.Wait()
		// Each winner has left its mark: the name of a token was counted once.
		winners, err := s.do("HVALS", "winners").AsStrSlice()
		require.NoError(t, err)
		assert.Len(t, winners, raced())
		for _, n := range winners {
			require.Equal(t, "1", n)
		}
	})
}

func raced() int {
	if testing.Short() || testenv.Race {
		return 5000
	}
	return 100_000
}

// raceConfig is for tokens that live for longer than a race takes.
func raceConfig(address string) valkey.Config {
	c := config(address)
	c.MaxTTL = 5 * time.Minute
	return c
}

// raceAlone is one of the eight processes. It starts when all are there.
func raceAlone(t *testing.T, address string) {
	g := newGuard(t, raceConfig(address))
	c := connect(t, address)
	issued, err := c.Do(ctx, c.B().Get().Key("issued").Build()).ToString()
	require.NoError(t, err)
	at := time.Unix(int64(binary.BigEndian.Uint64([]byte(issued))), 0)
	require.NoError(t, c.Do(ctx, c.B().Incr().Key("present").Build()).Error())
	eventually(t, func() bool {
		n, err := c.Do(ctx, c.B().Get().Key("present").Build()).AsInt64()
		return err == nil && n == 8
	})
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(raced()); n = next.Add(1) - 1 {
				tok := tokenAt(0, at, 5*time.Minute)
				tok.TokenID = claims.TokenID{}
				binary.BigEndian.PutUint64(tok.TokenID[:], uint64(n))
				fresh, err := g.Spend(ctx, at, tok)
				if err != nil {
					t.Errorf("token %d: %v", n, err)
					return
				}
				if fresh {
					err := c.Do(ctx, c.B().Hincrby().Key("winners").Field(tok.TokenID.String()).Increment(1).Build()).Error()
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestAllocs counts what a Spend allocates beyond the client, which is made to
// send the same commands. The least of some counts: where the client happens to
// read in the background, it allocates more.
func TestAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	s := startServer(t)
	guarded, direct := math.Inf(1), math.Inf(1)
	for range 5 {
		guarded = min(guarded, spendAllocs(t, s))
		direct = min(direct, bareAllocs(t, s))
	}
	t.Logf("%v allocations, of which %v are the client's", guarded, direct)
	assert.LessOrEqual(t, guarded, direct+1)
}

const allocRuns = 1000

func spendAllocs(t *testing.T, s *server) float64 {
	g := newGuard(t, config(s.Address))
	now := clock()
	tok := tokenAt(0, now, time.Minute)
	return testing.AllocsPerRun(allocRuns, func() {
		binary.BigEndian.PutUint64(tok.TokenID[8:], serial.Add(1))
		fresh, err := g.Spend(ctx, now, tok)
		if !fresh || err != nil {
			t.Fatal(fresh, err)
		}
	})
}

func bareAllocs(t *testing.T, s *server) float64 {
	bare := connect(t, s.Address)
	commands := make([]client.Completed, 3)
	// New ones: the reply for one that is there would have its value.
	keys := make([]string, allocRuns+1)
	for i := range keys {
		keys[i] = fmt.Sprintf("a-key-of-26-bytes-%08d", serial.Add(1))
	}
	n := 0
	return testing.AllocsPerRun(allocRuns, func() {
		b := bare.B()
		commands[0] = b.Set().Key(keys[n]).Value("a-value-of-16-by").Nx().Get().PxMilliseconds(120_000).Build()
		commands[1] = b.Get().Key("chattoken:{0}:guard-state").Build()
		commands[2] = b.Time().Build()
		n++
		bare.DoMulti(ctx, commands...)
	})
}

func TestConfig(t *testing.T) {
	address := []string{"127.0.0.1:1"}
	for _, tt := range []struct {
		name string
		edit func(c *valkey.Config)
		want string
	}{
		{"no address", func(c *valkey.Config) { c.Client.InitAddress = nil }, "InitAddress"},
		{"replicas only", func(c *valkey.Config) { c.Client.ReplicaOnly = true }, "option"},
		{"reads from replicas", func(c *valkey.Config) { c.Client.SendToReplicas = func(client.Completed) bool { return true } }, "option"},
		{"sentinel", func(c *valkey.Config) { c.Client.Sentinel.MasterSet = "x" }, "option"},
		{"lifetime", func(c *valkey.Config) { c.Client.ConnLifetime = time.Hour }, "option"},
		{"redirection", func(c *valkey.Config) { c.Client.Standalone.EnableRedirect = true }, "option"},
		{"long prefix", func(c *valkey.Config) { c.Prefix = strings.Repeat("x", 65) }, "Prefix"},
		{"braces", func(c *valkey.Config) { c.Prefix = "{x}" }, "Prefix"},
		{"TTL below", func(c *valkey.Config) { c.MaxTTL = 5*time.Second - 1 }, "MaxTTL"},
		{"TTL above", func(c *valkey.Config) { c.MaxTTL = 10*time.Minute + time.Second }, "MaxTTL"},
		{"skew below", func(c *valkey.Config) { c.ClockSkew = time.Millisecond }, "ClockSkew"},
		{"skew above", func(c *valkey.Config) { c.ClockSkew = 61 * time.Second }, "ClockSkew"},
		{"margin below", func(c *valkey.Config) { c.Margin = 20*time.Second - 1 }, "Margin"},
		{"margin above", func(c *valkey.Config) { c.Margin = time.Hour + 1 }, "Margin"},
		{"margin for that skew", func(c *valkey.Config) { c.ClockSkew = 30 * time.Second }, "Margin"},
		{"timeout below", func(c *valkey.Config) { c.Timeout = 9 * time.Millisecond }, "Timeout"},
		{"timeout above", func(c *valkey.Config) { c.Timeout = 6*time.Second + 1 }, "Timeout"},
		{"waiting", func(c *valkey.Config) { c.MaxWaiting = -1 }, "MaxWaiting"},
		{"replicas", func(c *valkey.Config) { c.Replicas = -1 }, "Replicas"},
		{"revocations", func(c *valkey.Config) { c.MaxRevocations = -1 }, "MaxRevocations"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config(address...)
			tt.edit(&c)
			_, err := valkey.New(ctx, c)
			assert.ErrorContains(t, err, tt.want)
			assert.NotErrorIs(t, err, replay.ErrUnavailable)
		})
	}
	_, err := valkey.New(ctx, config(address...))
	assert.ErrorIs(t, err, replay.ErrUnavailable, "the limits themselves")

	s := startServer(t)
	_, err = valkey.New(ctx, config(s.Address, s.Address))
	assert.ErrorContains(t, err, "Cluster")
}

// TestZero has guards that nobody made.
func TestZero(t *testing.T) {
	for name, g := range map[string]*valkey.Guard{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, valkey.ErrClosed.Error(), spend(g, numbered(1)))
			assert.Equal(t, 9999, g.ReadyAt().Year())
			assert.Zero(t, g.Stats())
			assert.ErrorIs(t, g.RevokeAll(ctx, time.Now()), valkey.ErrClosed)
			assert.ErrorIs(t, g.Sync(ctx), valkey.ErrClosed)
			assert.False(t, g.Revoked(numbered(1)))
			g.Close()
		})
	}
}

// TestErrors has every error of the package match what an Opener asks for.
func TestErrors(t *testing.T) {
	for _, err := range []error{
		valkey.ErrDataLost, valkey.ErrTooLong, valkey.ErrBusy, valkey.ErrTimeout, valkey.ErrCanceled, valkey.ErrConnection,
		valkey.ErrAuth, valkey.ErrLoading, valkey.ErrReadOnly, valkey.ErrOutOfMemory, valkey.ErrReplicas,
		valkey.ErrPersistence, valkey.ErrCluster, valkey.ErrClock, valkey.ErrVersion, valkey.ErrEviction,
		valkey.ErrNoAppendOnlyFile, valkey.ErrReply, valkey.ErrClosed,
	} {
		assert.ErrorIs(t, err, token.ErrUnavailable, err.Error())
		assert.Equal(t, token.TryLater, token.Action(err))
		assert.NotErrorIs(t, err, token.ErrRevoked)
	}
	assert.ErrorIs(t, valkey.ErrCanceled, context.Canceled)
	assert.Equal(t, token.ErrRevoked, valkey.ErrRevoked)
}

func TestRefusedAtOnce(t *testing.T) {
	s := startServer(t)
	now := time.Now() // however long New takes, it comes later
	g := newGuard(t, quick(s.Address))
	assert.Equal(t, valkey.ErrDataLost.Error(), spendAt(g, now, tokenAt(1, now, time.Minute)), "the server is new")
	waitReady(t, g)
	now = time.Now()
	assert.Equal(t, valkey.ErrTooLong.Error(), spendAt(g, now, tokenAt(1, now, 63*time.Second)))
	assert.Equal(t, valkey.ErrTooLong.Error(), spendAt(g, now, tokenAt(1, now.Add(2*time.Second), time.Minute)))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := g.Spend(ended, now, tokenAt(1, now, time.Minute))
	assert.Equal(t, valkey.ErrCanceled, err)
	assert.Equal(t, "fresh", spendAt(g, now, tokenAt(1, now, time.Minute)), "none of it was spent")
	g.Close()
	g.Close()
	assert.Equal(t, valkey.ErrClosed.Error(), spendAt(g, now, tokenAt(2, now, time.Minute)))
}

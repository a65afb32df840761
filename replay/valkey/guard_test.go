package valkey_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

var _ token.Guard = (*valkey.Guard)(nil)

func TestOnce(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, engine string) {
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
		assert.EqualValues(t, 1, b.Stats().Losses, "it does not know what was before it")
	})
}

// TestRemembered looks at the server: the time to live is what is left of the
// token, and the margin.
func TestRemembered(t *testing.T) {
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	now := time.Now()
	for _, tt := range []struct {
		left time.Duration
		want time.Duration
	}{
		{time.Minute, 2 * time.Minute},
		{5 * time.Second, 65 * time.Second},
		{time.Nanosecond, time.Minute},
		{-time.Second, time.Minute}, // it expired while it waited
	} {
		tok := tokenAt(uint64(tt.left), now.Add(skew), time.Minute)
		at := tok.Expiration.Add(-tt.left)
		fresh, err := g.Spend(ctx, at, tok)
		// The server's clock may disagree with the gateway's, which
		// shows at; that is for TestClocks.
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
	if testing.Short() || race {
		tokens = 2000
	}
	s := startServer(t)
	c := config(s.Address)
	guards := []*valkey.Guard{newGuard(t, c), newGuard(t, c)}
	winners := make([]atomic.Int32, tokens)
	all := make([]token.Summary, tokens)
	for n := range all {
		all[n] = tokenAt(uint64(n), time.Now().Add(skew), raceTTL)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range all {
				fresh, err := guards[i%2].Spend(ctx, time.Now(), all[n])
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
	valkeytest.Each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
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
		eventually(t, func() bool { // until then tokens are refused
			n, err := s.do("GET", "present").AsInt64()
			return err == nil && n == processes
		})
		s.must("SET", "issued", strconv.FormatInt(time.Now().Add(skew).Unix(), 10))
		wg.Wait()
		// Each winner has left its mark: each token was counted once.
		winners, err := s.do("HVALS", "winners").AsStrSlice()
		require.NoError(t, err)
		assert.Len(t, winners, raced())
		for _, n := range winners {
			require.Equal(t, "1", n)
		}
	})
}

func raced() int {
	if testing.Short() || race {
		return 5000
	}
	return 100_000
}

// raceTTL is the life of tokens: longer than a race takes.
const raceTTL = 5 * time.Minute

// raceAlone is one of the eight processes. It starts when all are there.
func raceAlone(t *testing.T, address string) {
	g := newGuard(t, config(address))
	c := connect(t, address)
	require.NoError(t, c.Do(ctx, c.B().Incr().Key("present").Build()).Error())
	var issued int64
	eventually(t, func() (ok bool) {
		var err error
		issued, err = c.Do(ctx, c.B().Get().Key("issued").Build()).AsInt64()
		return err == nil
	})
	at := time.Unix(issued, 0)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(raced()); n = next.Add(1) - 1 {
				tok := tokenAt(0, at, raceTTL)
				tok.TokenID = token.ID{}
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

// TestAllocs counts the allocations of a Spend with a pipeline of its own.
func TestAllocs(t *testing.T) {
	if race {
		t.Skip("allocation counts differ under -race")
	}
	g := newGuard(t, config(startServer(t).Address))
	now := time.Now()
	tok := tokenAt(0, now.Add(skew), time.Minute)
	allocs := testing.AllocsPerRun(1000, func() {
		binary.BigEndian.PutUint64(tok.TokenID[8:], serial.Add(1))
		if fresh, err := g.Spend(ctx, now, tok); !fresh || err != nil {
			t.Fatal(fresh, err)
		}
	})
	t.Logf("%v allocations", allocs)
	assert.LessOrEqual(t, allocs, 10.0)
}

func TestConfig(t *testing.T) {
	address := []string{"127.0.0.1:1"}
	for _, tt := range []struct {
		name string
		edit func(c *valkey.Config)
		want string
	}{
		{"no address", func(c *valkey.Config) { c.Addresses = nil }, "Addresses"},
		{"long prefix", func(c *valkey.Config) { c.Prefix = strings.Repeat("x", 65) }, "Prefix"},
		{"braces", func(c *valkey.Config) { c.Prefix = "{x}" }, "Prefix"},
		{"skew below", func(c *valkey.Config) { c.Limits.ClockSkew = time.Millisecond }, "ClockSkew"},
		{"skew above", func(c *valkey.Config) { c.Limits.ClockSkew = 61 * time.Second }, "ClockSkew"},
		{"skew between", func(c *valkey.Config) { c.Limits.ClockSkew = 1500 * time.Millisecond }, "ClockSkew"},
		{"timeout below", func(c *valkey.Config) { c.Timeout = 9 * time.Millisecond }, "Timeout"},
		{"timeout above", func(c *valkey.Config) { c.Timeout = 6*time.Second + 1 }, "Timeout"},
		{"waiting", func(c *valkey.Config) { c.MaxWaiting = -1 }, "MaxWaiting"},
		{"revocations", func(c *valkey.Config) { c.MaxRevocations = -1 }, "MaxRevocations"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config(address...)
			tt.edit(&c)
			_, err := valkey.New(ctx, c)
			assert.ErrorContains(t, err, tt.want)
			assert.NotErrorIs(t, err, token.ErrUnavailable)
		})
	}
	_, err := valkey.New(ctx, config(address...))
	assert.ErrorIs(t, err, token.ErrUnavailable, "the limits themselves")

	s := startServer(t)
	_, err = valkey.New(ctx, config(s.Address, s.Address))
	assert.ErrorContains(t, err, "Cluster")
}

// TestZero uses guards that New did not make.
func TestZero(t *testing.T) {
	for name, g := range map[string]*valkey.Guard{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, valkey.ErrClosed.Error(), spend(g, numbered(1)))
			assert.Equal(t, 9999, g.ReadyAt().Year())
			assert.Zero(t, g.Stats())
			assert.ErrorIs(t, g.Revoke(ctx, token.Target{Everyone: true}, time.Now()), valkey.ErrClosed)
			assert.True(t, g.Synced().IsZero())
			assert.ErrorIs(t, g.Sync(ctx, noNews), valkey.ErrClosed)
			assert.ErrorIs(t, g.Revoked(numbered(1)), valkey.ErrClosed)
			g.Close()
		})
	}
}

// TestNoPassword prints whatever has a password, in every way.
func TestNoPassword(t *testing.T) {
	const password = "hunter2"
	f := startFake(t)
	c := config(f.address)
	c.Username, c.Password = "gateway", password
	g := newGuard(t, c)
	var none *valkey.Guard
	shown := map[string][]any{"addresses": {c, &c, g, []any{c, g}}, "valkey": {none, new(valkey.Guard), valkey.Config{}}}
	for want, values := range shown {
		for _, v := range values {
			for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %t") {
				text := fmt.Sprintf(verb, v)
				assert.Contains(t, text, want, verb)
				assert.NotContains(t, text, password, verb)
				assert.NotContains(t, text, fmt.Sprintf("%x", password), verb)
			}
		}
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("made", "config", c, "guard", g, "none", none)
	}
	assert.NotContains(t, log.String(), password)
	assert.Equal(t, 4, strings.Count(log.String(), f.address))
}

// TestErrors: every error of the package matches what an Opener asks for.
func TestErrors(t *testing.T) {
	for _, err := range []error{
		valkey.ErrDataLost, valkey.ErrBusy, valkey.ErrCanceled, valkey.ErrClosed,
		valkey.ErrUnreachable, valkey.ErrAuth, valkey.ErrServer, valkey.ErrClock,
	} {
		assert.ErrorIs(t, err, token.ErrUnavailable, err.Error())
		assert.NotErrorIs(t, err, token.ErrRevoked)
		assert.Equal(t, err == valkey.ErrCanceled, errors.Is(err, context.Canceled))
	}
}

func TestRefusedAtOnce(t *testing.T) {
	s := startServer(t)
	now := time.Now() // before New, however long it takes
	g, err := valkey.New(ctx, config(s.Address))
	require.NoError(t, err)
	assert.Equal(t, valkey.ErrDataLost.Error(), spendAt(g, now, tokenAt(1, now, time.Minute)), "the guard is new")
	waitReady(t, g)
	now = time.Now()
	assert.Equal(t, tokenAhead, spendAt(g, now, tokenAt(1, now.Add(hang), time.Minute)))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = g.Spend(ended, now, tokenAt(1, now, time.Minute))
	assert.Equal(t, valkey.ErrCanceled, err)
	assert.Equal(t, "fresh", spendAt(g, now, tokenAt(1, now, time.Minute)), "none of it was spent")
	g.Close()
	g.Close()
	assert.Equal(t, valkey.ErrClosed.Error(), spendAt(g, now, tokenAt(2, now, time.Minute)))
}

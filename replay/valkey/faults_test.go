package valkey_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

func TestServerDown(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.kill()
	_, err := valkey.New(ctx, config(s.Address))
	require.ErrorIs(t, err, valkey.ErrUnreachable)
	require.EqualError(t, err, noConnection+": dial tcp "+s.Address+": connect: connection refused")
	s.Restart()
	assert.Equal(t, "fresh", spend(newGuard(t, config(s.Address)), numbered(1)))
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	spent := numbered(1)
	require.Equal(t, "fresh", spend(g, spent))
	alone := config(s.Address)
	alone.Username = "nobody" // unknown to the server
	assert.Equal(t, "fresh", spend(newGuard(t, alone), unique()), "without a password nothing is sent")
	s.must("ACL", "SETUSER", "gateway", "on", ">secret", "+@all", "~*")
	s.must("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "-set", "~*")
	s.must("ACL", "SETUSER", "default", "resetpass", ">other")
	for name, c := range map[string][2]string{"none": {}, "wrong": {"gateway", "guess"}} {
		with := config(s.Address)
		with.Username, with.Password = c[0], c[1]
		_, err := valkey.New(ctx, with)
		assert.Equal(t, valkey.ErrAuth, err, name)
	}
	// One user with exactly what the documentation lists, and some with
	// less.
	least := strings.Fields("+auth +set +get +time +info +eval +incrby +pexpire +pttl +zadd +zcard +zrange +zrangebyscore +zrem +zscore")
	user := func(name string, may ...string) {
		s.must(append([]string{"ACL", "SETUSER", name, "on", ">secret", "-@all", "~" + valkey.DefaultPrefix + "*"}, may...)...)
	}
	user("least", least...)
	for i, may := range least[1:] {
		user("less", slices.Delete(slices.Clone(least), i+1, i+2)...)
		// The guard must write another nonce.
		s.must("DEL", valkey.DefaultPrefix+"{0}:guard-nonce")
		with := config(s.Address)
		with.Username, with.Password = "less", "secret"
		_, err := valkey.New(ctx, with)
		assert.Equal(t, valkey.ErrAuth, err, "without %s", may)
		s.must("ACL", "DELUSER", "less")
	}
	for _, user := range []string{"gateway", "least"} {
		right := config(s.Address)
		right.Username, right.Password = user, "secret"
		with := newGuard(t, right)
		assert.Equal(t, "fresh", spend(with, unique()))
		assert.NoError(t, with.Revoke(ctx, token.Target{User: user}, time.Now()))
		// The guard must write another nonce.
		s.must("DEL", valkey.DefaultPrefix+"{0}:guard-nonce")
		assert.NoError(t, with.Sync(ctx, noNews))
	}
	assert.NotEqual(t, "fresh", spend(g, spent))
	limited := config(s.Address)
	limited.Username, limited.Password = "limited", "secret"
	_, err := valkey.New(ctx, limited)
	assert.Equal(t, valkey.ErrAuth, err)

	// Credentials that each connection asks for.
	right := config(s.Address)
	var asked atomic.Int64
	right.Credentials = func() (string, string, error) {
		asked.Add(1)
		return "least", "secret", nil
	}
	assert.Equal(t, "fresh", spend(newGuard(t, right), unique()))
	assert.Positive(t, asked.Load())
	sealed := errors.New("the vault is sealed, and the password is secret")
	right.Credentials = func() (string, string, error) { return "", "", sealed }
	_, err = valkey.New(ctx, right)
	assert.ErrorIs(t, err, valkey.ErrAuth)
	assert.ErrorIs(t, err, token.ErrUnavailable)
	assert.ErrorIs(t, err, sealed)
	assert.NotContains(t, err.Error(), "secret")
}

// TestPause stops the server for a moment. Fresh tokens are accepted after it,
// and none counts as spent.
func TestPause(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		c := config(s.Address)
		g := newGuard(t, c)
		var wg sync.WaitGroup
		var next atomic.Uint64
		end := time.Now().Add(2 * time.Second)
		for range 50 {
			wg.Go(func() {
				for time.Now().Before(end) {
					n := next.Add(1)
					assert.Equal(t, "fresh", spend(g, numbered(n)))
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			s.Stop()
			time.Sleep(300 * time.Millisecond)
			s.Resume()
		}
		wg.Wait()
		assert.Zero(t, g.Stats().Losses-1)
		for n := range next.Load() {
			require.Equal(t, "spent", spend(g, numbered(n+1)))
		}
	})
}

// TestSoakStall stops the server for far longer than anybody waits: for a
// minute, or for less with a shorter timeout. It is not parallel, because it
// counts the memory and goroutines of the whole process.
func TestSoakStall(t *testing.T) {
	const maxWaiting = 300
	stall, timeout := 3*time.Second, 250*time.Millisecond
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		stall, timeout = time.Minute, valkey.DefaultTimeout
	}
	s := startServer(t)
	c := config(s.Address)
	c.MaxWaiting, c.Timeout = maxWaiting, timeout
	g := newGuard(t, c)
	require.Equal(t, "fresh", spend(g, numbered(0)))
	goroutines, memory := runtime.NumGoroutine(), heap()

	s.Stop()
	var mu sync.Mutex
	count := make(map[string]int)
	var longest atomic.Int64
	var n atomic.Uint64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 * maxWaiting {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				outcome := spend(g, numbered(n.Add(1)))
				longest.Store(max(longest.Load(), int64(time.Since(began))))
				mu.Lock()
				count[outcome]++
				mu.Unlock()
				if outcome == valkey.ErrBusy.Error() {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(stall)
	during := heap()
	assert.LessOrEqual(t, g.Stats().Waiting, maxWaiting+2*maxWaiting, "calls count for a moment when they are refused")
	close(stop)
	wg.Wait()
	t.Log(count, time.Duration(longest.Load()), during-memory)
	assert.Positive(t, count[timedOut])
	assert.Positive(t, count[valkey.ErrBusy.Error()])
	assert.Zero(t, count["fresh"]+count["spent"])
	assert.Less(t, time.Duration(longest.Load()), timeout+hang/2, "a call hangs")
	assert.Less(t, during-memory, 16<<20)

	s.Resume()
	fresh := n.Add(1)
	// The same token: failed attempts did not spend it.
	eventually(t, func() bool {
		outcome := spend(g, numbered(fresh))
		require.NotEqual(t, "spent", outcome)
		fresh = n.Add(1)
		return outcome == "fresh"
	})
	assert.EqualValues(t, 1, g.Stats().Losses, "it is the same process")
	eventually(t, func() bool { return g.Stats().Waiting == 0 })
	eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// TestRestart kills the server. Spent tokens stay spent, whatever is left of
// the data. Tokens issued when the guard is ready again are accepted.
func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(s *server)
		args []string
	}{
		{"with its append-only file", func(*server) {}, []string{"--appendfsync", "everysec"}},
		{"with nothing", (*server).Forget, nil},
		{"without an append-only file", func(*server) {}, []string{"--appendonly", "no"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, tt.args...)
			c := config(s.Address)
			c.AcceptNoAppendOnlyFile = true
			early, g := newGuard(t, c), newGuard(t, c)
			waitReady(t, g)
			spent, unused := honest(), honest()
			require.Equal(t, "fresh", spend(early, spent))

			s.kill()
			tt.lose(s)
			assert.Equal(t, noConnection, spend(g, spent))
			s.Restart()
			// It may have to load its data.
			eventually(t, func() bool {
				return spend(g, spent) != loading
			})
			for range 3 {
				// "spent" is right too: g has just tried it.
				assert.Contains(t, []string{valkey.ErrDataLost.Error(), "spent"}, spend(g, spent))
				assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, unused))
			}
			assert.Equal(t, valkey.ErrDataLost.Error(), spend(early, unused))
			settle(t, g, early)
			issued := honest()
			assert.Equal(t, "fresh", spend(g, issued))
			assert.NotEqual(t, "fresh", spend(g, spent))
			assert.NotEqual(t, "fresh", spend(early, spent))
			assert.Equal(t, "spent", spend(early, issued))
		})
	}
}

// TestFlushed deletes the data while the connections stay.
func TestFlushed(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "DEL chattoken:{0}:guard-nonce"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			c := config(s.Address)
			g := newGuard(t, c)
			waitReady(t, g)
			spent, unused := honest(), honest()
			require.Equal(t, "fresh", spend(g, spent))
			s.must(strings.Split(command, " ")...)
			assert.NotEqual(t, "fresh", spend(newGuard(t, c), spent), "who notices first")
			assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, unused), "and the others")
			assert.NotEqual(t, "fresh", spend(g, spent))
			assert.EqualValues(t, 2, g.Stats().Losses, "that it was new, and this")
		})
	}
}

// TestThereAndBack shows the guard other data for a while, with a nonce of
// their own, and then the former again. They claim to be complete, but lack
// what was spent in between.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"two databases", "two servers"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s, other := startServer(t), startServer(t)
			p := startProxy(t, s.Address)
			g := newGuard(t, config(p.address))
			waitReady(t, g)
			require.Equal(t, "fresh", spend(g, honest()))
			swap := func(to *server) {
				if way == "two databases" {
					s.must("SWAPDB", "0", "1")
					return
				}
				p.target.Store(&to.Address)
				p.hangUp()
			}
			swap(other)
			assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, honest()))
			waitReady(t, g)
			tok := honest()
			require.Equal(t, "fresh", spend(g, tok))
			swap(s)
			assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, tok))
			assert.EqualValues(t, 3, g.Stats().Losses)
			waitReady(t, g)
			assert.Equal(t, "fresh", spend(g, honest()))
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	require.Equal(t, "fresh", spend(g, numbered(1)))
	s.must("CONFIG", "SET", "maxmemory", "1")
	assert.Equal(t, outOfMemory, spend(g, numbered(2)))
	assert.Equal(t, outOfMemory, spend(g, numbered(1)), "it is not told from a fresh one")
	s.must("CONFIG", "SET", "maxmemory", "0")
	assert.Equal(t, "fresh", spend(g, numbered(2)))
	assert.Equal(t, "spent", spend(g, numbered(1)))
}

func TestEviction(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.Address)
	g := newGuard(t, c)
	require.Equal(t, "fresh", spend(g, numbered(1)))
	s.must("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	_, err := valkey.New(ctx, c)
	assert.EqualError(t, err, evicts)
	c.AcceptEviction = true
	accepting := newGuard(t, c)
	assert.Equal(t, "spent", spend(accepting, numbered(1)))
	eventually(t, func() bool { return spend(g, unique()) == evicts })

	// It has evicted: even with the right policy, the data are incomplete.
	c.AcceptEviction = false
	s.must("SET", "filler", strings.Repeat("x", 1<<20))
	s.must("CONFIG", "SET", "maxmemory", "1mb")
	eventually(t, func() bool {
		text, err := s.do("INFO", "stats").ToString()
		return err == nil && !strings.Contains(text, "evicted_keys:0")
	})
	s.must("CONFIG", "SET", "maxmemory", "0")
	s.must("CONFIG", "SET", "maxmemory-policy", "noeviction")
	tok := honest()
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(newGuard(t, c), tok))
}

func TestNoAppendOnlyFile(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "no")
	c := config(s.Address)
	_, err := valkey.New(ctx, c)
	require.EqualError(t, err, noFile)
	c.AcceptNoAppendOnlyFile = true
	assert.Equal(t, "fresh", spend(newGuard(t, c), numbered(1)))
}

func mustString(t testing.TB, s *server, args ...string) string {
	t.Helper()
	v, err := s.do(args...).ToAny()
	require.NoError(t, err)
	if n, ok := v.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	return strings.TrimPrefix(v.(string), "txt:")
}

// TestLoading starts a server that loads its data for long, until it is told to
// stop.
func TestLoading(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.Address)
	g := newGuard(t, c)
	spent := numbered(1)
	require.Equal(t, "fresh", spend(g, spent))
	// It serves clients after every 1024 commands it loads.
	var sets []client.Completed
	for n := range 40_000 {
		sets = append(sets, s.admin().B().Set().Key(strconv.Itoa(n)).Value("x").Build())
	}
	for _, r := range s.admin().DoMulti(ctx, sets...) {
		require.NoError(t, r.Error())
	}
	s.kill()
	s.Args = []string{"--key-load-delay", "300"}
	s.Restart()
	told := 0
	eventually(t, func() bool {
		if other, err := valkey.New(ctx, c); err == nil {
			other.Close()
		} else if err.Error() == loading {
			told |= 1
		}
		outcome := spend(g, spent)
		if outcome == loading {
			told |= 2
		}
		if told == 3 {
			s.must("CONFIG", "SET", "key-load-delay", "0")
		}
		require.NotEqual(t, "fresh", outcome)
		return outcome == "spent"
	})
	assert.Equal(t, 3, told, "the reason is told, by New and by Spend")
}

// TestSplit delivers each byte of each reply on its own.
func TestSplit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	p.split.Store(true)
	g := newGuard(t, config(p.address))
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			for n := range uint64(50) {
				tok := numbered(i<<32 + n)
				assert.Equal(t, "fresh", spend(g, tok))
				assert.Equal(t, "spent", spend(g, tok))
			}
		})
	}
	wg.Wait()
}

// TestCut hangs up after each number of bytes of a reply. The request was sent
// and executed; the next attempt accepts the token.
func TestCut(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	g := newGuard(t, config(p.address))
	connections := g.Stats().Connections
	// A nil, about 140 bytes of state, and the time: all cuts within these,
	// and beyond, within the next reply.
	for cut := range int64(260) {
		p.cut.Store(cut)
		tok := numbered(uint64(cut))
		require.Equal(t, "fresh", spend(g, tok), "after %d bytes", cut)
		p.cut.Store(-1)
		require.Equal(t, "spent", spend(g, tok), "after %d bytes", cut)
	}
	st := g.Stats()
	assert.Greater(t, st.Connections, connections+100)
	assert.EqualValues(t, 1, st.Losses)
	assert.EqualValues(t, 260, st.Fresh)
}

// TestDelayed delivers replies later than anybody waits for them.
func TestDelayed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	c := config(p.address)
	c.Timeout = 500 * time.Millisecond
	g := newGuardAtLast(t, c)
	// outcome is that of a Spend that is not late.
	outcome := func(tok token.Summary) (got string) {
		eventually(t, func() bool {
			got = spend(g, tok)
			return got != timedOut
		})
		return got
	}
	outcome(unique())
	p.delay.Store(int64(2 * c.Timeout))
	for n := range uint64(5) {
		assert.Equal(t, timedOut, spend(g, numbered(n+1)))
	}
	p.delay.Store(0)
	eventually(t, func() bool { return spend(g, unique()) == "fresh" })
	for n := range uint64(5) {
		// Some were executed. Another call must not take that for its
		// own.
		assert.Contains(t, []string{"spent", "fresh"}, outcome(numbered(n+1)))
		assert.Equal(t, "spent", outcome(numbered(n+1)))
	}
}

// TestCanceled: a caller leaves after its token was sent, and before the
// answer.
func TestCanceled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	g := newGuard(t, config(p.address))
	require.Equal(t, "fresh", spend(g, numbered(0)))
	s.Stop()
	tok := numbered(1)
	p.awaited.Store(&tok.TokenID)
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error)
	go func() {
		_, err := g.Spend(leaving, time.Now(), tok)
		left <- err
	}()
	eventually(t, func() bool { return p.awaited.Load() == nil })
	leave()
	assert.Equal(t, valkey.ErrCanceled, <-left)
	s.Resume()
	eventually(t, func() bool { return g.Stats().Waiting == 0 })
	assert.Equal(t, "spent", spend(g, tok), "the server got to it when it went on")
}

// TestClocks uses gateways whose clock is off by more than the skew. They are
// refused, at the start and later, and never silently tolerated.
func TestClocks(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var off atomic.Int64
	c := config(s.Address)
	c.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
	for _, tt := range []struct {
		off  time.Duration
		want string
	}{
		{15 * time.Second, serverBehind},
		{-15 * time.Second, serverAhead},
		{10 * 365 * 24 * time.Hour, serverBehind},
	} {
		off.Store(int64(tt.off))
		_, err := valkey.New(ctx, c)
		assert.EqualError(t, err, tt.want, "ahead by %v", tt.off)
		assert.ErrorIs(t, err, valkey.ErrClock)
	}
	off.Store(0)
	g := newGuard(t, c)
	require.Equal(t, "fresh", spend(g, unique()))
	for _, tt := range []struct {
		off        time.Duration
		spend, ask string
	}{
		{15 * time.Second, serverBehind, serverBehind},
		{-15 * time.Second, tokenAhead, serverAhead},
		{10 * 365 * 24 * time.Hour, serverBehind, serverBehind},
	} {
		off.Store(int64(tt.off))
		now := c.Now()
		tok := tokenAt(1<<63+uniques.Add(1), now.Add(skew), time.Minute)
		if tt.off < 0 {
			tok = unique() // by an issuer whose clock is right
		}
		assert.Equal(t, tt.spend, spendAt(g, now, tok), "ahead by %v", tt.off)
		assert.EqualError(t, g.Sync(ctx, noNews), tt.ask, "ahead by %v", tt.off)
		assert.Positive(t, g.Stats().Reasons[map[string]string{
			serverBehind: "server-behind", tokenAhead: "token-ahead"}[tt.spend]])
	}
	off.Store(0)
	assert.Equal(t, "fresh", spend(g, unique()))

	// By the server's clock, this token expired long ago.
	late := unique()
	late.Expiration = time.Now().Add(-31 * time.Second)
	assert.Equal(t, tokenOver, spend(g, late))
}

package valkey_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// fake is a server that speaks as much of the protocol as a guard needs. Its
// clock can be set, and its replies can be chosen.
type fake struct {
	t       testing.TB
	address string

	mu     sync.Mutex
	info   map[string]string
	reply  map[string]string // by command: raw, instead of the right one
	values map[string]fakeValue
	offset time.Duration // of the clock
	frozen time.Time     // if set, the clock stands still, here plus offset
	drop   string        // hang up after the next such command
	then   func()        // called right after the next token is set
	conns  []net.Conn
}

type fakeValue struct {
	text    string
	expires time.Time // zero: never
}

func startFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{t: t, reply: make(map[string]string), values: make(map[string]fakeValue)}
	f.info = map[string]string{
		"redis_version": "7.0.15", "run_id": "run", "role": "master", "master_replid": "replication",
		"loading": "0", "aof_enabled": "1", "maxmemory_policy": "noeviction", "evicted_keys": "0", "cluster_enabled": "0",
	}
	f.address = listen(t, f.serve)
	return f
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := f.answer(args)
		if f.dropped(args[0]) {
			return
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) (args []string, err error) {
	n, err := readLength(r, '*')
	for range n {
		length, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		arg := make([]byte, length+2)
		if _, err := io.ReadFull(r, arg); err != nil {
			return nil, err
		}
		args = append(args, string(arg[:length]))
	}
	return args, err
}

func readLength(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, io.ErrUnexpectedEOF
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

const fakeNil = "$-1\r\n"

func (f *fake) now() time.Time {
	if f.frozen.IsZero() {
		return time.Now().Add(f.offset)
	}
	return f.frozen.Add(f.offset)
}

func (f *fake) answer(args []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reply, ok := f.reply[args[0]]; ok {
		return reply
	}
	switch args[0] {
	case "INFO":
		var text strings.Builder
		for name, value := range f.info {
			text.WriteString(name + ":" + value + "\r\n")
		}
		return bulk(text.String())
	case "TIME":
		now := f.now()
		return "*2\r\n" + bulk(strconv.FormatInt(now.Unix(), 10)) + bulk(strconv.Itoa(now.Nanosecond()/1000))
	case "GET":
		return f.get(args[1])
	case "SET": // key value, or key value NX GET PX milliseconds
		if len(args) == 3 {
			f.values[args[1]] = fakeValue{text: args[2]}
			return "+OK\r\n"
		}
		old := f.get(args[1])
		if old == fakeNil {
			ms, _ := strconv.Atoi(args[6])
			f.values[args[1]] = fakeValue{args[2], f.now().Add(time.Duration(ms) * time.Millisecond)}
		}
		if f.then != nil {
			f.then()
			f.then = nil
		}
		return old
	case "EVAL":
		return f.eval(args)
	}
	return "+OK\r\n"
}

// eval answers the guard's scripts, which differ in their number of arguments.
// It knows of no revocations.
func (f *fake) eval(args []string) string {
	switch len(args) {
	case 6: // extendNonce: script 1 nonce old life
		return ":1\r\n"
	case 7: // replaceNonce: script 1 nonce old new life
		if old, ok := f.values[args[3]]; old.text == args[4] || !ok && args[4] == "" {
			f.values[args[3]] = fakeValue{text: args[5]}
		}
		return ":1\r\n"
	case 9: // after: script 4 keys rank page
		return cmp.Or(f.reply["after"], "*1\r\n"+bulk("0"))
	}
	return cmp.Or(f.reply["insert"], ":0\r\n")
}

func (f *fake) get(key string) string {
	v, ok := f.values[key]
	if !ok || !v.expires.IsZero() && !f.now().Before(v.expires) {
		delete(f.values, key)
		return fakeNil
	}
	return bulk(v.text)
}

// say sets the reply to a command; "" restores the right one.
func (f *fake) say(command, reply string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reply == "" {
		delete(f.reply, command)
	} else {
		f.reply[command] = reply
	}
}

// dropped reports whether to hang up after this command.
func (f *fake) dropped(command string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.drop != command {
		return false
	}
	f.drop = ""
	return true
}

// hangUp ends all connections.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

func (f *fake) set(name, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.info[name] = value
}

// TestReplies answers a SET with everything that a server or a proxy might
// send. Only nil ever means yes.
func TestReplies(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup // some take as long as a guard waits
	defer wg.Wait()
	for _, tt := range []struct {
		command, reply string
		want           string // empty: spent
	}{
		{"SET", bulk("someone else's ID"[:16]), ""},
		{"SET", bulk(""), oddReply},
		{"SET", bulk("fifteen bytes.."), oddReply},
		{"SET", bulk("seventeen bytes.."), oddReply},
		{"SET", "+OK\r\n", oddReply},
		{"SET", "+QUEUED\r\n", oddReply},
		{"SET", ":1\r\n", oddReply},
		{"SET", ":0\r\n", oddReply},
		{"SET", "_\r\n", oddReply},
		{"SET", "$-2\r\n", oddReply},
		{"SET", "$99999999\r\n", oddReply},
		{"SET", "*99999999\r\n", oddReply},
		{"SET", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", oddReply},
		{"SET", "#t\r\n", oddReply},
		{"SET", ",1.5\r\n", oddReply},
		{"SET", "*0\r\n", oddReply},
		{"SET", "*1\r\n_\r\n", oddReply},
		{"SET", "%0\r\n", oddReply},
		{"SET", "-ERR syntax error\r\n", oddReply},
		{"SET", "-ERR max number of clients reached\r\n", noConnection},
		{"SET", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", outOfMemory},
		{"SET", "-LOADING Redis is loading the dataset in memory\r\n", loading},
		{"SET", "-BUSY Redis is busy running a script.\r\n", loading},
		{"SET", "-READONLY You can't write against a read only replica.\r\n", readOnly},
		{"SET", "-MASTERDOWN Link with MASTER is down\r\n", readOnly},
		{"SET", "-NOREPLICAS Not enough good replicas to write.\r\n", fewReplicas},
		{"SET", "-MISCONF Redis is configured to save RDB snapshots\r\n", cannotSave},
		{"SET", "-NOAUTH Authentication required.\r\n", valkey.ErrAuth.Error()},
		{"SET", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth.Error()},
		{"SET", "-CLUSTERDOWN Hash slot not served\r\n", noSlot},
		{"SET", "-MOVED 1 127.0.0.1:1\r\n", noSlot},
		{"SET", "-ASK 1 127.0.0.1:1\r\n", noSlot},
		{"SET", "-TRYAGAIN Multiple keys request during rehashing of slot\r\n", noSlot},
		{"TIME", "+OK\r\n", oddReply},
		{"TIME", "*1\r\n$1\r\n1\r\n", oddReply},
		{"TIME", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n", oddReply},
		{"TIME", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth.Error()},
		{"TIME", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n", serverBehind},
		{"GET", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth.Error()},
	} {
		f := startFake(t)
		wg.Go(func() {
			g := newGuard(t, config(f.address))
			f.say(tt.command, tt.reply)
			fresh, err := g.Spend(ctx, time.Now(), unique())
			// A busy machine may time out before the reply.
			for try := 0; err != nil && err.Error() == timedOut && try < 10; try++ {
				fresh, err = g.Spend(ctx, time.Now(), unique())
			}
			assert.False(t, fresh, tt.reply)
			if tt.want == "" {
				assert.NoError(t, err, tt.reply)
			} else {
				assert.EqualError(t, err, tt.want, "%s %s", tt.command, tt.reply)
			}
			f.say(tt.command, "")
			assert.Equal(t, "fresh", spend(g, unique()), "after %s", tt.reply)
		})
	}
}

// TestRevocationReplies answers the script of a revocation with what it never
// returns. That fails at once, and does not look like a connection worth
// another try.
func TestRevocationReplies(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"+OK\r\n", fakeNil, bulk("x"), "*0\r\n", "#t\r\n", "-ERR syntax error\r\n"} {
		f := startFake(t)
		g := newGuard(t, config(f.address))
		f.say("EVAL", reply)
		began := time.Now()
		assert.EqualError(t, g.Revoke(ctx, token.Target{User: "user"}, time.Now()), oddReply, reply)
		assert.Less(t, time.Since(began), 3*time.Second, reply)
	}
}

// TestServerChanges makes a fit server unfit, in each way.
func TestServerChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, want string }{
		{"redis_version", "6.2.14", tooOld},
		{"redis_version", "255.255.255", "fresh"},
		{"redis_version", "unstable", oddReply},
		{"run_id", "", oddReply},
		{"role", "slave", readOnly},
		{"loading", "1", loading},
		{"aof_enabled", "0", noFile},
		{"maxmemory_policy", "volatile-ttl", evicts},
		{"maxmemory_policy", "", evicts},
	} {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			c := config(f.address)
			g := newGuard(t, c)
			f.set(tt.name, tt.value)
			if other, err := valkey.New(ctx, c); err == nil {
				other.Close()
				assert.Equal(t, tt.want, "fresh")
			} else {
				assert.EqualError(t, err, tt.want)
			}
			if tt.want == "fresh" {
				assert.NoError(t, g.Sync(ctx, noNews))
			} else { // as after five seconds, over its connection
				assert.EqualError(t, g.Sync(ctx, noNews), tt.want)
			}
			assert.Equal(t, tt.want, spend(g, numbered(1)))
			f.hangUp()
			assert.Equal(t, tt.want, spend(g, numbered(2)))
		})
	}
}

// TestHalfAdopted: a gateway meets another nonce, and fails to write its own or
// to fetch the revocations. It accepts nobody until it can.
func TestHalfAdopted(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"insert", "after"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			g := newGuard(t, config(f.address))
			f.say(script, "-OOM command not allowed\r\n")
			f.mu.Lock()
			delete(f.values, "chattoken:{0}:guard-nonce")
			f.values["chattoken:{0}:guard-revision"] = fakeValue{text: "5"}
			f.mu.Unlock()
			assert.EqualError(t, g.Sync(ctx, noNews), outOfMemory)
			waitAhead(g)
			assert.Equal(t, outOfMemory, spend(g, unique()))
			f.say(script, "")
			assert.Equal(t, "fresh", spend(g, unique()))
		})
	}
}

// TestIdentity: the same connection leads to another process, history or count
// of evictions, and the nonce is the same. The data may lack what was spent.
func TestIdentity(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"run_id", "master_replid", "evicted_keys"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			g := newGuard(t, config(f.address))
			unused := unique()
			f.set(name, "7")
			if name != "master_replid" {
				// Otherwise it asks only after five seconds.
				require.NoError(t, g.Sync(ctx, noNews))
			}
			assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, unused))
			assert.EqualValues(t, 2, g.Stats().Losses)
			waitAhead(g)
			assert.Equal(t, "fresh", spend(g, unique()))
		})
	}
}

// TestTailComesLast: the server changes right after a token was set, in the
// same pipeline. The guard notices, because the tail of the pipeline is read
// after that.
func TestTailComesLast(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		then func(f *fake)
		want string
	}{
		"history":   {func(f *fake) { f.info["master_replid"] = "another" }, valkey.ErrDataLost.Error()},
		"nonce":     {func(f *fake) { delete(f.values, "chattoken:{0}:guard-nonce") }, valkey.ErrDataLost.Error()},
		"role":      {func(f *fake) { f.info["role"] = "slave" }, readOnly},
		"the clock": {func(f *fake) { f.offset = 2 * time.Minute }, tokenOver},
		"nothing":   {func(*fake) {}, "fresh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			g := newGuard(t, config(f.address))
			f.mu.Lock()
			f.then = func() { tt.then(f) }
			f.mu.Unlock()
			assert.Equal(t, tt.want, spend(g, unique()))
		})
	}
}

// TestFormerNonce replaces the nonce by the one before it, in the same second
// as the other times.
func TestFormerNonce(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	g := newGuard(t, config(f.address))
	key := "chattoken:{0}:guard-nonce"
	swap := func(v fakeValue) (former fakeValue) {
		f.mu.Lock()
		former, f.values[key] = f.values[key], v
		f.mu.Unlock()
		require.NoError(t, g.Sync(ctx, noNews))
		return former
	}
	first := swap(fakeValue{})
	assert.EqualValues(t, 2, g.Stats().Losses)
	second := swap(first)
	assert.EqualValues(t, 3, g.Stats().Losses)
	swap(second)
	assert.EqualValues(t, 4, g.Stats().Losses)
}

// TestNewConnection: between two spends, a process with another identity and
// the same data replaces the first. Only the new connection shows it.
func TestNewConnection(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	g := newGuard(t, config(f.address))
	var wg sync.WaitGroup
	for range 64 { // now the client always reads, and notices
		wg.Go(func() { assert.Equal(t, "fresh", spend(g, unique())) })
	}
	wg.Wait()
	f.set("run_id", "another")
	f.hangUp()
	// The client notices before the guard could.
	time.Sleep(100 * time.Millisecond)
	tok := unique()
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, tok))
	assert.EqualValues(t, 2, g.Stats().Losses)
}

// startOwners starts two servers of a Cluster. The first has all slots until
// own gives them to another.
func startOwners(t testing.TB) (fakes []*fake, own func(i int), c valkey.Config) {
	t.Helper()
	fakes = []*fake{startFake(t), startFake(t)}
	own = func(i int) {
		host, port, _ := net.SplitHostPort(fakes[i].address)
		for _, f := range fakes {
			f.set("cluster_enabled", "1")
			f.say("CLUSTER", "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n"+bulk(host)+":"+port+"\r\n")
		}
	}
	c = config(fakes[0].address, fakes[1].address)
	own(0)
	return fakes, own, c
}

// TestOwnerChanges moves all slots of a Cluster from one server to another and
// back, all the time. A spend that meets the former owner goes on to the other.
func TestOwnerChanges(t *testing.T) {
	t.Parallel()
	_, own, c := startOwners(t)
	g := newGuard(t, c)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					// A slot on another server raises the
					// mark.
					assert.Contains(t, []string{"fresh", valkey.ErrDataLost.Error()}, spend(g, unique()))
				}
			}
		})
	}
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	for i := range rounds {
		own(i % 2)
		// Revoke first asks who has the slots.
		assert.NoError(t, g.Revoke(ctx, token.Target{User: "somebody"}, time.Now()))
	}
	close(stop)
	wg.Wait()
}

// TestSyncOwnerChanges moves all slots of a Cluster to another server, while a
// Sync asks the former owner. It goes on to the other.
func TestSyncOwnerChanges(t *testing.T) {
	t.Parallel()
	fakes, own, c := startOwners(t)
	g := newGuard(t, c)
	own(1)
	fakes[0].say("GET", "-MOVED 1 127.0.0.1:1\r\n")
	connections := g.Stats().Connections
	assert.NoError(t, g.Sync(ctx, noNews))
	assert.Equal(t, connections+1, g.Stats().Connections, "it asked the other one")
}

// TestClocksAhead starts a guard while its clock and the server's are ten years
// ahead, as may happen before a host has asked for the time. When they are
// right, another guard works, and this one says why it doesn't.
func TestClocksAhead(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := config(f.address)
	c.Now = func() time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.now()
	}
	f.offset = 10 * 365 * 24 * time.Hour
	g, err := valkey.New(ctx, c)
	require.NoError(t, err)
	defer g.Close()
	f.mu.Lock()
	f.offset = 0
	f.mu.Unlock()
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, unique()))
	assert.Greater(t, time.Until(g.ReadyAt()), 9*365*24*time.Hour)
	assert.Equal(t, "fresh", spend(newGuard(t, c), unique()))
}

// TestClockSlow: a gateway's clock is behind the server's when data may have
// been lost. The later clock dates the mark.
func TestClockSlow(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.offset = 20 * time.Second
	c := config(f.address)
	c.Limits.ClockSkew = 30 * time.Second
	began := time.Now().Truncate(time.Second)
	g, err := valkey.New(ctx, c)
	require.NoError(t, err)
	defer g.Close()
	lost := began.Add(f.offset + c.Limits.ClockSkew + time.Second)
	assert.False(t, g.ReadyAt().Before(lost), "%v, and not %v", g.ReadyAt(), lost)
}

// TestClockModel uses a server whose clock goes forward at random, by a second
// or by an hour, and is set back while nothing was forgotten. The gateways'
// clocks show anything. No token is accepted twice; and while the clocks agree,
// fresh ones are accepted. Every clock moves only as the model draws, so the
// machine's speed has no effect.
func TestClockModel(t *testing.T) {
	t.Parallel()
	rounds := 4000
	if testing.Short() {
		rounds = 1000
	}
	f := startFake(t)
	f.frozen = time.Now()
	c := config(f.address)
	c.Limits.ClockSkew = 5 * time.Second
	var own atomic.Pointer[time.Time]
	own.Store(&f.frozen)
	c.Now = func() time.Time { return *own.Load() }
	g, err := valkey.New(ctx, c)
	require.NoError(t, err)
	defer g.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(rng.Int64N(int64(most-least)+1))
	}
	var minted []token.Summary
	accepted := make(map[token.ID]bool)
	fresh, honest, refused := 0, 0, 0
	f.offset = time.Minute // past the skew of the guard's start
	base := f.offset
	for round := range rounds {
		var old *token.Summary
		if len(minted) > 0 && rng.IntN(2) == 0 {
			old = &minted[rng.IntN(len(minted))]
		}
		f.mu.Lock()
		switch rng.IntN(10) {
		case 0:
			f.offset += between(0, 10*time.Second)
		case 1:
			f.offset += between(0, 3*time.Minute)
		case 2: // by less than the spare time to live
			f.offset = max(base, f.offset-between(0, 5*time.Second))
		case 3: // to where a recent token may just be gone
			if len(minted) > 0 {
				old = &minted[max(0, len(minted)-1-rng.IntN(3))]
				f.offset = max(f.offset, old.Expiration.Sub(f.frozen)+between(-5*time.Second, 40*time.Second))
			}
		}
		offset := f.offset
		f.mu.Unlock()
		off := offset + between(-time.Minute, time.Minute)
		agree := rng.IntN(2) == 0
		if agree {
			off = offset + between(-5*time.Second, 5*time.Second)
		}
		now := f.frozen.Add(off)
		tok := tokenAt(uint64(round), now.Add(-between(0, 5*time.Second)), between(5*time.Second, 10*time.Minute).Truncate(time.Second))
		if old != nil {
			tok = *old
			// By a clock that finds it timely.
			now = tok.IssuedAt.Add(between(0, tok.Expiration.Sub(tok.IssuedAt)-1))
		}
		tok.ClockSkew = 5 * time.Second
		if old == nil {
			minted = append(minted, tok)
		}
		own.Store(&now)
		got, err := g.Spend(ctx, now, tok)
		switch {
		case got && accepted[tok.TokenID]:
			t.Fatalf("round %d: accepted twice: %v at %v, the server is at %v", round, tok, now, f.frozen.Add(offset))
		case got:
			accepted[tok.TokenID] = true
			fresh++
		case err != nil:
			refused++
		}
		if agree && old == nil && now.Before(tok.Expiration.Add(-time.Second)) {
			honest++
			if !got {
				t.Fatalf("round %d: refused a fresh token: %v", round, err)
			}
		}
	}
	t.Logf("%d accepted, %d refused with an error, %d honest", fresh, refused, honest)
	assert.Greater(t, honest, rounds/8)
	assert.Greater(t, refused, rounds/20)
}

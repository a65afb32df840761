package valkey_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// fake is a server that speaks as much of the protocol as a guard needs, has a
// clock that can be set, and says what it is told to.
type fake struct {
	t       testing.TB
	address string

	mu     sync.Mutex
	info   map[string]string
	reply  map[string]string // to a command, instead of what is right; raw
	values map[string]fakeValue
	offset time.Duration // of the clock
	frozen time.Time     // what the clock shows but for offset, unless it is zero: then it runs
	drop   string        // hang up after the next one of that command
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
	wrote := false
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := f.answer(args)
		switch {
		case args[0] == "SET":
			wrote = wrote || reply != bulk(args[2])
		case args[0] == "WAIT" && !wrote: // for nothing: the replica has all of that
			reply = ":1\r\n"
		}
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

const fakeNil = "_\r\n"

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
	case "HELLO":
		return "%1\r\n" + bulk("proto") + ":3\r\n"
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
	case "WAIT":
		return ":0\r\n" // there is a replica, and it says nothing
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
		return old
	case "EVAL": // of adopt: script 2 state order old new
		if old := f.values[args[3]]; old.text == args[5] {
			f.values[args[3]] = fakeValue{text: args[6] + "0"}
		}
		return f.get(args[3])
	}
	return "+OK\r\n"
}

func (f *fake) get(key string) string {
	v, ok := f.values[key]
	if !ok || !v.expires.IsZero() && !f.now().Before(v.expires) {
		delete(f.values, key)
		return fakeNil
	}
	return bulk(v.text)
}

// say has the server reply to a command in its own way; with "" rightly again.
func (f *fake) say(command, reply string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reply == "" {
		delete(f.reply, command)
	} else {
		f.reply[command] = reply
	}
}

// dropped reports whether this is the command to hang up after.
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

// TestReplies has a SET answered with everything that a server or a proxy may
// come up with. Nothing but nil is ever taken for yes.
func TestReplies(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup // some of it takes as long as a guard waits
	defer wg.Wait()
	for _, tt := range []struct {
		command, reply string
		want           error // nil: a replay
	}{
		{"SET", bulk("someone else's ID"[:16]), nil},
		{"SET", bulk(""), valkey.ErrReply},
		{"SET", bulk("fifteen bytes.."), valkey.ErrReply},
		{"SET", bulk("seventeen bytes.."), valkey.ErrReply},
		{"SET", "+OK\r\n", valkey.ErrReply},
		{"SET", "+QUEUED\r\n", valkey.ErrReply},
		{"SET", ":1\r\n", valkey.ErrReply},
		{"SET", ":0\r\n", valkey.ErrReply},
		{"SET", "#t\r\n", valkey.ErrReply},
		{"SET", ",1.5\r\n", valkey.ErrReply},
		{"SET", "*0\r\n", valkey.ErrReply},
		{"SET", "*1\r\n_\r\n", valkey.ErrReply},
		{"SET", "%0\r\n", valkey.ErrReply},
		{"SET", "-ERR syntax error\r\n", valkey.ErrReply},
		{"SET", "-ERR max number of clients reached\r\n", valkey.ErrConnection},
		{"SET", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", valkey.ErrOutOfMemory},
		{"SET", "-LOADING Redis is loading the dataset in memory\r\n", valkey.ErrLoading},
		{"SET", "-BUSY Redis is busy running a script.\r\n", valkey.ErrLoading},
		{"SET", "-READONLY You can't write against a read only replica.\r\n", valkey.ErrReadOnly},
		{"SET", "-MASTERDOWN Link with MASTER is down\r\n", valkey.ErrReadOnly},
		{"SET", "-NOREPLICAS Not enough good replicas to write.\r\n", valkey.ErrReplicas},
		{"SET", "-MISCONF Redis is configured to save RDB snapshots\r\n", valkey.ErrPersistence},
		{"SET", "-NOAUTH Authentication required.\r\n", valkey.ErrAuth},
		{"SET", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth},
		{"SET", "-CLUSTERDOWN Hash slot not served\r\n", valkey.ErrCluster},
		{"SET", "-MOVED 1 127.0.0.1:1\r\n", valkey.ErrCluster},
		{"SET", "-ASK 1 127.0.0.1:1\r\n", valkey.ErrCluster},
		{"SET", "-TRYAGAIN Multiple keys request during rehashing of slot\r\n", valkey.ErrCluster},
		{"TIME", "+OK\r\n", valkey.ErrReply},
		{"TIME", "*1\r\n$1\r\n1\r\n", valkey.ErrReply},
		{"TIME", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n", valkey.ErrReply},
		{"TIME", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth},
		{"TIME", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n", valkey.ErrClock},
		{"GET", "-NOPERM this user has no permissions\r\n", valkey.ErrAuth},
	} {
		f := startFake(t)
		g := newGuard(t, config(f.address))
		wg.Go(func() {
			f.say(tt.command, tt.reply)
			fresh, err := g.Spend(ctx, clock(), unique())
			assert.False(t, fresh, tt.reply)
			assert.Equal(t, tt.want, err, "%s %s", tt.command, tt.reply)
			f.say(tt.command, "")
			assert.Equal(t, "fresh", spend(g, unique()), "after %s", tt.reply)
		})
	}
}

// TestRevocationReplies has the script of a revocation answered with what it never
// answers. That is told at once, and not taken for a connection that is worth another try.
func TestRevocationReplies(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"+OK\r\n", fakeNil, bulk("x"), "*0\r\n", "#t\r\n", "-ERR syntax error\r\n"} {
		f := startFake(t)
		g := newGuard(t, config(f.address))
		f.say("EVAL", reply)
		began := time.Now()
		assert.ErrorIs(t, g.RevokeUser(ctx, "user", clock()), valkey.ErrReply, reply)
		assert.Less(t, time.Since(began), 3*time.Second, reply)
	}
}

// TestServerChanges has a server that is fit become unfit, in each way.
func TestServerChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        error
	}{
		{"redis_version", "6.2.14", valkey.ErrVersion},
		{"redis_version", "255.255.255", nil},
		{"redis_version", "unstable", valkey.ErrReply},
		{"run_id", "", valkey.ErrReply},
		{"role", "slave", valkey.ErrReadOnly},
		{"loading", "1", valkey.ErrLoading},
		{"aof_enabled", "0", valkey.ErrNoAppendOnlyFile},
		{"maxmemory_policy", "volatile-ttl", valkey.ErrEviction},
		{"maxmemory_policy", "", valkey.ErrEviction},
	} {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			c := config(f.address)
			g := newGuard(t, c)
			f.set(tt.name, tt.value)
			_, err := valkey.New(ctx, c)
			assert.Equal(t, tt.want, err)
			f.hangUp() // or the guard would ask after five seconds
			if tt.want == nil {
				assert.Equal(t, "fresh", spend(g, numbered(1)))
			} else {
				assert.Equal(t, tt.want.Error(), spend(g, numbered(1)))
			}
		})
	}
}

// TestIdentity has the same connection lead to another process, or history.
func TestIdentity(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"run_id", "master_replid", "evicted_keys"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			c := quick(f.address)
			g := newGuard(t, c)
			require.Equal(t, "fresh", spend(g, numbered(1)))
			f.set(name, "7")
			require.NoError(t, g.Sync(ctx))
			assert.EqualValues(t, 2, g.Stats().Losses)
			waitReady(t, g)
			tok, unused := honest(), honest()
			require.Equal(t, "fresh", spendHonest(g, tok))
			f.set(name, "8")
			assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(newGuard(t, c), tok))
			assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(g, unused), "it read the state that the other one wrote")
		})
	}
}

// TestFormerState has the state be replaced by the one before it, in the same second
// as the other times: their marks tell nothing.
func TestFormerState(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	g := newGuard(t, config(f.address))
	key := "chattoken:{0}:guard-state"
	swap := func(v fakeValue) (former fakeValue) {
		f.mu.Lock()
		former, f.values[key] = f.values[key], v
		f.mu.Unlock()
		require.NoError(t, g.Sync(ctx))
		return former
	}
	first := swap(fakeValue{})
	assert.EqualValues(t, 2, g.Stats().Losses)
	second := swap(first)
	assert.EqualValues(t, 3, g.Stats().Losses)
	swap(second)
	assert.EqualValues(t, 4, g.Stats().Losses)
}

// TestNewConnection has a process with another identity and the same data take the
// place of the one that was asked, between two spends: nothing but the new
// connection tells.
func TestNewConnection(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	g := newGuard(t, quick(f.address))
	waitReady(t, g)
	var wg sync.WaitGroup
	for range 64 { // from now on the client reads all the time, and notices
		wg.Go(func() { assert.Equal(t, "fresh", spendHonest(g, honest())) })
	}
	wg.Wait()
	f.set("run_id", "another")
	f.hangUp()
	time.Sleep(100 * time.Millisecond) // for the client to notice, before the guard could
	tok := honest()
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(g, tok))
	assert.EqualValues(t, 2, g.Stats().Losses)
}

// TestWaitAgain has a connection end after a token was set, which no replica
// confirms. The next attempt finds it set, and must not take that for confirmed:
// since version 7.2, WAIT is for what was written over the same connection.
func TestWaitAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := config(f.address)
	c.Replicas = 1
	g := newGuard(t, c)
	assert.Equal(t, valkey.ErrReplicas.Error(), spend(g, numbered(1)))
	f.mu.Lock()
	f.drop = "SET"
	f.mu.Unlock()
	assert.Equal(t, valkey.ErrReplicas.Error(), spend(g, numbered(2)))
}

// startOwners starts two servers of a Cluster, of which the first has all slots until own
// gives them to another.
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
	for i, f := range []*fake{fakes[1], fakes[0]} {
		own(1 - i)
		newGuard(t, c)          // writes the state
		f.say("EVAL", ":1\r\n") // to a revocation
	}
	return fakes, own, c
}

// TestOwnerChanges has all slots of a Cluster go from one server to another and back,
// all the time. A spend that meets the one before goes on to the other.
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
					assert.Equal(t, "fresh", spend(g, unique()))
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
		assert.NoError(t, g.RevokeUser(ctx, "somebody", clock())) // asks who has the slots, first
	}
	close(stop)
	wg.Wait()
}

// TestSyncOwnerChanges has all slots of a Cluster go to another server, while a Sync asks
// the former one. It goes on to the other.
func TestSyncOwnerChanges(t *testing.T) {
	t.Parallel()
	fakes, own, c := startOwners(t)
	g := newGuard(t, c)
	own(1)
	fakes[0].say("GET", "-MOVED 1 127.0.0.1:1\r\n")
	connections := g.Stats().Connections
	assert.NoError(t, g.Sync(ctx))
	assert.Equal(t, connections+1, g.Stats().Connections, "it asked the other one")
}

// TestBogusMark has a state whose mark is years ahead: it is replaced.
func TestBogusMark(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	key := "chattoken:{0}:guard-state"
	f.values[key] = fakeValue{text: "1 epoch run-replication-0 99999999999 0"}
	assert.Equal(t, "fresh", spend(newGuard(t, config(f.address)), numbered(1)))
	for _, text := range []string{"", "x", "1 2 3", "2 epoch run-replication-0 5 0", "1 epoch run-replication-0 05 0", "1 epoch run-replication-0 5 0 "} {
		f.mu.Lock()
		f.values[key] = fakeValue{text: text}
		f.mu.Unlock()
		g := newGuard(t, config(f.address))
		assert.EqualValues(t, 1, g.Stats().Losses, "%q", text)
	}
}

// TestClocksAhead starts a guard while its clock and the server's are ten years
// ahead, as they may be before a host has asked for the time. When they are right
// it works, without a restart.
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
	g := newGuard(t, c)
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, numbered(1)))
	f.mu.Lock()
	f.offset = 0
	f.mu.Unlock()
	require.NoError(t, g.Sync(ctx)) // or it would ask after five seconds
	assert.Equal(t, "fresh", spend(g, numbered(2)))
	assert.Less(t, time.Until(g.ReadyAt()), 10*time.Second)
}

// TestClockSlow has a gateway whose clock is behind the server's when data may have
// been lost: the later one says up to when.
func TestClockSlow(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.offset = 20 * time.Second
	c := config(f.address)
	began := time.Now()
	g := newGuard(t, c)
	lost := began.Add(f.offset + 5*time.Second)
	assert.False(t, g.ReadyAt().Before(lost), "%v, and not %v", g.ReadyAt(), lost)
}

// TestClockModel has a server whose clock goes forward at random, by a second or by
// an hour, and is set back as long as nothing was forgotten, and gateways whose
// clocks show anything. No token is let in twice; and while the clocks agree,
// fresh ones are. No clock runs but by what the model draws: how long the machine
// takes for it is all the same.
func TestClockModel(t *testing.T) {
	t.Parallel()
	rounds := 4000
	if testing.Short() {
		rounds = 1000
	}
	f := startFake(t)
	f.frozen = time.Now()
	c := config(f.address)
	c.MaxTTL = 10 * time.Minute
	c.Now = func() time.Time { // for what it asks every five seconds
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.now()
	}
	g := newGuard(t, c)
	rng := rand.New(rand.NewPCG(1, 2))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(rng.Int64N(int64(most-least)+1))
	}
	var minted []claims.Summary
	accepted := make(map[claims.TokenID]bool)
	fresh, honest, refused := 0, 0, 0
	f.offset = time.Minute // past what counts as issued before the guard was made
	base := f.offset
	for round := range rounds {
		var old *claims.Summary
		if len(minted) > 0 && rng.IntN(2) == 0 {
			old = &minted[rng.IntN(len(minted))]
		}
		f.mu.Lock()
		switch rng.IntN(10) {
		case 0:
			f.offset += between(0, 10*time.Second)
		case 1:
			f.offset += between(0, 3*time.Minute)
		case 2: // back by less than what is kept beyond what is needed
			f.offset = max(base, f.offset-between(0, 5*time.Second))
		case 3: // to where a recent token may just have been forgotten
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
		if old == nil {
			minted = append(minted, tok)
		}
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

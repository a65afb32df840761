package valkey

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

func parse(text string) (reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(text), maxText+2))
}

// TestCommandsAreReplies reads commands as the replies that they look like:
// what was added comes back, whatever is in it.
func TestCommandsAreReplies(t *testing.T) {
	var p pipeline
	args := []string{"SET", "", "\r\n", "$-1\r\n", strings.Repeat("x", maxText), "*1\r\n"}
	p.add(args...)
	v, err := parse(string(p.buf))
	require.NoError(t, err)
	require.Len(t, v.array, len(args))
	for i, arg := range args {
		got, err := v.array[i].string()
		assert.NoError(t, err)
		assert.Equal(t, arg, got)
	}
}

// TestReadReply reads what servers send, every truncation of it, and noise.
// Only a whole reply is accepted.
func TestReadReply(t *testing.T) {
	for _, text := range []string{
		"+OK\r\n", "-ERR no\r\n", ":-12\r\n", "$-1\r\n", "*-1\r\n", "$0\r\n\r\n", "$3\r\na\r\n\r\n",
		"*0\r\n", "*2\r\n$1\r\n1\r\n:2\r\n", "*1\r\n*1\r\n*1\r\n+x\r\n",
		// CLUSTER SLOTS, with the name of a host.
		"*1\r\n*3\r\n:0\r\n:9\r\n*4\r\n$1\r\nh\r\n:1\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nn\r\n",
	} {
		_, err := parse(text)
		assert.NoError(t, err, "%q", text)
		for n := range len(text) {
			_, err := parse(text[:n])
			assert.Error(t, err, "%q", text[:n])
		}
	}
	for _, text := range []string{
		"\r\n", "+OK\n", "x\r\n", "$\r\n", "$x\r\n", "$-2\r\n", "$65535\r\n", "$1\r\nab\r\n", "$1\r\na\n\r\n",
		"*262145\r\n", "*2\r\n" + strings.Repeat("*131072\r\n"+strings.Repeat(":1\r\n", 1<<17), 2), "*-2\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n", "#t\r\n", "_\r\n", "%0\r\n",
		"+" + strings.Repeat("x", maxText+2) + "\r\n",
	} {
		_, err := parse(text)
		assert.Equal(t, errReply, err, "%.20q", text)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		noise := make([]byte, rng.IntN(40))
		for i := range noise {
			noise[i] = "+-:$*0123456789\r\n"[rng.IntN(17)]
		}
		r := bufio.NewReaderSize(bytes.NewReader(noise), maxText+2)
		for {
			if _, err := readReply(r); err != nil {
				break
			}
		}
	}
}

// TestDeadLink: a pipeline waits for its replies while the one before it reads
// an invalid one, which ends the link. The rest of the buffer is not for the
// one that waits.
func TestDeadLink(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	l := &link{conn: client, in: bufio.NewReaderSize(client, maxText+2)}
	go func() { _, _ = server.Write([]byte("+left\r\n")) }()
	_, err := l.in.Peek(len("+left\r\n"))
	require.NoError(t, err)

	l.reading.Lock() // as the one before does
	done := make(chan []reply)
	go func() {
		var p pipeline
		p.add("PING")
		replies, err := l.roundTrip(time.Now().Add(time.Minute), &p, nil)
		assert.Equal(t, errReply, err, "why the link ended")
		done <- replies
	}()
	_, err = io.ReadFull(server, make([]byte, len("*1\r\n$4\r\nPING\r\n")))
	require.NoError(t, err)
	_ = l.close(errReply)
	l.reading.Unlock()
	assert.Empty(t, <-done)
}

// TestElsewhereMeanwhile: a connection leads to another server while a gateway
// writes and fetches revocations. Then it knows nothing of the first one.
func TestElsewhereMeanwhile(t *testing.T) {
	ctx := context.Background()
	a, b := valkeytest.Start(t), valkeytest.Start(t)
	var target atomic.Pointer[string]
	target.Store(&a.Address)
	g, err := New(ctx, Config{Addresses: []string{"name:1"}, Timeout: 6 * time.Second, Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, *target.Load())
	}})
	require.NoError(t, err)
	defer g.Close()
	require.NoError(t, g.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	require.NoError(t, g.Sync(ctx, func(token.Target, time.Time) {}))
	n, until := g.topology.Load().nodes[0], time.Now().Add(6*time.Second)
	n.asking.Lock()
	defer n.asking.Unlock()
	known := n.change(nil)
	require.EqualValues(t, 1, known.revision)
	n.hangUp()
	target.Store(&b.Address)
	assert.Equal(t, errChanged, n.writeBack(until))
	assert.Equal(t, errChanged, n.catchUp(until, answer{revision: 5}, 0))
	assert.Equal(t, known, n.change(nil))
}

// TestFormerOwner: a slot leaves the server that a token was sent to, while all
// clocks are set back, so the mark is before the token. A later reply of the
// former owner does not count.
func TestFormerOwner(t *testing.T) {
	base := time.Now().Truncate(time.Second)
	now := base
	c, err := Config{Addresses: []string{"x:1"}, Limits: keyring.Limits{ClockSkew: time.Second}, Now: func() time.Time { return now }}.withDefaults()
	require.NoError(t, err)
	g := &Guard{config: c, closed: make(chan struct{})}
	server := func(address string, conn uint64, slot int) *node {
		n := &node{g: g, address: address, stop: make(chan struct{})}
		n.belief = belief{conn: conn, identity: identity{address, address}, nonce: address}
		n.keys.Store(newKeys(c.Prefix, slotTag(slot, slots)))
		return n
	}
	const slot = 10000
	other, former := server("a:1", 1, 0), server("b:1", 2, slots/2)
	top := &topology{nodes: []*node{other, former}, marks: make([]clock, slots)}
	top.owners = append(slices.Repeat([]*node{other}, slots/2), slices.Repeat([]*node{former}, slots/2)...)
	g.topology.Store(top)
	g.mapped = time.Now()
	send := func() *request {
		r := &request{done: make(chan struct{}, 1)}
		r.reset(c.Prefix, top, now, token.Summary{IssuedAt: base.Add(time.Second), Expiration: base.Add(time.Minute), ClockSkew: time.Second})
		r.slot, r.px = slot, 120_000
		return r
	}
	answered := func(n *node, r *request) (bool, error) {
		// Null means that it was not spent before.
		w := &worker{n: n, requests: []*request{r}, replies: []reply{{}}}
		a := answer{conn: n.belief.conn, primary: true, identity: n.belief.identity, nonce: n.belief.nonce, time: clockOf(base.Add(time.Second))}
		_, err := w.judge(time.Now(), &a)
		require.NoError(t, err)
		return r.fresh, r.err
	}
	sent := send()
	now = base.Add(-2 * time.Second)
	require.NoError(t, g.install(slotMap{slots: slots, asked: time.Now(), server: clockOf(now), ranges: []slotRange{
		{0, slots/2 - 1, "a:1"}, {slots / 2, slot - 1, "b:1"}, {slot, slot, "a:1"}, {slot + 1, slots - 1, "b:1"}}}))
	now = base.Add(time.Second)
	fresh, err := answered(other, send())
	assert.True(t, fresh, "%v", err)
	fresh, err = answered(former, sent)
	assert.False(t, fresh)
	assert.Equal(t, errChanged, err)
}

// TestNames: every target comes back from its name, and no two share one.
func TestNames(t *testing.T) {
	names := make(map[string]bool)
	for _, room := range []string{"", "a", "1:a", "u", "t0123456789abcdef", "a\x00", "é"} {
		for _, user := range []string{"", "a", ":a", "1:a", "0:", "é"} {
			if room+user == "" {
				continue
			}
			target := targetOf(nameOf(token.Target{Room: room, User: user}))
			assert.Equal(t, token.Target{Room: room, User: user}, target)
			names[nameOf(target)] = true
		}
	}
	assert.Len(t, names, 7*6-1)
	for _, odd := range []string{"", "t", "tx", "u", "ux:", "u9:a", "u-1:a", "b1:ab", "aa"} {
		assert.Error(t, targetOf(odd).Validate(), "%q", odd)
	}
}

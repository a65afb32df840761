package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/valkey-io/valkey-go"
)

// node is one server that takes writes: the only one, or a primary of the Cluster.
// Its client has one connection, so that the guard knows which process answers.
type node struct {
	g       *Guard
	address string
	client  client.Client
	queue   chan *request // has room for MaxWaiting, so that it is never full

	// dials counts connections, each before it can carry a command. As long as
	// the count is the same, so is the process that answers.
	dials atomic.Uint64
	conn  atomic.Pointer[net.Conn] // the latest
	keys  atomic.Pointer[keys]

	belief belief // guarded by Guard.mu, as the marks are

	asking  sync.Mutex // is held to ask the server about itself, and guards what follows
	settled bool       // the revocations of the pair are known, and those of this gateway written
	evicted string     // evicted_keys when last asked

	retired atomic.Bool
	stop    chan struct{} // closed after retired is set
}

// keys are the names of the keys that the guard keeps on each server, beside those
// of tokens. In a Cluster they have the same slot, one that the server has.
type keys struct {
	nonce    string // a string
	revision string // a string: counts the revocations that were written
	order    string // a sorted set: the names of revocations by their revision
	marks    string // a sorted set: the names of revocations by their moment
	tokens   string // a sorted set: the names of revoked tokens by when that was

	rehearsal string // a string, written like a token's
}

func newKeys(prefix, tag string) *keys {
	base := prefix + "{" + tag + "}:guard-"
	return &keys{base + "nonce", base + "revision", base + "order", base + "marks", base + "tokens", base + "rehearsal"}
}

// newNode makes a node and starts its goroutines. It does not connect: whoever asks
// the server something does, within a context.
func (g *Guard) newNode(address string, k *keys) (*node, error) {
	n := &node{
		g:       g,
		address: address,
		queue:   make(chan *request, g.config.MaxWaiting),
		stop:    make(chan struct{}),
	}
	n.keys.Store(k)
	var err error
	if n.client, err = g.config.newClient(address, n.dial); err != nil {
		return nil, err
	}
	for range workers {
		go n.work()
	}
	go n.beat()
	return n, nil
}

// dial counts the connections that are made, and keeps the latest. A node that is
// retired gets none, although the client would make one.
func (n *node) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if n.retired.Load() {
		return nil, client.ErrClosing
	}
	n.dials.Add(1)
	n.g.count.connections.Add(1)
	c, err := n.g.config.Dialer(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n.conn.Store(&c)
	if n.retired.Load() { // close may have come too early to see c
		_ = c.Close()
		return nil, client.ErrClosing
	}
	return c, nil
}

// hangUp closes the connection, because the next one may lead to another server.
func (n *node) hangUp(ctx context.Context) {
	if c := n.conn.Load(); c != nil {
		_ = (*c).Close()
		n.client.Do(ctx, n.client.B().Ping().Build()) // so that the client notices it now
	}
}

// retire ends the node's goroutines, and has its requests sent on or refused. The
// node is to be closed afterwards.
func (n *node) retire() {
	n.retired.Store(true)
	close(n.stop)
}

// close ends the connection of a node that is retired. It may wait for replies, for a
// second. The client alone would keep a connection that is just being made.
func (n *node) close() {
	n.client.Close()
	if c := n.conn.Load(); c != nil {
		_ = (*c).Close()
	}
}

// round sends commands in one pipeline, over one connection, with what tells whether
// their replies are to be believed. That comes last: reading it before proves nothing.
// The client may still use commands if there is an error.
func (n *node) round(ctx context.Context, commands []client.Completed) ([]client.ValkeyResult, answer, error) {
	b, k := n.client.B(), n.keys.Load()
	before := n.dials.Load()
	replies := n.client.DoMulti(ctx, append(commands,
		b.Get().Key(k.nonce).Build(),
		b.Get().Key(k.revision).Build(),
		b.Info().Section("replication").Build(),
		b.Time().Build())...)
	a, err := readAnswer(replies[len(commands):])
	if n.dials.Load() == before {
		a.conn = before
	}
	return replies[:len(commands)], a, err
}

func readAnswer(tail []client.ValkeyResult) (a answer, err error) {
	nonce, err := tail[0].ToString()
	if err != nil && !client.IsValkeyNil(err) {
		return a, reason(err)
	}
	revision, err := tail[1].ToString()
	if err != nil && !client.IsValkeyNil(err) {
		return a, reason(err)
	}
	info, err := tail[2].ToString()
	if err != nil {
		return a, reason(err)
	}
	a = answer{nonce: nonce, primary: infoField(info, "role") == "master"}
	a.replID = infoField(info, "master_replid")
	if revision != "" {
		a.revision, err = strconv.ParseInt(revision, 10, 64)
	}
	if err != nil || a.replID == "" {
		return a, errReply
	}
	a.time, err = readTime(tail[3])
	return a, err
}

// infoField returns the value of a field in the reply to INFO, or "".
func infoField(info, name string) string {
	for {
		i := strings.Index(info, name)
		if i < 0 {
			return ""
		}
		begins := i == 0 || info[i-1] == '\n'
		info = info[i+len(name):]
		if begins && strings.HasPrefix(info, ":") {
			value, _, _ := strings.Cut(info[1:], "\r\n")
			return value
		}
	}
}

// readTime reads the reply to TIME.
func readTime(reply client.ValkeyResult) (clock, error) {
	values, err := reply.ToArray() // AsIntSlice would allocate
	if err != nil {
		if _, ok := client.IsValkeyErr(err); ok || reply.NonValkeyError() != nil {
			return 0, reason(err)
		}
		return 0, errReply
	}
	if len(values) != 2 {
		return 0, errReply
	}
	seconds, err := values[0].AsInt64()
	micros, err2 := values[1].AsInt64()
	if err != nil || err2 != nil {
		return 0, errReply
	}
	return clock(seconds*1000 + micros/1000), nil
}

// refusals has the errors of a server, by how their text begins.
var refusals = [...]struct {
	begin string
	err   error
}{
	{"OOM", errOutOfMemory},
	{"LOADING", errLoading},
	{"BUSY", errLoading},
	{"READONLY", errReadOnly},
	{"MASTERDOWN", errReadOnly},
	{"NOREPLICAS", errReplicas},
	{"MISCONF", errPersistence},
	{"NOAUTH", ErrAuth},
	{"WRONGPASS", ErrAuth},
	{"NOPERM", ErrAuth},
	{"MOVED", errCluster},
	{"ASK", errCluster},
	{"TRYAGAIN", errCluster},
	{"CLUSTERDOWN", errCluster},
	{"CROSSSLOT", errCluster},
	{"max number of clients", errConnection},
}

// unauthorized has parts of what versions say if a password is missing, wrong or not
// expected, or a script uses a command that its user may not.
var unauthorized = [...]string{"AUTH", "password", "can't run this command", "ACL failure"}

// reason returns the guard's own error for one of the client's or the server's.
func reason(err error) error {
	if e, ok := client.IsValkeyErr(err); ok {
		return refusal(e.Error())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	case errors.Is(err, errCredentials):
		return ErrAuth
	case errors.Is(err, client.ErrClosing), errors.Is(err, errNotYet): // which a client keeps until it is closed
		return ErrClosed
	case client.IsValkeyNil(err), client.IsParseErr(err):
		return errReply
	}
	return errConnection
}

func refusal(text string) error {
	for _, r := range refusals {
		if strings.HasPrefix(text, r.begin) {
			return r.err
		}
	}
	for _, part := range unauthorized {
		if strings.Contains(text, part) {
			return ErrAuth
		}
	}
	return errReply
}

// misrouted reports whether err, from reason, may be over as soon as the guard knows
// which server has the slot now.
func misrouted(err error) bool { return err == errCluster || err == errReadOnly }

// transient reports whether another attempt is worth while after one that ended with
// err. Calls wait together for a connection that one of them makes, so ErrCanceled
// need not be about a context of this one.
func transient(err error) bool {
	return err == ErrCanceled || err == errConnection || err == errTimeout || err == errChanged || misrouted(err)
}

// persist repeats what failed for a reason that may pass, until ctx ends.
func persist(ctx context.Context, try func() error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := try()
		if err == nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// heed returns the error of do, or ErrCanceled as soon as ctx is canceled: do then ends
// on its own, by the deadline that ctx has. The client heeds deadlines, but while it
// waits for a reply it may not notice that a context is canceled.
func heed(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if ctx.Err() == context.Canceled {
		return ErrCanceled
	}
	return <-done // which says more than that the time is up
}

// ringScale is the binary logarithm of how many pipelines a connection may have that
// are not answered yet, those that nobody waits for any more included. One more would
// wait where no context ends it. It does not come to that: a connection that answers
// nothing is given up a Timeout after maxQuiet.
const ringScale = 8

// maxQuiet is after how long without a reply the client sends a PING. Without that it
// would not give up a connection that answers nothing, and would soon block.
const maxQuiet = time.Second

var (
	// errNotYet is what newClient has NewClient's own attempt to connect end with.
	errNotYet = errors.New("valkey: the first command connects")

	errCredentials = errors.New("valkey: Config.Credentials failed")
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// newClient returns a client of one server, which connects with its first command, by
// dial: one connection, nothing repeated, nothing cached. NewClient would connect at
// once, and heed no context.
func (c *Config) newClient(address string, dial dialFunc) (client.Client, error) {
	making := true
	o := client.ClientOption{
		InitAddress:       []string{address},
		Username:          c.Username,
		Password:          c.Password,
		SelectDB:          c.Database,
		ForceSingleClient: true,
		PipelineMultiplex: -1, // one connection
		BlockingPipeline:  1 << 30,
		RingScaleEachConn: ringScale,
		DisableRetry:      true,
		DisableCache:      true,
		ConnWriteTimeout:  c.Timeout,
		Dialer:            net.Dialer{Timeout: c.Timeout, KeepAlive: maxQuiet},
	}
	if c.Credentials != nil {
		o.AuthCredentialsFn = c.credentials
	}
	o.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		if making {
			return nil, errNotYet
		}
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		conn, err := dial(ctx, "tcp", address)
		if err != nil || c.TLS == nil {
			return conn, err
		}
		return c.encrypt(ctx, conn, address)
	}
	cl, err := client.NewClient(o)
	making = false
	if cl == nil {
		return nil, err // the options are no good
	}
	return cl, nil
}

func (c *Config) credentials(client.AuthCredentialsContext) (a client.AuthCredentials, err error) {
	a.Username, a.Password, err = c.Credentials()
	if err != nil {
		err = errCredentials
	}
	return a, err
}

// encrypt begins TLS on a connection to address.
func (c *Config) encrypt(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config := c.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func itoa(n int) string { return strconv.Itoa(n) }

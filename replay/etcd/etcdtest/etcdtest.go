//go:build unix

// Package etcdtest starts etcd clusters on loopback for tests: call [Start].
package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a cluster may take to start. It does not measure speed:
// the machine may be busy.
const patience = 60 * time.Second

// Program returns the path of etcd: the environment variable CHATTOKEN_ETCD, or
// what is installed. If there is none, it skips the test, or fails it if
// CHATTOKEN_REQUIRE=1.
func Program(t testing.TB) string { return find(t, os.Getenv("CHATTOKEN_ETCD"), "etcd") }

// Tool returns the path of the program that restores snapshots, as [Program]
// does: etcdutl beside CHATTOKEN_ETCD, or etcdctl as installed.
func Tool(t testing.TB) string {
	if named := os.Getenv("CHATTOKEN_ETCD"); named != "" {
		return find(t, filepath.Join(filepath.Dir(named), "etcdutl"), "")
	}
	return find(t, "", "etcdctl")
}

func find(t testing.TB, named, installed string) string {
	t.Helper()
	if named == "" {
		named = installed
	}
	path, err := exec.LookPath(named)
	switch {
	case err == nil:
	case os.Getenv("CHATTOKEN_REQUIRE") == "1":
		t.Fatalf("required, but %s is not installed", named)
	default:
		t.Skipf("SKIPPED: %s is not installed", named)
	}
	return path
}

// Cluster is members that the test has started. They are killed when it ends.
type Cluster struct {
	Members []*Member

	t     testing.TB
	token string
}

// Member is a process on loopback, with a directory of its own.
type Member struct {
	Endpoint string   // host and port for clients
	Peer     string   // host and port for the other members
	Listen   string   // where it listens for them, if Peer is a proxy
	Dir      string   // what the member stores
	Metrics  string   // host and port of its metrics
	Scheme   string   // for clients: http, or https if Args say so
	Args     []string // further settings; Restart applies changes

	name    string
	program string
	cluster *Cluster
	cmd     *exec.Cmd
	output  *bytes.Buffer // to be read when the process has ended
	exited  chan struct{} // closed then
}

// Start starts a cluster of so many members, and waits until it has a leader.
// args are command-line settings for all members.
func Start(t testing.TB, members int, args ...string) *Cluster {
	t.Helper()
	c := New(t, members, args...)
	c.Launch()
	return c
}

// New returns a cluster to start with [Cluster.Launch].
func New(t testing.TB, members int, args ...string) *Cluster {
	t.Helper()
	program := Program(t)
	c := &Cluster{t: t, token: strconv.FormatUint(rand.Uint64(), 36)}
	for i := range members {
		peer := FreeAddress(t)
		c.Members = append(c.Members, &Member{
			Endpoint: FreeAddress(t), Peer: peer, Listen: peer, Metrics: FreeAddress(t),
			Scheme: "http", Dir: t.TempDir(), Args: args,
			name: "m" + strconv.Itoa(i), program: program, cluster: c,
		})
	}
	t.Cleanup(c.Kill)
	return c
}

// Endpoints returns the addresses of all members.
func (c *Cluster) Endpoints() (all []string) {
	for _, m := range c.Members {
		all = append(all, m.Endpoint)
	}
	return all
}

// Launch starts all members with what they have stored, and waits until the
// cluster answers.
func (c *Cluster) Launch() {
	c.t.Helper()
	for _, m := range c.Members {
		m.start()
	}
	for _, m := range c.Members {
		m.await()
	}
}

// Kill kills all running members, and waits until they have ended.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.Kill()
	}
}

// Forget removes what all members have stored. None may run.
func (c *Cluster) Forget() {
	c.t.Helper()
	for _, m := range c.Members {
		if err := os.RemoveAll(m.data()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Restore gives all members the data of a snapshot. None may run. flags are
// further flags of the program that restores.
func (c *Cluster) Restore(snapshot string, flags ...string) {
	c.t.Helper()
	c.Forget()
	for _, m := range c.Members {
		args := append([]string{"snapshot", "restore", snapshot, "--data-dir", m.data(), "--name", m.name,
			"--initial-cluster", c.initial(), "--initial-cluster-token", c.token,
			"--initial-advertise-peer-urls", "http://" + m.Peer}, flags...)
		cmd := exec.Command(Tool(c.t), args...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Fatalf("restore: %v: %s", err, out)
		}
	}
}

// Leader returns the member that is the leader, or nil.
func (c *Cluster) Leader() *Member {
	for _, m := range c.Members {
		if m.metric("etcd_server_is_leader") == "1" {
			return m
		}
	}
	return nil
}

func (c *Cluster) initial() string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.name+"=http://"+m.Peer)
	}
	return strings.Join(all, ",")
}

func (m *Member) data() string { return filepath.Join(m.Dir, "data") }

// start starts the process.
func (m *Member) start() {
	t := m.cluster.t
	t.Helper()
	m.output = new(bytes.Buffer)
	m.cmd = exec.Command(m.program, append([]string{
		"--name", m.name, "--data-dir", m.data(), "--logger", "zap", "--log-level", "error",
		"--listen-client-urls", m.Scheme + "://" + m.Endpoint, "--advertise-client-urls", m.Scheme + "://" + m.Endpoint,
		"--listen-metrics-urls", "http://" + m.Metrics,
		"--listen-peer-urls", "http://" + m.Listen, "--initial-advertise-peer-urls", "http://" + m.Peer,
		"--initial-cluster", m.cluster.initial(), "--initial-cluster-token", m.cluster.token,
		"--unsafe-no-fsync",
	}, m.Args...)...)
	m.cmd.Stdout, m.cmd.Stderr = m.output, m.output
	dieWithParent(m.cmd)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, exited := m.cmd, make(chan struct{})
	m.exited = exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
}

// await waits until the member knows a leader.
func (m *Member) await() {
	t := m.cluster.t
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-m.exited:
			t.Fatalf("etcd does not start: %s", m.output)
		default:
		}
		if m.metric("etcd_server_has_leader") == "1" {
			return
		}
	}
	t.Fatal("etcd does not get ready")
}

// metric returns one of the member's metrics, or "".
func (m *Member) metric(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Metrics+"/metrics", nil)
	if err != nil {
		return ""
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer reply.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(reply.Body); err != nil {
		return ""
	}
	for line := range strings.Lines(body.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Stop makes the member stand still until [Member.Resume]: its connections
// stay, and it answers nothing.
func (m *Member) Stop() {
	m.signal(syscall.SIGSTOP)
	// The signal takes a moment to reach threads that run.
	stat := fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid)
	for range 1000 {
		time.Sleep(5 * time.Millisecond)
		text, err := os.ReadFile(stat)
		if err != nil || bytes.Contains(text, []byte(") T ")) {
			return
		}
	}
}

// Resume ends [Member.Stop].
func (m *Member) Resume() { m.signal(syscall.SIGCONT) }

// Kill kills the member, if it runs, and waits until it has ended.
func (m *Member) Kill() {
	if m.cmd == nil || m.cmd.Process == nil {
		return
	}
	m.signal(syscall.SIGKILL)
	<-m.exited
}

func (m *Member) signal(sig os.Signal) { _ = m.cmd.Process.Signal(sig) }

// Restart starts the member again after [Member.Kill], at the same address and
// with what it has stored, and waits until it knows a leader.
func (m *Member) Restart() {
	m.cluster.t.Helper()
	m.start()
	m.await()
}

// FreeAddress returns an address on loopback at which nothing listens. It
// returns none twice, because a killed server may come back to its own. The
// port is below those that the system gives to clients.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 21_000+rand.IntN(10_000))
		if _, again := taken.LoadOrStore(address, true); again {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

var taken sync.Map // those that FreeAddress returned, or found taken

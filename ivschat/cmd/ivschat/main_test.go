package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
)

// envHelper has the name of a KEK's file. With it this program is a helper for
// that KEK.
const envHelper = "IVSCHAT_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(envHelper); name != "" {
		if len(os.Args) != 3 {
			os.Exit(2)
		}
		if err := kekhelper.Serve(context.Background(), keyring.KEKFile{Name: name}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command is the running command, in this process.
type command struct {
	url     string        // http://127.0.0.1:port
	lines   *bufio.Reader // what it writes after that line
	signals chan os.Signal
	hangups chan os.Signal
	ended   chan error // has the result of run
	log     *log
}

// log may be written and read at the same time.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs the command on a free port until the test ends, or a signal ends
// it.
func start(t *testing.T, env map[string]string, args ...string) *command {
	t.Helper()
	c := &command{signals: make(chan os.Signal, 1), hangups: make(chan os.Signal, 1), ended: make(chan error, 1), log: new(log)}
	stdout, w := io.Pipe()
	p := process{
		args:   append([]string{"-listen", "127.0.0.1:0"}, args...),
		getenv: func(name string) string { return env[name] },
		stdout: w, stderr: c.log, stops: c.signals, hangups: c.hangups,
	}
	go func() {
		err := p.run()
		w.CloseWithError(err)
		c.ended <- err
	}()
	t.Cleanup(func() {
		select {
		case c.signals <- os.Interrupt:
		default:
		}
		go io.Copy(io.Discard, stdout)
		assert.NoError(t, <-c.ended)
		if t.Failed() {
			t.Log(c.log)
		}
	})
	c.lines = bufio.NewReader(stdout)
	url, ok := strings.CutPrefix(c.line(t), "ivschat: listening on ")
	require.True(t, ok)
	c.url = url
	return c
}

func (c *command) line(t *testing.T) string {
	t.Helper()
	text, err := c.lines.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(text)
}

// quiet starts the command, and drops what it writes.
func quiet(t *testing.T, args ...string) *command {
	t.Helper()
	c := start(t, nil, args...)
	go io.Copy(io.Discard, c.lines)
	return c
}

// await waits until the command ends by itself, and returns its error.
func (c *command) await(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err // for Cleanup
		return err
	case <-time.After(hang):
		require.Fail(t, "it doesn't end")
		return nil
	}
}

// fails runs a command that doesn't start, and returns why.
func fails(args ...string) error {
	p := process{args: args, getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	return p.run()
}

func status(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// sealedRing returns the files of a keyring and of its KEK.
func sealedRing(t *testing.T, config keyring.Config) (name, kekName string) {
	t.Helper()
	dir := t.TempDir()
	name, kekName = filepath.Join(dir, "keyring"), filepath.Join(dir, "kek")
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	require.NoError(t, kek.WriteFile(kekName))
	file := keyring.File{Name: name, KEK: kek, Config: config}
	_, err = file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	return name, kekName
}

// soon is of a keyring with which a server is soon ready.
var soon = keyring.Config{Policy: keyring.Policy{ClockSkew: time.Second}}

func writeFile(t *testing.T, text string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// demoRoom is the ID of a room of the demonstration.
const demoRoom = "g1H2I3j4k5L6"

const (
	oneRoom  = `{"region":"r","rooms":["arn:aws:ivschat:r:1:room/a"],"credentials":[]}`
	twoRooms = `{"region":"r","rooms":["arn:aws:ivschat:r:1:room/a","arn:aws:ivschat:r:1:room/b"],"credentials":[]}`
)

func TestDemonstration(t *testing.T) {
	c := start(t, nil)
	assert.Empty(t, c.line(t))
	assert.Equal(t, "A page to chat on: "+c.url+"/", c.line(t))
	go io.Copy(io.Discard, c.lines)
	assert.Equal(t, http.StatusOK, status(t, c.url+"/"))
	assert.Equal(t, http.StatusOK, status(t, c.url+"/healthz"))
}

func TestHelp(t *testing.T) {
	var stdout strings.Builder
	for _, arg := range []string{"-help", "-h"} {
		stdout.Reset()
		require.NoError(t, process{args: []string{arg}, stdout: &stdout}.run())
		assert.Equal(t, usage, stdout.String())
	}
}

func TestProfile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cpu")
	c := quiet(t, "-config", writeFile(t, oneRoom), "-cpuprofile", name)
	c.signals <- os.Interrupt
	require.NoError(t, c.await(t))
	profile, err := os.Stat(name)
	require.NoError(t, err)
	assert.Positive(t, profile.Size())
}

// The keys are exactly the file's, however the KEK is given.
func TestKeys(t *testing.T) {
	config := soon
	config.Context = "production"
	ring, kek := sealedRing(t, config)
	text, err := os.ReadFile(kek)
	require.NoError(t, err)
	open := filepath.Join(filepath.Dir(kek), "open")
	require.NoError(t, os.WriteFile(open, text, 0o440))

	t.Setenv(envHelper, kek)
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"file":     {nil, []string{"-kek-file", kek, "-context", "production"}},
		"group":    {nil, []string{"-kek-file", open, "-insecure-any-mode", "-context", "production"}},
		"command":  {nil, []string{"-kek-command", os.Args[0] + " as helper", "-context", "production"}},
		"variable": {map[string]string{envKEK: string(text), envContext: "production"}, []string{"-refuse-form-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, test.env, append(test.args, "-keyring", ring, "-config", writeFile(t, oneRoom))...)
			go io.Copy(io.Discard, c.lines)
			assert.Equal(t, http.StatusServiceUnavailable, status(t, c.url+"/healthz"), "another host may have spent tokens")
		})
	}
	assert.NotContains(t, harmless(fails("-keyring", ring, "-kek-file", string(text))), string(text[:20]))
	assert.ErrorContains(t, fails("-keyring", ring, "-kek-file", open, "-context", "production"), "others can read it")
	assert.Error(t, fails("-keyring", ring, "-kek-file", kek))
}

func TestHighWater(t *testing.T) {
	ring, kek := sealedRing(t, soon)
	mark := filepath.Join(t.TempDir(), "serial")
	quiet(t, "-keyring", ring, "-kek-file", kek, "-high-water", mark)
	serial, err := os.ReadFile(mark)
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(serial))
	require.NoError(t, os.WriteFile(mark, []byte("2\n"), 0o600))
	assert.ErrorIs(t, fails("-keyring", ring, "-kek-file", kek, "-high-water", mark), keyring.ErrRollback)
}

// What the operator watches is on a listener of its own and, except in the
// demonstration, nowhere else.
func TestDebug(t *testing.T) {
	t.Run("demonstration", func(t *testing.T) { testDebug(t, http.StatusOK) })
	t.Run("config", func(t *testing.T) { testDebug(t, http.StatusBadRequest, "-config", writeFile(t, oneRoom)) })
}

func testDebug(t *testing.T, public int, args ...string) {
	c := start(t, nil, append(args, "-debug", "127.0.0.1:0")...)
	vars, ok := strings.CutPrefix(c.line(t), "ivschat: numbers at ")
	require.True(t, ok)
	go io.Copy(io.Discard, c.lines)
	debug := strings.TrimSuffix(vars, "/debug/vars")
	for url, status := range map[string]int{
		vars:                  http.StatusOK,
		c.url + "/debug/vars": public,
		debug + "/":           http.StatusNotFound,
		debug + "/healthz":    http.StatusNotFound,
	} {
		resp, err := http.Get(url)
		require.NoError(t, err)
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, status, resp.StatusCode, url)
		assert.Equal(t, status == http.StatusOK, strings.Contains(string(data), `"chattoken":{"minted":0`), url)
	}
}

// Prometheus finds what the gateway did.
func TestMetrics(t *testing.T) {
	c := start(t, nil, "-debug", "127.0.0.1:0")
	numbers, ok := strings.CutPrefix(c.line(t), "ivschat: numbers at ")
	require.True(t, ok)
	go io.Copy(io.Discard, c.lines)
	text := join(t, c.url, "g1H2I3j4k5L6", "ann")
	for _, want := range []int{http.StatusSwitchingProtocols, http.StatusUnauthorized} {
		_, code := connect(t, c.url, text)
		require.Equal(t, want, code)
	}
	resp, err := http.Get(strings.TrimSuffix(numbers, "/debug/vars") + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, line := range []string{
		"chattoken_gateway_entries_total 1", `chattoken_gateway_refusals_total{reason="spent"} 1`,
		`chattoken_gateway_refusals_total{reason="expired"} 0`, "chattoken_gateway_ready 1", "go_goroutines ",
	} {
		require.Contains(t, string(data), "\n"+line)
	}
}

func TestDoesNotStart(t *testing.T) {
	dir, junk := t.TempDir(), writeFile(t, "junk")
	for name, args := range map[string][]string{
		"flag":      {"-nothing"},
		"KEK":       {"-keyring", junk, "-kek-file", junk},
		"no config": {"-config", filepath.Join(dir, "none")},
		"config":    {"-config", junk},
		"token TTL": {"-token-ttl", "1s"},
		"origin":    {"-origins", "chat.example.com"},
		"address":   {"-listen", "127.0.0.1:99999"},
		"debug":     {"-listen", "127.0.0.1:0", "-debug", "127.0.0.1:99999"},
		"profile":   {"-cpuprofile", dir},
	} {
		assert.Error(t, fails(args...), name)
	}
}

// SIGHUP reads the file again. Whoever is in stays, and an invalid file changes
// nothing.
func TestReload(t *testing.T) {
	config := writeFile(t, oneRoom)
	c := quiet(t, "-config", config, "-join")
	ann, code := connect(t, c.url, join(t, c.url, "a", "ann"))
	require.Equal(t, http.StatusSwitchingProtocols, code)

	reload := func(text, logged string) {
		t.Helper()
		before := strings.Count(c.log.String(), logged)
		require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
		c.hangups <- syscall.SIGHUP
		require.Eventually(t, func() bool { return strings.Count(c.log.String(), logged) > before }, hang, time.Millisecond)
	}
	assert.Empty(t, join(t, c.url, "b", "bob"), "there is no such room yet")
	reload(twoRooms, "read again")
	_, code = connect(t, c.url, join(t, c.url, "b", "bob"))
	assert.Equal(t, http.StatusSwitchingProtocols, code)
	for _, bad := range []string{"junk", "{}", `{"region":"r","rooms":["nonsense"],"credentials":[]}`} {
		reload(bad, "stay as they were")
	}
	_, code = connect(t, c.url, join(t, c.url, "b", "bob"))
	assert.Equal(t, http.StatusSwitchingProtocols, code)
	say(t, ann, `{"Action":"SEND_MESSAGE","Content":"still here"}`)
	assert.Contains(t, hear(t, ann), "still here")
}

// The demonstration has no file, but survives the signal.
func TestReloadOfNothing(t *testing.T) {
	c := quiet(t)
	c.hangups <- syscall.SIGHUP
	require.Eventually(t, func() bool { return strings.Contains(c.log.String(), "no -config") }, hang, time.Millisecond)
	assert.Equal(t, http.StatusOK, status(t, c.url+"/healthz"))
}

// After SIGTERM /healthz says 503, and nobody enters. Whoever is in talks on
// until the notice is over, and the operations go on. A second signal stops at
// once.
func TestDrain(t *testing.T) {
	c := quiet(t, "-drain-notice", "1h")
	ann, code := connect(t, c.url, join(t, c.url, demoRoom, "ann"))
	require.Equal(t, http.StatusSwitchingProtocols, code)
	unused := join(t, c.url, demoRoom, "bob")
	c.signals <- syscall.SIGTERM
	require.Eventually(t, func() bool { return !healthy(c.url) }, hang, time.Millisecond)
	_, code = connect(t, c.url, unused)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.NotEmpty(t, join(t, c.url, demoRoom, "bob"))
	say(t, ann, `{"Action":"SEND_MESSAGE","Content":"still here"}`)
	assert.Contains(t, hear(t, ann), "still here")
	c.hangups <- syscall.SIGHUP
	c.signals <- syscall.SIGTERM
	require.NoError(t, c.await(t))
}

func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		signal os.Signal
		args   []string
	}{
		"drained":   {syscall.SIGTERM, []string{"-drain-notice", "1ms", "-drain-over", "1ms"}},
		"interrupt": {os.Interrupt, []string{"-drain-notice", "1h", "-drain-over", "1h"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := quiet(t, test.args...)
			conn, code := connect(t, c.url, join(t, c.url, demoRoom, "ann"))
			require.Equal(t, http.StatusSwitchingProtocols, code)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					if _, _, err := conn.Read(t.Context()); err != nil {
						return
					}
				}
			}()
			c.signals <- test.signal
			require.NoError(t, c.await(t))
			<-ended
		})
	}
}

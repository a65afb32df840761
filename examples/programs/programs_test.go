// Package programs_test runs the small examples as their users do: as processes
// that share two files.
package programs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/scanner"
	gotoken "go/token"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// programs are the small examples.
var programs = []string{"gateway-coder", "gateway-gorilla", "gateway-sse", "issuer"}

// Each program can be read in a minute.
func TestLines(t *testing.T) {
	for _, name := range programs {
		source, err := os.ReadFile(filepath.Join("..", name, "main.go"))
		require.NoError(t, err)
		assert.LessOrEqual(t, lines(source), 60, name)
	}
	assert.Equal(t, 5, lines([]byte("package p // one\n\nimport (\n\t\"fmt\"\n)\n\n/* none */\nfunc f() {\n\tfmt.Println(`\n`)\n}\n")))
}

// lines counts lines of code: no comments, no imports, no empty lines.
func lines(source []byte) int {
	files := gotoken.NewFileSet()
	file := files.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	counted := map[int]bool{}
	for imports := false; ; {
		pos, tok, text := s.Scan()
		switch {
		case tok == gotoken.EOF:
			return len(counted)
		case tok == gotoken.IMPORT:
			imports = true
		case imports:
			imports = tok != gotoken.RPAREN
		case tok != gotoken.SEMICOLON || text == ";":
			counted[file.Line(pos)] = true
		}
	}
}

// build builds packages or files and returns the directory of the programs.
func build(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	args = append([]string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}, args...)
	out, err := exec.Command("go", args...).CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// host is a directory with the programs' files.
func host(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kek"), []byte(kek.InsecureText()+"\n"), 0o600))
	users := `{"alice": {"password": "secret", "rooms": ["lobby"], "capabilities": ["SEND_MESSAGE"]}}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users.json"), []byte(users), 0o600))
	// With little skew between the clocks of one host, a gateway is ready
	// soon.
	config := keyring.Config{Policy: keyring.Policy{ClockSkew: time.Second}}
	_, err = keyring.File{Name: filepath.Join(dir, "keyring"), KEK: kek, Config: config}.Create(t.Context(), time.Now())
	require.NoError(t, err)
	return dir
}

// process is a running program.
type process struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{}
	out   bytes.Buffer
}

// start starts a program at an address on loopback.
func start(t testing.TB, program, dir, address string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program), url: "http://" + address, ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), "LISTEN="+address)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	gatewaytest.DieWithParent(p.cmd)
	require.NoError(t, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), p.out.String())
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// wait waits until the program lets users in.
func (p *process) wait(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
}

// freeAddress returns an address where nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// ask asks the issuer for a token.
func ask(t testing.TB, issuer *process) string {
	t.Helper()
	var answer struct{ Token string }
	require.Eventually(t, func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer.url+"/token", strings.NewReader(`{"room": "lobby"}`))
		require.NoError(t, err)
		r.SetBasicAuth("alice", "secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&answer) == nil && answer.Token != ""
	}, time.Minute, 10*time.Millisecond)
	return answer.Token
}

// From the issuer through a gateway's whole life, and the one after it was
// killed.
func TestProcesses(t *testing.T) {
	bin := build(t, "../gateway-coder", "../gateway-gorilla", "../gateway-sse", "../issuer")
	dir := host(t)
	issuer := start(t, filepath.Join(bin, "issuer"), dir, freeAddress(t))
	for _, test := range []struct {
		name string
		dial gatewaytest.Dial
	}{{"gateway-coder", gatewaytest.Gorilla}, {"gateway-gorilla", gatewaytest.Coder}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := freeAddress(t)
			enter := func(p *process, text string) gatewaytest.Conn {
				t.Helper()
				conn, status := test.dial(t, p.url+"/chat/lobby", nil, text)
				require.Equal(t, http.StatusSwitchingProtocols, status)
				require.Equal(t, "hello", conn.Say(t, "hello"))
				return conn
			}
			refused := func(p *process, text string, wantStatus, wantCode int) {
				t.Helper()
				conn, status := test.dial(t, p.url+"/chat/lobby", nil, text)
				if status == http.StatusSwitchingProtocols {
					code, _ := conn.End(t)
					require.Equal(t, wantCode, code)
					return
				}
				require.Equal(t, wantStatus, status)
			}

			first := start(t, filepath.Join(bin, test.name), dir, address)
			first.wait(t)
			spent, unspent := ask(t, issuer), ask(t, issuer)
			conn := enter(first, spent)
			refused(first, spent, 401, 4401)
			first.kill()
			code, _ := conn.End(t)
			require.Equal(t, 1006, code, "the connection breaks")

			second := start(t, filepath.Join(bin, test.name), dir, address)
			second.wait(t)
			refused(second, spent, 503, 1013)
			refused(second, unspent, 503, 1013) // nobody knows whether it was spent
			conn = enter(second, ask(t, issuer))
			require.NoError(t, second.cmd.Process.Signal(syscall.SIGTERM))
			require.Eventually(t, func() bool {
				resp, err := http.Get(second.url + "/health")
				require.NoError(t, err)
				resp.Body.Close()
				return resp.StatusCode == http.StatusServiceUnavailable
			}, time.Minute, 10*time.Millisecond)
			refused(second, ask(t, issuer), 503, 1012)
			code, reason := conn.End(t)
			require.Equal(t, 1012, code)
			require.Equal(t, "draining", reason)
			<-second.ended
			require.Zero(t, second.cmd.ProcessState.ExitCode())
		})
	}
	t.Run("gateway-sse", func(t *testing.T) {
		t.Parallel()
		p := start(t, filepath.Join(bin, "gateway-sse"), dir, freeAddress(t))
		p.wait(t)
		listen := func() *http.Response {
			resp, err := http.Get(fmt.Sprintf("%s/events/lobby?token=%s", p.url, ask(t, issuer)))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			t.Cleanup(func() { resp.Body.Close() })
			return resp
		}
		drained := listen()
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		text, err := io.ReadAll(drained.Body)
		require.NoError(t, err)
		require.Contains(t, string(text), "event: end\ndata: {\"code\":1012,\"reason\":\"draining\"}\n")
		<-p.ended
		require.Zero(t, p.cmd.ProcessState.ExitCode())

		p = start(t, filepath.Join(bin, "gateway-sse"), dir, freeAddress(t))
		p.wait(t)
		killed := listen()
		p.kill()
		_, err = io.ReadAll(killed.Body)
		require.Error(t, err, "the stream breaks, and the EventSource asks again")
	})
}

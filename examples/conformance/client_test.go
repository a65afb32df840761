package conformance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The programs are Debian's own. Others that are earlier on PATH are of another
// version, or do not see the modules that Debian's packages install.
const (
	awsCommand = "/usr/bin/aws"
	python3    = "/usr/bin/python3"
	chromium   = "/usr/bin/chromium"
)

// skipShort keeps the clients that take long to start out of short runs, which
// are of other builds of the server: it is the same to them.
func skipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("a slow client, or a long wait, in a short run")
	}
}

// skip skips the test because something is not installed. With
// CHATTOKEN_REQUIRE=1, as in CI, it fails instead.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

func needFile(t testing.TB, name, debianPackage string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		skip(t, name+" is missing: install "+debianPackage)
	}
}

func needAWS(t testing.TB) {
	t.Helper()
	skipShort(t)
	needFile(t, awsCommand, "awscli")
}

func needBoto3(t testing.TB) {
	t.Helper()
	if err := exec.Command(python3, "-I", "-c", "import boto3").Run(); err != nil {
		skip(t, python3+" does not have boto3: install python3-boto3")
	}
}

// needNode skips the test unless there is node, and all of package.json in
// exactly the version that it names.
func needNode(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		skip(t, "node is not installed")
	}
	var want struct{ Dependencies map[string]string }
	readJSON(t, "package.json", &want)
	require.NotEmpty(t, want.Dependencies)
	for name, version := range want.Dependencies {
		file := filepath.Join("node_modules", filepath.FromSlash(name), "package.json")
		if _, err := os.Stat(file); err != nil {
			skip(t, "the packages of Node are missing: run npm ci in examples/conformance")
		}
		var got struct{ Version string }
		readJSON(t, file, &got)
		require.Equal(t, version, got.Version, "%s: run npm ci in examples/conformance", name)
	}
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

// script is a client at work. It reads lines of JSON and writes lines of JSON,
// and ends when its input does.
type script struct {
	requests *json.Encoder
	lines    chan []byte // closed when it has ended
}

// startScript runs a command until the test ends. Nothing of the tests' own
// environment is seen by it: no proxy, no profile, no credentials but the
// demo's.
func startScript(t testing.TB, name string, args ...string) *script {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment(t, keyAllowed)
	cmd.Stderr = t.Output()
	dieWithParent(cmd)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &script{json.NewEncoder(stdin), make(chan []byte, 1)}
	go s.read(ctx, stdout)
	t.Cleanup(func() {
		stdin.Close()
		cancel()
		for range s.lines {
		}
		cmd.Wait()
	})
	return s
}

func (s *script) read(ctx context.Context, stdout io.Reader) {
	defer close(s.lines)
	in := bufio.NewScanner(stdout)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		select {
		case s.lines <- append([]byte(nil), in.Bytes()...):
		case <-ctx.Done():
			return
		}
	}
}

// environment is that of the clients, with the credentials of an access key.
func environment(t testing.TB, keyID string) []string {
	return []string{
		"PATH=/usr/bin:/bin",
		"HOME=" + newDir(t), // no ~/.aws
		"TMPDIR=" + newDir(t),
		"LANG=C.UTF-8",
		"AWS_ACCESS_KEY_ID=" + keyID,
		"AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_DEFAULT_REGION=us-west-2",
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=",
	}
}

// newDir makes a directory that is there until all tests have ended. Of a
// browser, processes may still write into it when a test's own would be
// removed, which fails the test.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(work, "client")
	require.NoError(t, err)
	return dir
}

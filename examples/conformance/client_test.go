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

// The programs are Debian's own. Others on PATH may have another version, or
// not see the modules of Debian's packages.
const (
	awsCommand = "/usr/bin/aws"
	python3    = "/usr/bin/python3"
	chromium   = "/usr/bin/chromium"
)

// skipShort keeps clients that start slowly out of short runs. Those test other
// builds of the server, which look the same to clients.
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

// needNode skips the test without node, or without exactly the versions of
// package.json.
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

// script is a running client. It reads and writes lines of JSON, and ends when
// its input does.
type script struct {
	requests *json.Encoder
	lines    chan []byte // closed when it has ended
}

// startScript runs a command until the test ends. The command sees nothing of
// the tests' environment: no proxy, no profile, only the demo's credentials.
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

// environment is the clients' environment, with the credentials of an access
// key.
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

// newDir makes a directory for as long as all tests. A browser's processes may
// outlive their test and write into its t.TempDir, whose removal would then
// fail the test.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(work, "client")
	require.NoError(t, err)
	return dir
}

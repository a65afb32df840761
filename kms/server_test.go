package kms_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/kms"
)

// skip skips the test because something is missing. With
// CHATTOKEN_REQUIRE=1, as in CI, nothing may be missing: it fails instead.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// programs is where what the tests build goes.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "chattoken-kms"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(programs)
	os.Exit(status)
}

// build builds a main package.
func build(dir, name string, env ...string) (string, error) {
	name = filepath.Join(programs, name)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", name, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", dir, err, out)
	}
	return name, nil
}

var buildLocalKMS = sync.OnceValues(func() (string, error) {
	return build(filepath.Join("testdata", "localkms"), "localkms", "GOWORK=off")
})

// server is a key management service with AWS's API, on loopback, and what
// stands before it and may misbehave.
type server struct {
	front *httptest.Server
	fault atomic.Pointer[fault]
	asked atomic.Int64 // requests
}

// fault answers a request in place of the service, or reports false.
type fault func(w http.ResponseWriter, r *http.Request) bool

// start starts a server, and has AWS's client use it.
func start(t *testing.T) *server {
	t.Helper()
	name, err := buildLocalKMS()
	if err != nil {
		skip(t, err.Error())
	}
	cmd := exec.Command(name, t.TempDir())
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)

	s := &server{}
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: strings.TrimSpace(address)})
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if f := s.fault.Load(); f == nil || !(*f)(w, r) {
			behind.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.front.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.front.URL, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	return s
}

// misbehave has f answer from now on; nil ends that.
func (s *server) misbehave(f fault) {
	if f == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&f)
}

// call calls an operation of the service past what may misbehave.
func (s *server) call(t *testing.T, operation string, request, response any) (status int) {
	t.Helper()
	body, err := json.Marshal(request)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.front.URL, strings.NewReader(string(body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, response), "%s", text)
	return reply.StatusCode
}

// newKey makes a key and returns its URI.
func (s *server) newKey(t *testing.T) string {
	t.Helper()
	var made struct{ KeyMetadata struct{ Arn string } }
	require.Equal(t, http.StatusOK, s.call(t, "CreateKey", struct{}{}, &made))
	return "aws-kms://" + made.KeyMetadata.Arn
}

func open(t *testing.T, uri string) keyring.AEADKEK {
	t.Helper()
	kek, err := kms.Open(t.Context(), uri)
	require.NoError(t, err)
	return kek
}

// The faults.

func refuses(w http.ResponseWriter, _ *http.Request) bool {
	return awsError(w, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt")
}

func throttles(w http.ResponseWriter, _ *http.Request) bool {
	return awsError(w, "ThrottlingException", "Rate exceeded")
}

func awsError(w http.ResponseWriter, kind, message string) bool {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"__type":%q,"message":%q}`, kind, message)
	return true
}

func gone(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func hangs(_ http.ResponseWriter, r *http.Request) bool {
	io.Copy(io.Discard, r.Body) // else nobody notices that the client has left
	<-r.Context().Done()
	return true
}

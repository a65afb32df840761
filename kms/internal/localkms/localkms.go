// Package localkms starts a key management service with AWS's API for tests. It
// listens on loopback only, and can be made to misbehave.
package localkms

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
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// skip skips the test because something is missing. With CHATTOKEN_REQUIRE=1,
// as in CI, it fails the test instead.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// Server is a key management service with AWS's API, behind a proxy that can
// misbehave.
type Server struct {
	front *httptest.Server
	fault atomic.Pointer[Fault]
	asked atomic.Int64
}

// Fault answers a request in place of the service, or reports false.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Start starts a server, and configures AWS's client for it.
func Start(t *testing.T) *Server {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "run", ".", t.TempDir()) // cached build
	cmd.Dir, cmd.Env = filepath.Join(filepath.Dir(here), "testdata"), append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop := func() {
		stdin.Close() // which is its sign to end
		cmd.Wait()
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		skip(t, "Local KMS does not start: "+stderr.String())
	}
	t.Cleanup(stop)

	s := &Server{}
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

// Misbehave lets f answer from now on. Nil ends that.
func (s *Server) Misbehave(f Fault) {
	if f == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&f)
}

// Call calls an operation of the service, unsigned.
func (s *Server) Call(t *testing.T, operation string, request, response any) (status int) {
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

// NewKey makes a key and returns its URI.
func (s *Server) NewKey(t *testing.T) string {
	t.Helper()
	var made struct{ KeyMetadata struct{ Arn string } }
	require.Equal(t, http.StatusOK, s.Call(t, "CreateKey", struct{}{}, &made))
	return "aws-kms://" + made.KeyMetadata.Arn
}

// Asked returns how many requests there were.
func (s *Server) Asked() int64 { return s.asked.Load() }

// Close ends the service for good.
func (s *Server) Close() { s.front.Close() }

// Refuses is the [Fault] of missing permissions.
func Refuses(w http.ResponseWriter, _ *http.Request) bool {
	return awsError(w, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt")
}

// Throttles is the [Fault] of too many requests.
func Throttles(w http.ResponseWriter, _ *http.Request) bool {
	return awsError(w, "ThrottlingException", "Rate exceeded")
}

func awsError(w http.ResponseWriter, kind, message string) bool {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"__type":%q,"message":%q}`, kind, message)
	return true
}

// Gone is the [Fault] of a connection that breaks.
func Gone(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// Hangs is the [Fault] of an answer that never comes.
func Hangs(_ http.ResponseWriter, r *http.Request) bool {
	io.Copy(io.Discard, r.Body) // or the client's end goes unnoticed
	<-r.Context().Done()
	return true
}

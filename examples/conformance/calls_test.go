package conformance_test

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// call is one use of CreateChatToken.
type call struct {
	KeyID    string         `json:"keyID"`
	Secret   string         `json:"secret"`
	Unsigned bool           `json:"unsigned"`
	Request  map[string]any `json:"request"`
}

// outcome is what came of it, as a client shows it to a program.
type outcome struct {
	Token             string    `json:"token"`
	TokenExpiration   time.Time `json:"tokenExpirationTime"`
	SessionExpiration time.Time `json:"sessionExpirationTime"`

	Error        string  `json:"error"`
	Typed        bool    `json:"typed"` // a class of its own, which the service model has
	Status       int     `json:"status"`
	Message      string  `json:"message"`
	RequestID    string  `json:"requestID"`
	Reason       string  `json:"reason"`
	Fields       []field `json:"fieldList"`
	ResourceID   string  `json:"resourceId"`
	ResourceType string  `json:"resourceType"`
}

type field struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// names are those of the fields that were refused.
func (o outcome) names() (names []string) {
	for _, f := range o.Fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// request is a valid one with some members changed. One that is nil is left out.
func request(changes ...any) map[string]any {
	r := map[string]any{"roomIdentifier": room, "userId": "11231234"}
	for i := 0; i < len(changes); i += 2 {
		r[changes[i].(string)] = changes[i+1]
	}
	return r
}

// successes are requests that every client sends, and the session that they get.
var successes = []struct {
	name    string
	request map[string]any
	minutes int
}{
	{"documentation", request("capabilities", []string{"SEND_MESSAGE"}, "sessionDurationInMinutes", 30,
		"attributes", map[string]string{"displayName": "DemoUser"}), 30},
	{"least", request(), 60},
	{"empty", request("capabilities", []string{}, "attributes", map[string]string{}), 60},
	{"otherRoom", request("roomIdentifier", otherRoom), 60},
	{"most", request(
		"userId", strings.Repeat("\U0001F600", 128),
		"capabilities", []string{"SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"},
		"sessionDurationInMinutes", 180,
		"attributes", map[string]string{"displayName": "Zoë \u202e 名前 \U0001F600", "k": strings.Repeat("é", 494)}), 180},
}

// failures are the four errors of the service model, and those of the signature.
var failures = []struct {
	name   string
	call   call
	want   outcome
	fields []string
}{
	{"session", call{Request: request("sessionDurationInMinutes", 181)},
		outcome{Error: "ValidationException", Status: 400, Reason: "FIELD_VALIDATION_FAILED"},
		[]string{"sessionDurationInMinutes"}},
	{"everyField", call{Request: request(
		"roomIdentifier", "g1H2I3j4k5L6",
		"userId", strings.Repeat("é", 129),
		"capabilities", []string{"SEND_MESSAGE", "VIEW_MESSAGE"},
		"sessionDurationInMinutes", 1000,
		"attributes", map[string]string{"a": strings.Repeat("x", 1024)})},
		outcome{Error: "ValidationException", Status: 400, Reason: "FIELD_VALIDATION_FAILED"},
		[]string{"attributes", "capabilities", "roomIdentifier", "sessionDurationInMinutes", "userId"}},
	{"denied", call{KeyID: keyDenied, Request: request()},
		outcome{Error: "AccessDeniedException", Status: 403}, nil},
	{"pending", call{KeyID: keyPending, Request: request()},
		outcome{Error: "PendingVerification", Status: 403}, nil},
	{"noSuchRoom", call{Request: request("roomIdentifier", "arn:aws:ivschat:us-west-2:123456789012:room/NoSuchRoom12")},
		outcome{Error: "ResourceNotFoundException", Status: 404, ResourceID: "NoSuchRoom12", ResourceType: "ROOM"}, nil},
	// The documentation of the command line has lost a digit of the account.
	{"documentationsAccount", call{Request: request("roomIdentifier", "arn:aws:ivschat:us-west-2:12345689012:room/g1H2I3j4k5L6")},
		outcome{Error: "ResourceNotFoundException", Status: 404, ResourceID: "g1H2I3j4k5L6", ResourceType: "ROOM"}, nil},

	// No service model has the following.
	{"unsigned", call{Unsigned: true, Request: request()},
		outcome{Error: "MissingAuthenticationTokenException", Status: 403}, nil},
	{"unknownKey", call{KeyID: "AKIDUNKNOWN", Request: request()},
		outcome{Error: "UnrecognizedClientException", Status: 403}, nil},
	{"wrongSecret", call{Secret: "not the secret", Request: request()},
		outcome{Error: "InvalidSignatureException", Status: 403}, nil},
}

var modelled = []string{"ValidationException", "AccessDeniedException", "PendingVerification", "ResourceNotFoundException"}

// create is how a client makes a call.
type create func(t testing.TB, c call) outcome

func (c call) withDefaults() call {
	if c.KeyID == "" {
		c.KeyID = keyAllowed
	}
	if c.Secret == "" {
		c.Secret = secret
	}
	return c
}

// testCalls makes all calls by one client. A token is used, and used again.
func testCalls(t *testing.T, s *server, do create) {
	for _, test := range successes {
		t.Run(test.name, func(t *testing.T) {
			before := time.Now().Truncate(time.Second)
			got := do(t, call{Request: test.request}.withDefaults())
			require.Empty(t, got.Error, got.Message)
			assert.WithinRange(t, got.TokenExpiration, before.Add(time.Minute), time.Now().Add(time.Minute))
			session := time.Duration(test.minutes) * time.Minute
			assert.Equal(t, session-time.Minute, got.SessionExpiration.Sub(got.TokenExpiration))
			checkToken(t, s, got.Token, test.request)
		})
	}
	for _, test := range failures {
		t.Run(test.name, func(t *testing.T) {
			got := do(t, test.call.withDefaults())
			t.Logf("%s: %s %v", got.Error, got.Message, got.Fields)
			assert.NotEmpty(t, got.Message)
			assert.NotEmpty(t, got.RequestID)
			assert.Equal(t, test.fields, got.names())
			test.want.Typed = slices.Contains(modelled, test.want.Error)
			got.Message, got.RequestID, got.Fields = "", "", nil
			assert.Equal(t, test.want, got)
		})
	}
}

// TestBoto3 is CreateChatToken by boto3.
func TestBoto3(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	s := sharedServer(t)
	testCalls(t, s, startScript(t, python3, "-I", "-B", "boto3_client.py", s.url).create)
}

// TestJavaScriptSDK is CreateChatToken by the AWS SDK for JavaScript.
func TestJavaScriptSDK(t *testing.T) {
	t.Parallel()
	needNode(t)
	s := sharedServer(t)
	client := startScript(t, "node", "sdk.mjs", s.url)
	testCalls(t, s, client.create)

	// This client checks nothing: what is wrong goes to the server.
	for name, test := range map[string]struct {
		change []any
		fields []string
	}{
		"documentationsUserID": {[]any{"userId", 11231234}, []string{"userId"}},
		"emptyUserID":          {[]any{"userId", ""}, []string{"userId"}},
		"noUserID":             {[]any{"userId", nil}, []string{"userId"}},
		"noSession":            {[]any{"sessionDurationInMinutes", 0}, []string{"sessionDurationInMinutes"}},
		"numberAsAttribute":    {[]any{"attributes", map[string]any{"age": 30}}, []string{"attributes"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := client.create(t, call{Request: request(test.change...)}.withDefaults())
			assert.Equal(t, "ValidationException", got.Error)
			assert.True(t, got.Typed)
			assert.Equal(t, test.fields, got.names())
		})
	}
}

// create asks a script that answers each call with its outcome.
func (s *script) create(t testing.TB, c call) (o outcome) {
	t.Helper()
	require.NoError(t, s.requests.Encode(c))
	select {
	case line, ok := <-s.lines:
		require.True(t, ok, "the client has ended")
		require.NoError(t, json.Unmarshal(line, &o), string(line))
	case <-time.After(patience):
		require.Fail(t, "the client does not answer")
	}
	return o
}

// TestCommandLine is CreateChatToken by the aws command. Of an error it shows no
// more than code and message, so that the latter has to say what is wrong.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	needAWS(t)
	s := sharedServer(t)
	for _, test := range successes[:1] {
		t.Run(test.name, func(t *testing.T) {
			got := createByCommandLine(t, s, call{Request: test.request}.withDefaults())
			require.Empty(t, got.Error, got.Message)
			checkToken(t, s, got.Token, test.request)
		})
	}
	for _, test := range failures {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := createByCommandLine(t, s, test.call.withDefaults())
			assert.Equal(t, test.want.Error, got.Error)
			for _, name := range test.fields {
				assert.Contains(t, got.Message, name)
			}
		})
	}
}

var commandLineError = regexp.MustCompile(`^\s*An error occurred \((\w+)\) when calling the CreateChatToken operation: (.*)\s*$`)

func createByCommandLine(t testing.TB, s *server, c call) (o outcome) {
	t.Helper()
	input, err := json.Marshal(c.Request)
	require.NoError(t, err)
	args := []string{"--cli-input-json", string(input)}
	if c.Unsigned {
		args = append(args, "--no-sign-request")
	}
	stdout, stderr, status := runAWS(t, s, c, args...)
	if status == 0 {
		require.NoError(t, json.Unmarshal(stdout, &o), string(stdout))
		return o
	}
	assert.Equal(t, 254, status, "the status for an error of the service")
	m := commandLineError.FindStringSubmatch(stderr)
	require.NotNil(t, m, stderr)
	return outcome{Error: m[1], Message: m[2]}
}

func runAWS(t testing.TB, s *server, c call, args ...string) (stdout []byte, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), awsCommand,
		append([]string{"ivschat", "create-chat-token", "--endpoint-url", s.url}, args...)...)
	cmd.Env = append(environment(t, c.KeyID), "AWS_SECRET_ACCESS_KEY="+c.Secret)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdout, err := cmd.Output()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return stdout, complaints.String(), cmd.ProcessState.ExitCode()
}

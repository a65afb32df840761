package conformance_test

import (
	"cmp"
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

// call is a call of an operation; "" is CreateChatToken.
type call struct {
	Operation    string         `json:"operation"`
	KeyID        string         `json:"keyID"`
	Secret       string         `json:"secret"`
	SessionToken string         `json:"sessionToken"`
	Unsigned     bool           `json:"unsigned"`
	ClockOffset  int            `json:"clockOffset"` // milliseconds by which the client's clock is wrong
	Request      map[string]any `json:"request"`
}

// outcome is the result of a call, as a client shows it to a program.
type outcome struct {
	RequestID string          `json:"requestID"`
	Reply     json.RawMessage `json:"reply"`

	Error        string  `json:"error"`
	Typed        bool    `json:"typed"` // as a class of its own, from the service model
	Status       int     `json:"status"`
	Message      string  `json:"message"`
	Reason       string  `json:"reason"`
	Fields       []field `json:"fieldList"`
	ResourceID   string  `json:"resourceId"`
	ResourceType string  `json:"resourceType"`
	Limit        int     `json:"limit"`
}

type field struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// minted is the reply of CreateChatToken.
type minted struct {
	Token             string    `json:"token"`
	TokenExpiration   time.Time `json:"tokenExpirationTime"`
	SessionExpiration time.Time `json:"sessionExpirationTime"`
}

// replyOf is the reply of a call that succeeded.
func replyOf[T any](t testing.TB, o outcome) (reply T) {
	t.Helper()
	require.Empty(t, o.Error, o.Message)
	require.NoError(t, json.Unmarshal(o.Reply, &reply), string(o.Reply))
	return reply
}

// names are the names of the refused fields.
func (o outcome) names() (names []string) {
	for _, f := range o.Fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// request returns a valid request with some members changed. It leaves out
// those that are nil.
func request(changes ...any) map[string]any {
	r := map[string]any{"roomIdentifier": room, "userId": "11231234"}
	for i := 0; i < len(changes); i += 2 {
		r[changes[i].(string)] = changes[i+1]
	}
	return r
}

// successes are requests that every client sends, and the sessions they get.
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

// failures are the four errors of the service model, and the signature's.
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
	// The command line's documentation has an account with a digit missing.
	{"documentationsAccount", call{Request: request("roomIdentifier", "arn:aws:ivschat:us-west-2:12345689012:room/g1H2I3j4k5L6")},
		outcome{Error: "ResourceNotFoundException", Status: 404, ResourceID: "g1H2I3j4k5L6", ResourceType: "ROOM"}, nil},

	// The following are in no service model.
	{"unsigned", call{Unsigned: true, Request: request()},
		outcome{Error: "MissingAuthenticationTokenException", Status: 403}, nil},
	{"unknownKey", call{KeyID: "AKIDUNKNOWN", Request: request()},
		outcome{Error: "UnrecognizedClientException", Status: 403}, nil},
	{"wrongSecret", call{Secret: "not the secret", Request: request()},
		outcome{Error: "InvalidSignatureException", Status: 403}, nil},
	{"temporaryCredentials", call{SessionToken: "IQoJb3JpZ2luX2VjE", Request: request()},
		outcome{Error: "UnrecognizedClientException", Status: 403}, nil},
}

var modelled = []string{"ValidationException", "AccessDeniedException", "PendingVerification", "ResourceNotFoundException"}

// do makes a call with a client.
type do func(t testing.TB, c call) outcome

func (c call) withDefaults() call {
	if c.Operation == "" {
		c.Operation = "CreateChatToken"
	}
	if c.KeyID == "" {
		c.KeyID = keyAllowed
	}
	if c.Secret == "" {
		c.Secret = secret
	}
	return c
}

// testCalls makes all calls with one client. It uses a token twice.
func testCalls(t *testing.T, s *server, do do) {
	for _, test := range successes {
		t.Run(test.name, func(t *testing.T) {
			before := time.Now().Truncate(time.Second)
			got := replyOf[minted](t, do(t, call{Request: test.request}.withDefaults()))
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
	testCalls(t, s, startClient(t, python3, "-I", "-B", "boto3_client.py", s.url).do)
}

// TestJavaScriptSDK is CreateChatToken by the AWS SDK for JavaScript.
func TestJavaScriptSDK(t *testing.T) {
	t.Parallel()
	needNode(t)
	s := sharedServer(t)
	client := startClient(t, "node", "sdk.mjs", s.url)
	testCalls(t, s, client.do)

	// This client learns the time from the error, and tries again.
	t.Run("clock", func(t *testing.T) {
		got := client.do(t, call{ClockOffset: 600_000, Request: request()}.withDefaults())
		assert.NotEmpty(t, replyOf[minted](t, got).Token)
	})

	// This client checks nothing, so the server gets the errors.
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
			got := client.do(t, call{Request: request(test.change...)}.withDefaults())
			assert.Equal(t, "ValidationException", got.Error)
			assert.True(t, got.Typed)
			assert.Equal(t, test.fields, got.names())
		})
	}
}

// startClient starts a script that names itself, and then answers each call
// with its outcome.
func startClient(t testing.TB, name string, args ...string) *script {
	t.Helper()
	s := startScript(t, name, args...)
	var who string
	s.next(t, &who)
	t.Log(who)
	return s
}

func (s *script) next(t testing.TB, v any) {
	t.Helper()
	select {
	case line, ok := <-s.lines:
		require.True(t, ok, "the client has ended")
		require.NoError(t, json.Unmarshal(line, v), string(line))
	case <-time.After(patience):
		require.Fail(t, "the client does not answer")
	}
}

func (s *script) do(t testing.TB, c call) (o outcome) {
	t.Helper()
	require.NoError(t, s.requests.Encode(c))
	s.next(t, &o)
	return o
}

// TestCommandLine is CreateChatToken by the aws command. It shows only an
// error's code and message, so the message must say what is wrong.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	needAWS(t)
	version, err := exec.Command(awsCommand, "--version").Output()
	require.NoError(t, err)
	t.Logf("%s", version)
	s := sharedServer(t)
	for _, test := range successes[:1] {
		t.Run(test.name, func(t *testing.T) {
			got := replyOf[minted](t, s.commandLine(t, call{Request: test.request}.withDefaults()))
			checkToken(t, s, got.Token, test.request)
		})
	}
	for _, test := range failures {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := s.commandLine(t, test.call.withDefaults())
			assert.Equal(t, test.want.Error, got.Error)
			for _, name := range test.fields {
				assert.Contains(t, got.Message, name)
			}
		})
	}
}

var commandLineError = regexp.MustCompile(`^\s*An error occurred \((\w+)\) when calling the \w+ operation(?: \(reached max retries: 0\))?: (.*)\s*$`)

// commandLine makes a call by the aws command.
func (s *server) commandLine(t testing.TB, c call) outcome {
	t.Helper()
	input, err := json.Marshal(c.Request)
	require.NoError(t, err)
	args := []string{"ivschat", kebab(c.Operation), "--endpoint-url", s.url, "--cli-input-json", string(input)}
	if c.Unsigned {
		args = append(args, "--no-sign-request")
	}
	cmd := exec.CommandContext(t.Context(), awsCommand, args...)
	cmd.Env = append(environment(t, c.KeyID), "AWS_SECRET_ACCESS_KEY="+c.Secret, "AWS_MAX_ATTEMPTS=1")
	if c.SessionToken != "" {
		cmd.Env = append(cmd.Env, "AWS_SESSION_TOKEN="+c.SessionToken)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdout, err := cmd.Output()
	if err == nil {
		return outcome{Reply: json.RawMessage(cmp.Or(string(stdout), "{}"))} // it prints nothing for an empty object
	}
	require.NotNil(t, cmd.ProcessState, "%v", err)
	assert.Equal(t, 254, cmd.ProcessState.ExitCode(), "the status for an error of the service")
	m := commandLineError.FindStringSubmatch(complaints.String())
	require.NotNil(t, m, complaints.String())
	return outcome{Error: m[1], Message: m[2]}
}

var words = regexp.MustCompile(`[a-z][A-Z]`)

// kebab is the aws command's name of an operation.
func kebab(operation string) string {
	return strings.ToLower(words.ReplaceAllStringFunc(operation, func(s string) string { return s[:1] + "-" + s[1:] }))
}

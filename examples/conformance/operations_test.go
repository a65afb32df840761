package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/smithy-go"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	noRoom  = "arn:aws:ivschat:us-west-2:123456789012:room/NoSuchRoom12"
	logging = "arn:aws:ivschat:us-west-2:123456789012:logging-configuration/NoSuchConf12"
)

// object is a JSON object.
type object = map[string]any

// operations has a valid request of each operation, and a member that makes it
// invalid without the client's noticing. Its errors are the possible ones of
// the service model, without ValidationException and AccessDeniedException,
// which all have.
var operations = []struct {
	name    string
	valid   object
	room    string // the member that names it
	invalid object
	errors  []string
}{
	{"CreateChatToken", object{"userId": "ann"}, "roomIdentifier", object{"sessionDurationInMinutes": 181},
		[]string{"PendingVerification", "ResourceNotFoundException"}},
	{"CreateRoom", object{}, "", object{"maximumMessageLength": 501},
		[]string{"PendingVerification", "ResourceNotFoundException", "ServiceQuotaExceededException"}},
	{"DeleteMessage", object{"id": "AYk6xKitV4On"}, "roomIdentifier", object{"id": "AYk6xKitV4On-"},
		[]string{"PendingVerification", "ResourceNotFoundException", "ThrottlingException"}},
	{"DisconnectUser", object{"userId": "ann"}, "roomIdentifier", object{"reason": strings.Repeat("x", 257)},
		[]string{"PendingVerification", "ResourceNotFoundException", "ThrottlingException"}},
	{"GetRoom", object{}, "identifier", object{"identifier": "g1H2I3j4k5L6"},
		[]string{"ResourceNotFoundException"}},
	{"ListRooms", object{}, "", object{"maxResults": 51},
		[]string{"ResourceNotFoundException"}},
	{"SendEvent", object{"eventName": "x"}, "roomIdentifier", object{"eventName": strings.Repeat("x", 101)},
		[]string{"PendingVerification", "ResourceNotFoundException", "ThrottlingException"}},
	{"UpdateRoom", object{}, "identifier", object{"name": "a b"},
		[]string{"PendingVerification", "ResourceNotFoundException"}},
	{"DeleteRoom", object{}, "identifier", object{"identifier": "g1H2I3j4k5L6"},
		[]string{"PendingVerification", "ResourceNotFoundException"}},
}

// with returns a request with some members changed.
func with(request object, changes ...object) object {
	r := maps.Clone(request)
	for _, c := range changes {
		maps.Copy(r, c)
	}
	return r
}

// roomReply is a room as a client shows it.
type roomReply struct {
	ARN, ID, Name          string
	CreateTime, UpdateTime time.Time
	Length                 int `json:"maximumMessageLength"`
	Rate                   int `json:"maximumMessageRatePerSecond"`
	Tags                   map[string]string
}

// testRooms tests the life of a room, and what a backend does in it.
func testRooms(t *testing.T, s *server, do do) {
	ask := func(operation string, request object) outcome {
		t.Helper()
		return do(t, call{Operation: operation, Request: request}.withDefaults())
	}
	before := time.Now().Truncate(time.Second)
	made := replyOf[roomReply](t, ask("CreateRoom", object{"name": "tea-room", "maximumMessageLength": 140,
		"maximumMessageRatePerSecond": 100, "tags": object{"team": "Zoë"}}))
	assert.WithinRange(t, made.CreateTime, before, time.Now())
	assert.Equal(t, made.CreateTime, made.UpdateTime)
	assert.Len(t, made.ID, 12)
	assert.Equal(t, "arn:aws:ivschat:us-west-2:123456789012:room/"+made.ID, made.ARN)
	assert.Equal(t, []any{"tea-room", 140, 100, map[string]string{"team": "Zoë"}}, []any{made.Name, made.Length, made.Rate, made.Tags})
	updated := replyOf[roomReply](t, ask("UpdateRoom", object{"identifier": made.ARN, "name": "bar"}))
	made.Name, made.UpdateTime = "bar", updated.UpdateTime
	assert.Equal(t, made, updated)
	assert.Equal(t, made, replyOf[roomReply](t, ask("GetRoom", object{"identifier": made.ARN})))

	type page struct {
		Rooms     []roomReply
		NextToken string
	}
	var listed []string
	request := object{"maxResults": 2}
	for range 2 { // the demo registry has two more
		p := replyOf[page](t, ask("ListRooms", request))
		for _, r := range p.Rooms {
			listed = append(listed, r.ARN)
		}
		request["nextToken"] = p.NextToken
	}
	assert.Empty(t, request["nextToken"])
	assert.ElementsMatch(t, []string{room, otherRoom, made.ARN}, listed)
	named := replyOf[page](t, ask("ListRooms", object{"name": "bar"}))
	require.Len(t, named.Rooms, 1)
	assert.Equal(t, made.Tags, named.Rooms[0].Tags)

	got := replyOf[minted](t, ask("CreateChatToken", object{"roomIdentifier": made.ARN, "userId": "ann"}))
	conn := connect(t, s, got.Token)
	type sent struct{ ID string }
	for operation, request := range map[string]object{
		"SendEvent":     {"eventName": "app:NEWS", "attributes": object{"k": "v"}},
		"DeleteMessage": {"id": "AYk6xKitV4On", "reason": "rude"},
	} {
		id := replyOf[sent](t, ask(operation, with(request, object{"roomIdentifier": made.ARN}))).ID
		assert.Len(t, id, 12)
		assert.Equal(t, id, nextEvent(t, conn))
	}
	assert.Empty(t, replyOf[object](t, ask("DisconnectUser", object{"roomIdentifier": made.ARN, "userId": "ann", "reason": "rude"})))
	nextEvent(t, conn)
	_, _, err := conn.Read(t.Context())
	assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))

	assert.Empty(t, replyOf[object](t, ask("DeleteRoom", object{"identifier": made.ARN})))
	assert.Equal(t, "ResourceNotFoundException", ask("GetRoom", object{"identifier": made.ARN}).Error)
}

// nextEvent returns the ID of the next frame, which is an event.
func nextEvent(t testing.TB, conn *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, data, err := conn.Read(ctx)
	require.NoError(t, err)
	var f struct{ Type, ID string }
	require.NoError(t, json.Unmarshal(data, &f))
	assert.Equal(t, "EVENT", f.Type)
	return f.ID
}

// testErrors provokes each of the model's errors of each operation.
func testErrors(t *testing.T, s *server, do do) {
	for _, o := range operations {
		for _, code := range append([]string{"ValidationException", "AccessDeniedException"}, o.errors...) {
			t.Run(o.name+"/"+code, func(t *testing.T) {
				c := call{Operation: o.name, Request: maps.Clone(o.valid)}
				if o.room != "" {
					c.Request[o.room] = room
				}
				want := outcome{Error: code, Typed: true}
				switch code {
				case "ValidationException":
					maps.Copy(c.Request, o.invalid)
					want.Status, want.Reason = 400, "FIELD_VALIDATION_FAILED"
				case "AccessDeniedException":
					c.KeyID, want.Status = keyDenied, 403
				case "PendingVerification":
					c.KeyID, want.Status = keyPending, 403
				case "ResourceNotFoundException":
					want.Status, want.ResourceID, want.ResourceType = 404, "NoSuchRoom12", "ROOM"
					switch o.name {
					case "CreateRoom":
						c.Request["loggingConfigurationIdentifiers"], want.ResourceID = []string{logging}, "NoSuchConf12"
					case "ListRooms":
						c.Request["loggingConfigurationIdentifier"], want.ResourceID = logging, "NoSuchConf12"
					default:
						c.Request[o.room] = noRoom
					}
				case "ThrottlingException":
					want.Status, want.ResourceID, want.ResourceType = 429, "g1H2I3j4k5L6", "ROOM"
					want.Limit = map[bool]int{true: 1, false: 100}[o.name == "DisconnectUser"]
					defer flood(t, s, c)()
				case "ServiceQuotaExceededException":
					want.Status, want.ResourceType, want.Limit = 402, "ROOM", 1000
					fill(t, s, c)
				}
				var got outcome
				require.Eventually(t, func() bool { // the flood may let one through
					got = do(t, c.withDefaults())
					return got.Error != "" || code != "ThrottlingException"
				}, patience, time.Microsecond)
				assert.NotEmpty(t, got.Message)
				assert.NotEmpty(t, got.RequestID)
				if code == "ValidationException" {
					assert.Equal(t, slices.Collect(maps.Keys(o.invalid)), got.names())
				}
				if code == "ServiceQuotaExceededException" {
					assert.NotEmpty(t, got.ResourceID)
					got.ResourceID = ""
				}
				got.Message, got.RequestID, got.Fields, got.Reply = "", "", nil, nil
				assert.Equal(t, want, got)
			})
		}
	}
}

// flood repeats a call as fast as it can, until somebody calls the function
// that it returns. It returns once a call was too much.
func flood(t testing.TB, s *server, c call) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	tooMany := make(chan struct{})
	var once sync.Once
	for range 4 {
		running.Go(func() {
			client := goClient(s, c.withDefaults())
			for ctx.Err() == nil {
				if err := invoke(ctx, client, c, nil); err != nil {
					once.Do(func() { close(tooMany) })
				}
			}
		})
	}
	select {
	case <-tooMany:
	case <-time.After(patience):
		require.Fail(t, "a flood is no flood")
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// fill makes a call until it fails.
func fill(t testing.TB, s *server, c call) {
	t.Helper()
	client := goClient(s, c.withDefaults())
	for range 2000 {
		if invoke(t.Context(), client, c, nil) != nil {
			return
		}
	}
	require.Fail(t, "there is no end")
}

// goClient is the Go SDK's client.
func goClient(s *server, c call) *ivschat.Client {
	o := ivschat.Options{
		BaseEndpoint: aws.String(s.url), Region: "us-west-2", RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.KeyID, SecretAccessKey: c.Secret, SessionToken: c.SessionToken}, nil
		}),
	}
	if c.Unsigned {
		o.Credentials = aws.AnonymousCredentials{}
	}
	return ivschat.New(o)
}

// invoke calls the method of an operation and hands its reply to then.
func invoke(ctx context.Context, client *ivschat.Client, c call, then func(any)) error {
	method := reflect.ValueOf(client).MethodByName(c.Operation)
	in := reflect.New(method.Type().In(1).Elem())
	data, err := json.Marshal(c.Request)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, in.Interface()); err != nil {
		return err
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(ctx), in})
	if err, _ := out[1].Interface().(error); err != nil {
		return err
	}
	if then != nil {
		then(out[0].Interface())
	}
	return nil
}

// callGo makes a call by the Go SDK.
func callGo(s *server) do {
	return func(t testing.TB, c call) (o outcome) {
		t.Helper()
		err := invoke(t.Context(), goClient(s, c), c, func(reply any) {
			data, err := json.Marshal(reply)
			require.NoError(t, err)
			var all object
			require.NoError(t, json.Unmarshal(data, &all))
			delete(all, "ResultMetadata")
			o.Reply, err = json.Marshal(all)
			require.NoError(t, err)
		})
		if err == nil {
			return o
		}
		return failure(t, err)
	}
}

// failure turns an error of the Go SDK into an outcome.
func failure(t testing.TB, err error) (o outcome) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	require.True(t, ok, "%v", err)
	data, jsonErr := json.Marshal(api)
	require.NoError(t, jsonErr)
	require.NoError(t, json.Unmarshal(data, &o))
	o.Error, o.Message = api.ErrorCode(), api.ErrorMessage()
	_, isGeneric := api.(*smithy.GenericAPIError)
	o.Typed = !isGeneric
	response, ok := errors.AsType[*awshttp.ResponseError](err)
	require.True(t, ok, "%v", err)
	o.Status, o.RequestID = response.HTTPStatusCode(), response.ServiceRequestID()
	return o
}

// TestGoSDK is every operation by the AWS SDK for Go.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	module, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	t.Logf("%s, %s", regexp.MustCompile(`\S+/service/ivschat v\S+`).Find(module), runtime.Version())
	s := startServer(t)
	testCalls(t, s, callGo(s))
	testRooms(t, s, callGo(s))
	testErrors(t, s, callGo(s))
}

// TestBoto3Operations is every operation by boto3.
func TestBoto3Operations(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	s := startServer(t)
	client := startClient(t, python3, "-I", "-B", "boto3_client.py", s.url)
	testRooms(t, s, client.do)
	testErrors(t, s, client.do)
}

// TestJavaScriptOperations is every operation by the AWS SDK for JavaScript.
func TestJavaScriptOperations(t *testing.T) {
	t.Parallel()
	needNode(t)
	s := startServer(t)
	client := startClient(t, "node", "sdk.mjs", s.url)
	testRooms(t, s, client.do)
	testErrors(t, s, client.do)
}

// TestCommandLineOperations is every operation by the aws command.
func TestCommandLineOperations(t *testing.T) {
	t.Parallel()
	needAWS(t)
	s := startServer(t)
	testRooms(t, s, s.commandLine)
}

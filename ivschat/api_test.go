package ivschat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkivschat "github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// sdk is the service's Go client, used as in an application.
func sdk(server *httptest.Server, key, secret string) *sdkivschat.Client {
	return sdkivschat.New(sdkivschat.Options{
		BaseEndpoint:     aws.String(server.URL),
		Region:           "us-west-2",
		RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, nil
		}),
	})
}

func serve(t *testing.T, config ivschat.Config) (*ivschat.Server, *httptest.Server) {
	t.Helper()
	server, err := ivschat.New(config)
	require.NoError(t, err)
	s := httptest.NewServer(server)
	t.Cleanup(func() {
		s.Close()
		assert.NoError(t, server.Shutdown(context.Background(), 0, 0))
	})
	return server, s
}

func TestSDK(t *testing.T) {
	server, s := serve(t, ivschat.Config{})
	began := time.Now().Truncate(time.Second)
	reply, err := sdk(s, accessKey, secretKey).CreateChatToken(t.Context(), &sdkivschat.CreateChatTokenInput{
		RoomIdentifier:           aws.String(lobby),
		UserId:                   aws.String("11231234 ü\U0001F600"),
		Capabilities:             []types.ChatTokenCapability{types.ChatTokenCapabilitySendMessage, types.ChatTokenCapabilityDeleteMessage},
		Attributes:               map[string]string{"displayName": "Demo \"User\""},
		SessionDurationInMinutes: aws.Int32(30),
	})
	require.NoError(t, err)
	assert.WithinRange(t, *reply.TokenExpirationTime, began.Add(time.Minute), time.Now().Add(time.Minute))
	assert.Equal(t, 29*time.Minute, reply.SessionExpirationTime.Sub(*reply.TokenExpirationTime))

	var session token.Session
	opener := token.Opener{Ring: server.Sealer().Ring}
	require.NoError(t, opener.OpenWithoutSpending(t.Context(), &session, *reply.Token))
	assert.Equal(t, claims.Claims{
		RoomIdentifier: lobby, UserID: "11231234 ü\U0001F600",
		Capabilities:   claims.SendMessage | claims.DeleteMessage,
		Attributes:     map[string]string{"displayName": "Demo \"User\""},
		SessionMinutes: 30,
	}, session.Claims())
}

// The four errors of the service model, as its client types them.
func TestSDKErrors(t *testing.T) {
	_, s := serve(t, ivschat.Config{})
	create := func(key string, in sdkivschat.CreateChatTokenInput) error {
		t.Helper()
		_, err := sdk(s, key, secretKey).CreateChatToken(t.Context(), &in)
		require.Error(t, err)
		return err
	}
	valid := sdkivschat.CreateChatTokenInput{RoomIdentifier: aws.String(lobby), UserId: aws.String("ann")}

	var denied *types.AccessDeniedException
	assert.ErrorAs(t, create("AKIDDENIED", valid), &denied)
	assert.NotEmpty(t, denied.ErrorMessage())

	var pending *types.PendingVerification
	assert.ErrorAs(t, create("AKIDPENDING", valid), &pending)

	elsewhere := valid
	elsewhere.RoomIdentifier = aws.String("arn:aws:ivschat:us-west-2:123456789012:room/nowhere1")
	var missing *types.ResourceNotFoundException
	require.ErrorAs(t, create(accessKey, elsewhere), &missing)
	assert.Equal(t, "nowhere1", aws.ToString(missing.ResourceId))
	assert.Equal(t, types.ResourceTypeRoom, missing.ResourceType)
	assert.ErrorAs(t, create("AKIDDENIED", elsewhere), &denied, "who is denied does not learn which rooms there are")

	var invalid *types.ValidationException
	require.ErrorAs(t, create(accessKey, sdkivschat.CreateChatTokenInput{
		RoomIdentifier:           aws.String("arn:aws:ivschat:us-west-2:1:room/"),
		UserId:                   aws.String(strings.Repeat("x", 129)),
		Capabilities:             []types.ChatTokenCapability{"SHOUT"},
		Attributes:               map[string]string{"a": strings.Repeat("x", 1024)},
		SessionDurationInMinutes: aws.Int32(181),
	}), &invalid)
	assert.Equal(t, types.ValidationExceptionReasonFieldValidationFailed, invalid.Reason)
	var names []string
	for _, f := range invalid.FieldList {
		names = append(names, aws.ToString(f.Name))
		assert.NotEmpty(t, aws.ToString(f.Message))
	}
	assert.Equal(t, []string{"roomIdentifier", "userId", "capabilities", "attributes", "sessionDurationInMinutes"}, names)

	// And one of every service.
	_, err := sdk(s, accessKey, "wrong").CreateChatToken(t.Context(), &valid)
	var apiError smithy.APIError
	require.ErrorAs(t, err, &apiError)
	assert.Equal(t, "InvalidSignatureException", apiError.ErrorCode())
}

// Any unknown path or method gets an error that the SDK can read.
func TestUnknownOperation(t *testing.T) {
	_, s := serve(t, ivschat.Config{})
	client := sdk(s, accessKey, secretKey)
	for name, do := range map[string]func() error{
		"POST": func() error {
			_, err := client.ListLoggingConfigurations(t.Context(), &sdkivschat.ListLoggingConfigurationsInput{})
			return err
		},
		"GET": func() error {
			_, err := client.ListTagsForResource(t.Context(), &sdkivschat.ListTagsForResourceInput{ResourceArn: aws.String(lobby)})
			return err
		},
		"POST tags": func() error {
			_, err := client.TagResource(t.Context(), &sdkivschat.TagResourceInput{ResourceArn: aws.String(lobby), Tags: map[string]string{}})
			return err
		},
		"DELETE": func() error {
			_, err := client.UntagResource(t.Context(), &sdkivschat.UntagResourceInput{ResourceArn: aws.String(lobby), TagKeys: []string{"k"}})
			return err
		},
	} {
		var invalid *types.ValidationException
		require.ErrorAs(t, do(), &invalid, name)
		assert.Equal(t, types.ValidationExceptionReasonUnknownOperation, invalid.Reason)
	}
	for _, test := range [][2]string{
		{"GET", "/CreateChatToken"}, {"PUT", "/CreateChatToken"}, {"POST", "/CreateChatToken/"}, {"POST", "//CreateChatToken"},
		{"POST", "/x/../CreateChatToken"}, {"POST", "/createchattoken"}, {"POST", "/"}, {"DELETE", "/"}, {"POST", "/healthz"},
		{"GET", "/join"}, {"GET", "/chat.js"}, {"GET", "/debug/vars"}, {"GET", "/a//b"}, {"PATCH", "/%2e%2e"}, {"HEAD", "/nothing"},
	} {
		r, err := http.NewRequest(test[0], s.URL, strings.NewReader("{}"))
		require.NoError(t, err)
		r.URL.Opaque = s.URL + test[1] // as it is
		resp, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode, test)
		assert.Equal(t, "ValidationException", resp.Header.Get("x-amzn-ErrorType"), test)
		assert.NotEmpty(t, resp.Header.Get("x-amzn-RequestId"), test)
		assert.Equal(t, "application/json", resp.Header.Get("Content-Type"), test)
		if test[0] != http.MethodHead {
			assert.Contains(t, string(body), `"reason":"UNKNOWN_OPERATION"`, test)
		}
	}
}

// The limits of each field, over HTTP: a token at the limit, an error that
// names the field one past it.
func TestFieldLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{AllowUnsigned: true})
		with := func(member string) string { return validBody[:len(validBody)-1] + "," + member + "}" }
		for _, test := range []struct{ body, field string }{
			{validBody, ""},
			{with(`"capabilities":[]`), ""},
			{with(`"capabilities":null,"attributes":null,"sessionDurationInMinutes":null`), ""},
			{with(`"sessionDurationInMinutes":1`), ""},
			{with(`"sessionDurationInMinutes":180`), ""},
			{with(`"sessionDurationInMinutes":0`), "sessionDurationInMinutes"},
			{with(`"sessionDurationInMinutes":181`), "sessionDurationInMinutes"},
			{with(`"sessionDurationInMinutes":1.5`), "sessionDurationInMinutes"},
			{with(`"sessionDurationInMinutes":"30"`), "sessionDurationInMinutes"},
			{with(`"attributes":{"a":"` + strings.Repeat("x", 1023) + `"}`), ""},
			{with(`"attributes":{"a":"` + strings.Repeat("x", 1024) + `"}`), "attributes"},
			{with(`"attributes":{"a":1}`), "attributes"},
			{with(`"attributes":{"":"x"}`), "attributes"},
			{with(`"capabilities":["send_message"]`), "capabilities"},
			{with(`"capabilities":"SEND_MESSAGE"`), "capabilities"},
			{with(`"UserId":"bob"`), "(unknown)"},
			{with(`"userId":"bob"`), "userId"},
			{`{"roomIdentifier":"` + lobby + `","userId":"` + strings.Repeat(astral, 128) + `"}`, ""},
			{`{"roomIdentifier":"` + lobby + `","userId":"` + strings.Repeat(astral, 129) + `"}`, "userId"},
			{`{"roomIdentifier":"` + lobby + `","userId":""}`, "userId"},
			{`{"roomIdentifier":"` + lobby + `","userId":1}`, "userId"},
			{`{"roomIdentifier":"` + lobby + `","userId":"\ud800"}`, "userId"},
			{`{"roomIdentifier":"g1H2I3j4k5L6","userId":"ann"}`, "roomIdentifier"},
			{`{"roomIdentifier":"` + lobby + `\n","userId":"ann"}`, "roomIdentifier"},
			{`{"userId":"ann"}`, "roomIdentifier"},
		} {
			resp, data := c.post("/CreateChatToken", []byte(test.body))
			if test.field == "" {
				assert.Equal(t, http.StatusOK, resp.StatusCode, test.body)
				continue
			}
			var e struct {
				Reason    string
				FieldList []struct{ Name, Message string }
			}
			require.NoError(t, json.Unmarshal(data, &e))
			assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
			assert.Equal(t, "ValidationException", resp.Header.Get("x-amzn-ErrorType"))
			assert.Equal(t, "FIELD_VALIDATION_FAILED", e.Reason)
			require.Len(t, e.FieldList, 1, test.body)
			assert.Equal(t, test.field, e.FieldList[0].Name)
		}
		for _, body := range []string{``, `null`, `[]`, `{`, validBody + validBody, "\xff"} {
			resp, data := c.post("/CreateChatToken", []byte(body))
			assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
			assert.Contains(t, string(data), `"reason":"OTHER"`)
		}
	})
}

func TestReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{AllowUnsigned: true})
		seen := map[string]bool{}
		for _, body := range []string{validBody, `{}`} {
			resp, data := c.post("/CreateChatToken", []byte(body))
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			assert.Equal(t, "no-store", resp.Header.Get("Cache-Control"), "it is a secret")
			id := resp.Header.Get("x-amzn-RequestId")
			assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
			assert.False(t, seen[id])
			seen[id] = true
			if body == `{}` {
				continue
			}
			var reply map[string]string
			require.NoError(t, json.Unmarshal(data, &reply))
			assert.Equal(t, "2000-01-01T00:01:00Z", reply["tokenExpirationTime"])
			assert.Equal(t, "2000-01-01T01:00:00Z", reply["sessionExpirationTime"])
			assert.Len(t, reply, 3)
		}
		assert.Equal(t, 1, c.vars().Minted)
		assert.Equal(t, map[string]int{"ValidationException": 1}, c.vars().Exceptions)
	})
}

func TestUnsigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, _ := start(t, ivschat.Config{}).post("/CreateChatToken", []byte(validBody))
		assert.Equal(t, http.StatusForbidden, resp.StatusCode)
		assert.Equal(t, "MissingAuthenticationTokenException", resp.Header.Get("x-amzn-ErrorType"))
	})
	// A signature is checked all the same.
	server, err := ivschat.New(ivschat.Config{AllowUnsigned: true})
	require.NoError(t, err)
	defer server.Shutdown(context.Background(), 0, 0)
	for _, test := range []struct {
		signing signing
		status  int
	}{{signing{}, 200}, {signing{key: "AKIDDENIED"}, 403}, {signing{secret: "wrong"}, 403}} {
		w := httptest.NewRecorder()
		test.signing.at = time.Now()
		server.ServeHTTP(w, test.signing.sign(t, validBody))
		assert.Equal(t, test.status, w.Code)
	}
	// Otherwise a visited page could delete rooms.
	r := httptest.NewRequest(http.MethodPost, "/CreateChatToken", strings.NewReader(validBody))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	assert.Equal(t, http.StatusForbidden, w.Code)
}

// A credential may be for some rooms only.
func TestCredentialOfARoom(t *testing.T) {
	registry := ivschat.Demo()
	registry.Credentials[0].Rooms = []string{other}
	_, s := serve(t, ivschat.Config{Registry: registry})
	registry.Credentials[0].Rooms[0] = lobby // the server has a copy
	client := sdk(s, accessKey, secretKey)
	_, err := client.CreateChatToken(t.Context(), &sdkivschat.CreateChatTokenInput{RoomIdentifier: aws.String(other), UserId: aws.String("ann")})
	assert.NoError(t, err)
	_, err = client.CreateChatToken(t.Context(), &sdkivschat.CreateChatTokenInput{RoomIdentifier: aws.String(lobby), UserId: aws.String("ann")})
	var denied *types.AccessDeniedException
	assert.ErrorAs(t, err, &denied)
}

// An empty list doesn't mean all rooms.
func TestCredentialOfNoRoom(t *testing.T) {
	registry, err := ivschat.ParseRegistry(fmt.Appendf(nil, `{"region":"us-west-2","rooms":[%q],
		"credentials":[{"accessKeyId":%q,"secretAccessKey":%q,"rooms":[]}]}`, lobby, accessKey, secretKey))
	require.NoError(t, err)
	_, s := serve(t, ivschat.Config{Registry: registry})
	_, err = sdk(s, accessKey, secretKey).CreateChatToken(t.Context(), &sdkivschat.CreateChatTokenInput{RoomIdentifier: aws.String(lobby), UserId: aws.String("ann")})
	var denied *types.AccessDeniedException
	assert.ErrorAs(t, err, &denied)
}

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Join: true})
		type joined struct {
			Token                 string
			SessionExpirationTime string
			TokenExpirationTime   *string
			Claims                claims.Claims
		}
		join := func(room string, moderator bool) (resp *http.Response, reply joined) {
			t.Helper()
			resp, data := c.post("/join", fmt.Appendf(nil, `{"room":%q,"userId":"ann","displayName":"Ann","moderator":%v}`, room, moderator))
			if resp.StatusCode == http.StatusOK {
				require.NoError(t, json.Unmarshal(data, &reply))
			}
			return resp, reply
		}
		for _, room := range []string{lobby, "g1H2I3j4k5L6"} {
			resp, reply := join(room, false)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Nil(t, reply.TokenExpirationTime, "the client is not told")
			assert.Equal(t, time.Now().Add(time.Hour).UTC().Format(time.RFC3339), reply.SessionExpirationTime)
			assert.Equal(t, claims.Claims{RoomIdentifier: lobby, UserID: "ann", Capabilities: claims.SendMessage,
				Attributes: map[string]string{"displayName": "Ann"}}, reply.Claims)
			ann, _, refused := c.try(reply.Token, nil)
			require.Empty(t, refused)
			ann.say("hello")
			f := ann.next()
			assert.Equal(t, map[string]string{"displayName": "Ann"}, f.Sender.Attributes)
			ann.send(map[string]string{"Action": "DELETE_MESSAGE", "Id": f.ID})
			assert.Equal(t, 403, ann.next().ErrorCode)
		}
		_, reply := join(lobby, true)
		mod, _, _ := c.try(reply.Token, nil)
		mod.send(map[string]string{"Action": "DELETE_MESSAGE", "Id": "abcdefABCD01"})
		assert.Equal(t, "EVENT", mod.next().Type)

		resp, _ := join("nowhere", false)
		assert.Equal(t, "ValidationException", resp.Header.Get("x-amzn-ErrorType"))
		resp, _ = join(lobby+"x", false)
		assert.Equal(t, "ResourceNotFoundException", resp.Header.Get("x-amzn-ErrorType"))
		resp, _ = c.post("/join", []byte(`{"room":1}`))
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode)

		_, rooms := c.get("/join")
		assert.JSONEq(t, `{"rooms":[{"id":"g1H2I3j4k5L6","name":"","maximumMessageLength":500},
			{"id":"B2b2B2b2B2b2","name":"","maximumMessageLength":500}]}`, string(rooms))
	})
}

// Another site must not make a visitor's browser join.
func TestJoinFromAnotherSite(t *testing.T) {
	_, s := serve(t, ivschat.Config{Join: true})
	r, err := http.NewRequest(http.MethodPost, s.URL+"/join", strings.NewReader(`{"room":"g1H2I3j4k5L6","userId":"ann"}`))
	require.NoError(t, err)
	r.Header.Set("Origin", "https://evil.example.com")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
}

func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Join: true})
		for path, contentType := range map[string]string{"/": "text/html", "/chat.js": "text/javascript", "/connection.js": "text/javascript", "/style.css": "text/css"} {
			resp, body := c.get(path)
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Contains(t, resp.Header.Get("Content-Type"), contentType)
			assert.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
			assert.NotEmpty(t, body)
		}
		for path, status := range map[string]int{"/nothing": 400, "/page/chat.js": 400, "/debug/vars": 400, "/healthz": 200} {
			resp, _ := c.get(path)
			assert.Equal(t, status, resp.StatusCode, path)
		}

		c = start(t, ivschat.Config{Vars: true})
		resp, counted := c.get("/debug/vars")
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Contains(t, string(counted), `"chattoken":{"minted":0`)
		resp, _ = c.get("/")
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
		assert.Empty(t, resp.Header.Get("x-amzn-ErrorType"), "it is the gateway's path")
		resp, body := c.post("/join", []byte(`{"room":"g1H2I3j4k5L6","userId":"ann"}`))
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
		assert.Contains(t, string(body), "UNKNOWN_OPERATION")
	})
}

// A foreign Origin is usually a mistake in the settings, so the log has what
// came and what it expected.
func TestForeignOriginIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := start(t, ivschat.Config{Origins: []string{"https://app.example.com"}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		_, resp, body := c.try(c.mint(user("ann", 0)), http.Header{"Origin": {"https://evil.example.com"}})
		assert.Equal(t, http.StatusForbidden, resp.StatusCode)
		assert.NotContains(t, body, "example.com")
		assert.Contains(t, log.String(), "level=WARN")
		assert.Contains(t, log.String(), "evil.example.com")
		assert.Contains(t, log.String(), "app.example.com")
	})
}

func TestConfigErrors(t *testing.T) {
	for name, config := range map[string]ivschat.Config{
		"token TTL too long":  {TokenTTL: time.Hour},
		"token TTL too short": {TokenTTL: time.Second},
		"guard's limits":      {TokenTTL: 2 * time.Minute, Guard: tokentest.New(t).Guard},
		"negative rate":       {MessageRate: -1},
		"rate out of range":   {MessageRate: 10_001},
		"origin of no page":   {Origins: []string{"https://chat.example.com/"}},
		"origin of any page":  {Origins: []string{"*"}},
		"origin, no scheme":   {Origins: []string{"chat.example.com"}},
		"negative limit":      {MaxConnections: -1},
		"no region":           {Registry: ivschat.Registry{Rooms: []string{lobby}}},
		"no ARN":              {Registry: ivschat.Registry{Region: "r", Rooms: []string{"room"}}},
	} {
		_, err := ivschat.New(config)
		assert.Error(t, err, name)
	}
}

func TestRegistryIsNotPrinted(t *testing.T) {
	for _, verb := range strings.Split("v +v #v s q x d", " ") {
		text := fmt.Sprintf("%"+verb, ivschat.Config{Registry: ivschat.Demo()})
		assert.NotContains(t, text, secretKey)
		assert.NotContains(t, text, fmt.Sprintf("%x", secretKey))
	}
}

func TestParseRegistry(t *testing.T) {
	demo, err := json.Marshal(ivschat.Demo())
	require.NoError(t, err)
	got, err := ivschat.ParseRegistry(demo)
	require.NoError(t, err)
	assert.Equal(t, ivschat.Demo(), got)
	for name, change := range map[string][2]string{
		"unknown member": {`"region"`, `"zone":1,"region"`},
		"misspelt":       {`"access":"deny"`, `"acces":"deny"`},
		"unknown access": {`"access":"deny"`, `"access":"denied"`},
		"no secret":      {`"secretAccessKey":"wJalr`, `"secretAccessKey":"","note":"`},
		"twice":          {"AKIDDENIED", "AKIDEXAMPLE"},
		"key with slash": {"AKIDDENIED", "AKID/DENIED"},
		"no ARN":         {"arn:aws:ivschat", "arn:aws:ivs"},
		"an ID twice":    {`"rooms":[`, `"rooms":["arn:aws:ivschat:us-west-2:210987654321:room/g1H2I3j4k5L6",`},
		"two values":     {"{", "{}{"},
		"two members":    {`"access":"deny"`, `"access":"deny","access":"allow"`},
		"other letters":  {`"access":"deny"`, `"Access":"deny"`},
		"null for none":  {`"access":"deny"`, `"access":"deny","rooms":null`},
	} {
		_, err := ivschat.ParseRegistry([]byte(strings.Replace(string(demo), change[0], change[1], 1)))
		assert.Error(t, err, name)
	}
	_, err = ivschat.ParseRegistry([]byte(`{"region":"r","rooms":[]}`))
	assert.Error(t, err)
}

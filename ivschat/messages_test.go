package ivschat_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

// quoted is s as JSON.
func quoted(s string) string {
	data, _ := json.Marshal(s)
	return string(data)
}

const astral = "\U0001F600" // four bytes, one code point, two UTF-16 code units

func TestRequests(t *testing.T) {
	const send = `{"Action":"SEND_MESSAGE","RequestId":"r","Content":`
	const del = `{"Action":"DELETE_MESSAGE","RequestId":"r","Id":`
	const dis = `{"Action":"DISCONNECT_USER","RequestId":"r","UserId":`
	escaped := func(n int) string { return `"` + strings.Repeat(`\ud83d\ude00`, n) + `"` }
	for name, test := range map[string]struct {
		text string
		code int    // 0 is success
		id   string // of the request, in the reply
	}{
		"empty":            {``, 400, ""},
		"not JSON":         {`{`, 400, ""},
		"two values":       {`{} {}`, 400, ""},
		"null":             {`null`, 400, ""},
		"an array":         {`[]`, 400, ""},
		"a string":         {`"SEND_MESSAGE"`, 400, ""},
		"a number":         {`1`, 400, ""},
		"invalid UTF-8":    {send + "\"\xff\"}", 400, ""},
		"deep":             {strings.Repeat(`{"Attributes":`, 1000) + "1" + strings.Repeat("}", 1000), 400, ""},
		"no action":        {`{"RequestId":"r"}`, 400, "r"},
		"another action":   {`{"RequestId":"r","Action":"SHOUT"}`, 400, "r"},
		"in lower case":    {`{"RequestId":"r","Action":"send_message","Content":"x"}`, 400, "r"},
		"action is null":   {`{"RequestId":"r","Action":null}`, 400, "r"},
		"action is number": {`{"RequestId":"r","Action":1}`, 400, "r"},
		"long request ID":  {`{"Action":"SEND_MESSAGE","Content":"x","RequestId":` + quoted(strings.Repeat("r", 129)) + `}`, 400, ""},
		"request ID":       {`{"Action":"SEND_MESSAGE","Content":"x","RequestId":` + quoted(strings.Repeat("r", 128)) + `}`, 0, strings.Repeat("r", 128)},
		"no request ID":    {`{"Action":"SEND_MESSAGE","Content":"x"}`, 0, ""},

		"message":              {send + `"x"}`, 0, "r"},
		"other members":        {send + `"x","Id":"","UserId":"","More":[]}`, 0, "r"},
		"no content":           {`{"Action":"SEND_MESSAGE","RequestId":"r"}`, 400, "r"},
		"content is empty":     {send + `""}`, 400, "r"},
		"content is null":      {send + `null}`, 400, "r"},
		"content is a number":  {send + `1}`, 400, "r"},
		"content is an object": {send + `{}}`, 400, "r"},
		"longest content":      {send + quoted(strings.Repeat(astral, 500)) + `}`, 0, "r"},
		"escaped content":      {send + escaped(500) + `}`, 0, "r"},
		"too long content":     {send + quoted(strings.Repeat("x", 501)) + `}`, 400, "r"},

		"attributes":              {send + `"x","Attributes":{"a":"b"}}`, 0, "r"},
		"no attributes":           {send + `"x","Attributes":{}}`, 0, "r"},
		"attributes are null":     {send + `"x","Attributes":null}`, 0, "r"},
		"attributes at limit":     {send + `"x","Attributes":{"a":` + quoted(strings.Repeat("x", 1023)) + `}}`, 0, "r"},
		"too many attributes":     {send + `"x","Attributes":{"a":` + quoted(strings.Repeat("x", 1024)) + `}}`, 400, "r"},
		"attribute is null":       {send + `"x","Attributes":{"a":null}}`, 400, "r"},
		"attribute is a number":   {send + `"x","Attributes":{"a":1}}`, 400, "r"},
		"attributes are an array": {send + `"x","Attributes":["a"]}`, 400, "r"},

		"delete":            {del + `"abcdefABCD01"}`, 0, "r"},
		"no ID":             {`{"Action":"DELETE_MESSAGE","RequestId":"r"}`, 400, "r"},
		"short ID":          {del + `"abcdefABCD0"}`, 400, "r"},
		"long ID":           {del + `"abcdefABCD012"}`, 400, "r"},
		"other ID":          {del + `"abcdefABCD0-"}`, 400, "r"},
		"ID is a number":    {del + `1}`, 400, "r"},
		"longest reason":    {del + `"abcdefABCD01","Reason":` + quoted(strings.Repeat(astral, 256)) + `}`, 0, "r"},
		"too long reason":   {del + `"abcdefABCD01","Reason":` + quoted(strings.Repeat("x", 257)) + `}`, 400, "r"},
		"empty reason":      {del + `"abcdefABCD01","Reason":""}`, 400, "r"},
		"reason is null":    {del + `"abcdefABCD01","Reason":null}`, 0, "r"},
		"reason is boolean": {del + `"abcdefABCD01","Reason":true}`, 400, "r"},

		"disconnect":            {dis + `"nobody"}`, 0, "r"},
		"with reason":           {dis + `"nobody","Reason":"spam"}`, 0, "r"},
		"no user":               {`{"Action":"DISCONNECT_USER","RequestId":"r"}`, 400, "r"},
		"user is empty":         {dis + `""}`, 400, "r"},
		"longest user":          {dis + quoted(strings.Repeat(astral, 128)) + `}`, 0, "r"},
		"too long user":         {dis + quoted(strings.Repeat("x", 129)) + `}`, 400, "r"},
		"user is an array":      {dis + `[]}`, 400, "r"},
		"disconnect, no reason": {dis + `"nobody","Reason":""}`, 400, "r"},

		"renew, no token":    {`{"Action":"chattoken:RENEW","RequestId":"r"}`, 400, "r"},
		"token is empty":     {`{"Action":"chattoken:RENEW","RequestId":"r","Token":""}`, 400, "r"},
		"token is a number":  {`{"Action":"chattoken:RENEW","RequestId":"r","Token":1}`, 400, "r"},
		"token of no server": {`{"Action":"chattoken:RENEW","RequestId":"r","Token":"x"}`, 403, "r"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, ivschat.Config{})
				ann := c.enter(user("ann", everything))
				ann.sendText([]byte(test.text))
				f := ann.next()
				assert.Equal(t, test.code, f.ErrorCode, f.ErrorMessage)
				assert.Equal(t, test.code != 0, f.Type == "ERROR")
				assert.Equal(t, test.id, f.RequestID)
				ann.say("still here")
				assert.Equal(t, "still here", ann.next().Content)
			})
		})
	}
}

// A room's settings hold for messages from the moment of the change.
func TestRoomSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{AllowUnsigned: true})
		ann, bob := c.enter(user("ann", everything)), c.enter(user("bob", everything))
		say := func(p *peer, text string) int {
			id := rand.Text()
			p.send(map[string]string{"Action": "SEND_MESSAGE", "RequestId": id, "Content": text})
			for {
				if f := p.next(); f.RequestID == id {
					return f.ErrorCode
				}
			}
		}
		update := func(length, rate int) {
			resp, body := c.post("/UpdateRoom", fmt.Appendf(nil,
				`{"identifier":%q,"maximumMessageLength":%d,"maximumMessageRatePerSecond":%d}`, lobby, length, rate))
			require.Equal(t, 200, resp.StatusCode, string(body))
		}
		assert.Equal(t, 0, say(ann, strings.Repeat(astral, 500)))
		update(3, 4)
		assert.Equal(t, 0, say(ann, astral+astral+astral))
		assert.Equal(t, 400, say(ann, "four"))
		for _, p := range []*peer{bob, ann, bob} {
			assert.Equal(t, 0, say(p, "x"))
		}
		assert.Equal(t, 429, say(ann, "x"), "all together")
		assert.Equal(t, 429, say(bob, "x"))
		time.Sleep(250 * time.Millisecond)
		assert.Equal(t, 0, say(bob, "x"))
		assert.Equal(t, 429, say(ann, "x"))
		update(4, 5)
		assert.Equal(t, 0, say(ann, "four"))
		bob.send(map[string]string{"Action": "DELETE_MESSAGE", "RequestId": "r", "Id": "abcdefABCD01"})
		for f := bob.next(); f.RequestID != "r"; f = bob.next() {
			assert.Equal(t, "MESSAGE", f.Type)
		}
		require.NoError(t, c.SetRegistry(ivschat.Registry{Region: "us-west-2", Rooms: []string{other}}))
		assert.Equal(t, 0, say(ann, "the room is not in the registry, and who is in goes on"))
	})
}

// A message can't say who sent it.
func TestSenderIsTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		claim := user("ann", everything)
		claim.Attributes["note"] = `<b>"&'` + astral
		ann := c.enter(claim)
		ann.sendText([]byte(`{"Action":"SEND_MESSAGE","Content":"x","UserId":"bob","Sender":{"UserId":"bob"},"Attributes":{"displayName":"Bob"}}`))
		f := ann.next()
		assert.Equal(t, "ann", f.Sender.UserID)
		assert.Equal(t, claim.Attributes, f.Sender.Attributes)
		assert.Equal(t, map[string]string{"displayName": "Bob"}, f.Attributes)
	})
}

// FuzzRequest looks for a message outside the limits that the parser takes, or
// one that makes it panic.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `{"Action":1}`,
		`{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x","Attributes":{"a":"b"}}`,
		`{"Action":"DELETE_MESSAGE","RequestId":"r","Id":"abcdefABCD01","Reason":"x"}`,
		`{"Action":"DISCONNECT_USER","RequestId":"r","UserId":"x","Reason":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := ivschat.ParseRequest(data)
		assert.LessOrEqual(t, len(q.RequestID), 128)
		if err != nil {
			return
		}
		assert.LessOrEqual(t, len(data), ivschat.MaxFrame)
		assert.True(t, utf8.Valid(data))
		assert.True(t, json.Valid(data))
		switch q.Action {
		case "SEND_MESSAGE":
			assertLength(t, *q.Content, 500)
			size := 0
			for key, value := range q.Attributes {
				size += len(key) + len(*value)
			}
			assert.LessOrEqual(t, size, 1024)
			return
		case "DELETE_MESSAGE":
			assert.Regexp(t, `^[a-zA-Z0-9]{12}$`, *q.ID)
		case "DISCONNECT_USER":
			assertLength(t, *q.UserID, 128)
		default:
			assert.Fail(t, "an action that there is not")
		}
		if q.Reason != nil {
			assertLength(t, *q.Reason, 256)
		}
	})
}

func assertLength(t *testing.T, s string, limit int) {
	t.Helper()
	assert.NotEmpty(t, s)
	assert.LessOrEqual(t, utf8.RuneCountInString(s), limit)
}

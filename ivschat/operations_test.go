package ivschat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
)

// roomReply is a room as the API shows it.
type roomReply struct {
	ARN, ID, Name          string
	CreateTime, UpdateTime time.Time
	MaximumMessageLength   int
	MessageRate            int `json:"maximumMessageRatePerSecond"`
	Tags                   map[string]string
}

// failure is an error of the API.
type failure struct {
	Code                     string
	Status                   int
	Message, Reason          string
	ResourceID, ResourceType string
	Limit                    int
	FieldList                []struct{ Name string }
}

// call calls an operation by a key of the demo registry, and reads the reply
// into out, which may be nil.
func call(t testing.TB, server http.Handler, key, operation string, in, out any) failure {
	t.Helper()
	body, err := json.Marshal(in)
	require.NoError(t, err)
	r := signing{key: key, operation: operation, at: time.Now()}.sign(t, string(body))
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	assert.NotEmpty(t, w.Header().Get("x-amzn-RequestId"))
	if w.Code >= 400 {
		f := failure{Code: w.Header().Get("x-amzn-ErrorType"), Status: w.Code}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
		return f
	}
	if w.Code == http.StatusNoContent {
		assert.Empty(t, w.Body.String())
	} else {
		require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
	}
	if out != nil {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), out))
	}
	return failure{Status: w.Code}
}

// do is a call with the key that may do everything. It must succeed.
func do[Out any](t testing.TB, server http.Handler, operation string, in any) (out Out) {
	t.Helper()
	f := call(t, server, accessKey, operation, in, &out)
	require.Empty(t, f.Code, "%s: %s", operation, f.Message)
	return out
}

func TestRoomLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		began := time.Now().UTC()
		room := do[roomReply](t, c, "CreateRoom", members{"name": "tea-room_1", "maximumMessageLength": 7,
			"maximumMessageRatePerSecond": 100, "tags": members{"team": "Zoë"}})
		assert.Regexp(t, regexp.MustCompile(`^[a-zA-Z0-9]{12}$`), room.ID)
		assert.Equal(t, roomReply{
			ARN: "arn:aws:ivschat:us-west-2:123456789012:room/" + room.ID, ID: room.ID, Name: "tea-room_1",
			CreateTime: began, UpdateTime: began, MaximumMessageLength: 7, MessageRate: 100, Tags: map[string]string{"team": "Zoë"},
		}, room)
		assert.Equal(t, room, do[roomReply](t, c, "GetRoom", members{"identifier": room.ARN}))

		time.Sleep(time.Minute)
		updated := do[roomReply](t, c, "UpdateRoom", members{"identifier": room.ARN, "name": ""})
		room.Name, room.UpdateTime = "", began.Add(time.Minute)
		assert.Equal(t, room, updated, "what the request does not have stays")
		updated = do[roomReply](t, c, "UpdateRoom", members{"identifier": room.ARN, "maximumMessageLength": 500, "maximumMessageRatePerSecond": 1})
		assert.Equal(t, []int{500, 1}, []int{updated.MaximumMessageLength, updated.MessageRate})
		assert.Equal(t, updated, do[roomReply](t, c, "GetRoom", members{"identifier": room.ARN}))

		// The defaults, and a room of the registry.
		for _, room := range []roomReply{do[roomReply](t, c, "CreateRoom", members{}), do[roomReply](t, c, "GetRoom", members{"identifier": lobby})} {
			assert.Equal(t, []int{500, 10}, []int{room.MaximumMessageLength, room.MessageRate})
			assert.NotNil(t, room.Tags)
		}

		// One user is in, another has a token. The deletion ends both.
		ann := c.enter(claims.Claims{RoomIdentifier: room.ARN, UserID: "ann"})
		elsewhere := c.enter(user("ann", 0))
		unused := do[struct{ Token string }](t, c, "CreateChatToken", members{"roomIdentifier": room.ARN, "userId": "ann"}).Token
		assert.Equal(t, http.StatusNoContent, call(t, c, accessKey, "DeleteRoom", members{"identifier": room.ARN}, nil).Status)
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
		_, resp, _ := c.try(unused, nil)
		require.NotNil(t, resp)
		assert.Equal(t, http.StatusForbidden, resp.StatusCode)
		_, resp, _ = c.try(c.mint(claims.Claims{RoomIdentifier: room.ARN, UserID: "ann"}), nil)
		require.NotNil(t, resp, "nor is one that another host may mint")
		for operation, in := range map[string]members{
			"GetRoom": {"identifier": room.ARN}, "UpdateRoom": {"identifier": room.ARN}, "DeleteRoom": {"identifier": room.ARN},
			"CreateChatToken": {"roomIdentifier": room.ARN, "userId": "ann"},
		} {
			f := call(t, c, accessKey, operation, in, nil)
			assert.Equal(t, failure{Code: "ResourceNotFoundException", Status: 404, Message: "the room does not exist",
				ResourceID: room.ID, ResourceType: "ROOM"}, f, operation)
		}
		assert.NotContains(t, c.vars().Rooms, room.ID)
		do[sentReply](t, c, "SendEvent", members{"roomIdentifier": lobby, "eventName": "on"})
		assert.Equal(t, "on", elsewhere.next().EventName)
	})
}

// Rooms that come and go don't use up the guard's revocations. If they did,
// everybody would be revoked.
func TestManyRoomsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann := c.enter(user("ann", claims.SendMessage))
		before := c.vars().Guard.Revocations.Entries
		for range 10 {
			room := do[roomReply](t, c, "CreateRoom", members{})
			bob := c.enter(claims.Claims{RoomIdentifier: room.ARN, UserID: "bob"})
			call(t, c, accessKey, "DeleteRoom", members{"identifier": room.ARN}, nil)
			assert.Equal(t, websocket.StatusPolicyViolation, bob.closed())
			assert.ErrorContains(t, bob.err, "room deleted")
		}
		assert.Equal(t, before, c.vars().Guard.Revocations.Entries)
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
	})
}

// A user admitted before a room's deletion doesn't stay in it.
func TestRoomDeletedWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t)
		c := start(t, ivschat.Config{Guard: g})
		room := do[roomReply](t, c, "CreateRoom", members{})
		g.entered, g.proceed = make(chan struct{}), make(chan struct{})
		opened := c.entering(claims.Claims{RoomIdentifier: room.ARN, UserID: "ann"})
		<-g.entered
		call(t, c, accessKey, "DeleteRoom", members{"identifier": room.ARN}, nil)
		close(g.proceed)
		ann := <-opened
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
		synctest.Wait()
		assert.Zero(t, c.Live())
		assert.NotContains(t, c.vars().Rooms, room.ID)
	})
}

type sentReply struct{ ID string }

// A backend does what a moderator does. Only the RequestId differs.
func TestBackendModeration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		ann, bob := c.enter(user("ann", 0)), c.enter(user("bob", 0))
		unused := c.mint(user("ann", 0))

		id := do[sentReply](t, c, "SendEvent", members{"roomIdentifier": lobby, "eventName": "app:NEWS", "attributes": members{"a": "b"}}).ID
		for _, p := range []*peer{ann, bob} {
			f := p.next()
			assert.Equal(t, []string{"EVENT", "app:NEWS", id, ""}, []string{f.Type, f.EventName, f.ID, f.RequestID})
			assert.Equal(t, map[string]string{"a": "b"}, f.Attributes)
		}

		id = do[sentReply](t, c, "DeleteMessage", members{"roomIdentifier": lobby, "id": "AYk6xKitV4On", "reason": "rude"}).ID
		for _, p := range []*peer{ann, bob} {
			f := p.next()
			assert.Equal(t, []string{"aws:DELETE_MESSAGE", id}, []string{f.EventName, f.ID})
			assert.Equal(t, map[string]string{"MessageID": "AYk6xKitV4On", "MessageId": "AYk6xKitV4On", "Reason": "rude"}, f.Attributes)
		}

		assert.Empty(t, do[members](t, c, "DisconnectUser", members{"roomIdentifier": lobby, "userId": "ann", "reason": "rude"}))
		f := bob.next()
		assert.Equal(t, "aws:DISCONNECT_USER", f.EventName)
		assert.Equal(t, map[string]string{"UserId": "ann", "Reason": "rude"}, f.Attributes)
		assert.Equal(t, "aws:DISCONNECT_USER", ann.next().EventName)
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
		_, resp, _ := c.try(unused, nil)
		require.NotNil(t, resp, "a token that was minted before is of no use")

		// Nobody of that name is in, but there may be tokens to revoke.
		do[members](t, c, "DisconnectUser", members{"roomIdentifier": lobby, "userId": "nobody"})
		assert.Equal(t, map[string]string{"UserId": "nobody"}, bob.next().Attributes)
	})
}

// DeleteRoom and DisconnectUser end connections on other hosts, too.
func TestBackendOnAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{}
		keys := newShared(t)
		host := func() *chat { return keys.start(t, ivschat.Config{Guard: net.newMember(t)}) }
		here, there := host(), host()
		time.Sleep(10 * time.Second)
		ann, bob := there.enter(user("ann", 0)), there.enter(user("bob", 0))
		do[members](t, here, "DisconnectUser", members{"roomIdentifier": lobby, "userId": "ann"})
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
		call(t, here, accessKey, "DeleteRoom", members{"identifier": lobby}, nil)
		assert.Equal(t, websocket.StatusPolicyViolation, bob.closed())
	})
}

// Other hosts hear of it even if the backend goes away first.
func TestBackendGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{delay: time.Second}
		c := start(t, ivschat.Config{Guard: net.newMember(t)})
		body := `{"roomIdentifier":"` + lobby + `","userId":"ann"}`
		r := signing{operation: "DisconnectUser", at: time.Now()}.sign(t, body)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r.WithContext(ctx))
		assert.Equal(t, http.StatusOK, w.Code)
	})
}

func TestRoomQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		var last roomReply
		for range ivschat.MaxRooms - len(ivschat.Demo().Rooms) {
			last = do[roomReply](t, c, "CreateRoom", members{})
		}
		f := call(t, c, accessKey, "CreateRoom", members{}, nil)
		assert.Equal(t, []any{"ServiceQuotaExceededException", 402, ivschat.MaxRooms, "ROOM"}, []any{f.Code, f.Status, f.Limit, f.ResourceType})
		assert.NotEmpty(t, f.ResourceID)
		call(t, c, accessKey, "DeleteRoom", members{"identifier": last.ARN}, nil)
		do[roomReply](t, c, "CreateRoom", members{})
	})
}

type page struct {
	Rooms     []roomReply
	NextToken string
}

func TestListRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		const named = 7
		for i := range 60 {
			name := ""
			if i < named {
				name = "named"
			}
			do[roomReply](t, c, "CreateRoom", members{"name": name})
		}
		// list returns the ARNs on each page. Between two, between is
		// called.
		list := func(in members, between func([]string)) (pages [][]string) {
			t.Helper()
			for {
				p := do[page](t, c, "ListRooms", in)
				var arns []string
				for _, room := range p.Rooms {
					arns = append(arns, room.ARN)
					assert.Equal(t, room.ID, room.ARN[len(room.ARN)-12:])
					assert.NotZero(t, room.CreateTime)
					assert.Zero(t, room.MaximumMessageLength, "the summary does not have it")
				}
				pages = append(pages, arns)
				if p.NextToken == "" {
					return pages
				}
				in["nextToken"] = p.NextToken
				between(arns)
			}
		}
		nothing := func([]string) {}
		sizes := func(pages [][]string) (n []int) {
			for _, p := range pages {
				n = append(n, len(p))
			}
			return n
		}
		all := slices.Concat(list(members{}, nothing)...)
		assert.Len(t, all, 62)
		assert.Len(t, slices.Compact(slices.Clone(all)), 62, "each once")
		assert.Equal(t, []int{50, 12}, sizes(list(members{}, nothing)))
		assert.Equal(t, []int{31, 31}, sizes(list(members{"maxResults": 31}, nothing)), "no page is empty at the end")
		assert.Equal(t, []int{3, 3, 1}, sizes(list(members{"maxResults": 3, "name": "named"}, nothing)))
		assert.Equal(t, []int{0}, sizes(list(members{"name": "nobody"}, nothing)))
		assert.Equal(t, []int{0}, sizes(list(members{"messageReviewHandlerUri": lambda}, nothing)))
		f := call(t, c, accessKey, "ListRooms", members{"loggingConfigurationIdentifier": logging}, nil)
		assert.Equal(t, "ResourceNotFoundException", f.Code)

		// Rooms come and go between the pages, even the last of a page.
		// Each that stays is on one page.
		var gone []string
		seen := slices.Concat(list(members{"maxResults": 10}, func(arns []string) {
			last := arns[len(arns)-1]
			call(t, c, accessKey, "DeleteRoom", members{"identifier": last}, nil)
			gone = append(gone, last)
			do[roomReply](t, c, "CreateRoom", members{})
		})...)
		for _, arn := range all {
			count := 0
			for _, a := range seen {
				if a == arn {
					count++
				}
			}
			if !slices.Contains(gone, arn) {
				assert.Equal(t, 1, count, arn)
			}
		}
	})
}

// TestAccess tests who may do what.
func TestAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := ivschat.Demo()
		registry.Credentials = append(registry.Credentials,
			ivschat.Credential{AccessKeyID: "AKIDLOBBY", SecretAccessKey: secretKey, Rooms: []string{lobby}},
			ivschat.Credential{AccessKeyID: "AKIDNOWHERE", SecretAccessKey: secretKey, Rooms: []string{}})
		c := start(t, ivschat.Config{Registry: registry})
		const denied, pending = "AccessDeniedException", "PendingVerification"
		for _, operation := range ivschat.Operations() {
			in := leasts[operation]
			ofAll := len(in) == 0 // it is about all rooms
			want := map[string]string{"AKIDDENIED": denied, "AKIDPENDING": pending, "AKIDNOWHERE": denied, "AKIDLOBBY": ""}
			if operation == "GetRoom" || operation == "ListRooms" {
				want["AKIDPENDING"] = "" // the model does not have it there
			}
			if ofAll {
				want["AKIDLOBBY"] = denied
			}
			if operation == "DeleteRoom" {
				delete(want, "AKIDLOBBY")
			}
			for key, code := range want {
				assert.Equal(t, code, call(t, c, key, operation, in, nil).Code, "%s by %s", operation, key)
			}
			if ofAll {
				continue
			}
			nowhere := members{}
			for name, value := range in {
				nowhere[name] = value
				if value == lobby {
					nowhere[name] = lobby + "x"
				}
			}
			assert.Equal(t, "ResourceNotFoundException", call(t, c, accessKey, operation, nowhere, nil).Code, operation)
			assert.Equal(t, denied, call(t, c, "AKIDLOBBY", operation, nowhere, nil).Code, "%s tells who may not know", operation)
			assert.Equal(t, denied, call(t, c, "AKIDDENIED", operation, nowhere, nil).Code, operation)
		}
	})
}

func TestLoggingConfigurations(t *testing.T) {
	server := fixedServer(t, time.Now())
	for operation, in := range map[string]members{
		"CreateRoom": {"loggingConfigurationIdentifiers": []string{logging}},
		"UpdateRoom": {"loggingConfigurationIdentifiers": []string{logging}, "identifier": lobby},
	} {
		f := call(t, server, accessKey, operation, in, nil)
		assert.Equal(t, []any{"ResourceNotFoundException", 404, "g1H2I3j4k5L6"}, []any{f.Code, f.Status, f.ResourceID}, operation)
	}
}

func TestThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		for operation, limits := range map[string]struct{ burst, rate int }{
			"SendEvent":      {100, 100},
			"DeleteMessage":  {100, 100},
			"DisconnectUser": {ivschat.DisconnectBurst, ivschat.DisconnectRate},
		} {
			for range limits.burst {
				do[members](t, c, operation, leasts[operation])
			}
			assert.Equal(t, failure{Code: "ThrottlingException", Status: 429, Message: fmt.Sprintf("more than %d a second", limits.rate),
				ResourceID: lobby[len(lobby)-12:], ResourceType: "ROOM", Limit: limits.rate},
				call(t, c, accessKey, operation, leasts[operation], nil))
			time.Sleep(time.Second)
			do[members](t, c, operation, leasts[operation])
		}
	})
}

func TestSetRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		other := ivschat.Demo().Rooms[1]
		made := do[roomReply](t, c, "CreateRoom", members{})
		lobbyBefore := do[roomReply](t, c, "UpdateRoom", members{"identifier": lobby, "name": "renamed"})
		ann, bob := c.enter(user("ann", claims.SendMessage)), c.enter(claims.Claims{RoomIdentifier: other, UserID: "bob", Capabilities: claims.SendMessage})

		// The other room is gone, one is new, and the key is another
		// one.
		const third = "arn:aws:ivschat:us-west-2:123456789012:room/C3c3C3c3C3c3"
		registry := ivschat.Registry{Region: "us-west-2", Rooms: []string{lobby, third},
			Credentials: []ivschat.Credential{{AccessKeyID: "AKIDNEW", SecretAccessKey: secretKey}}}
		require.NoError(t, c.SetRegistry(registry))
		assert.Equal(t, "UnrecognizedClientException", call(t, c, accessKey, "ListRooms", members{}, nil).Code)
		var list page
		call(t, c, "AKIDNEW", "ListRooms", members{}, &list)
		var arns []string
		for _, room := range list.Rooms {
			arns = append(arns, room.ARN)
		}
		want := []string{lobby, third, made.ARN}
		slices.Sort(want)
		assert.Equal(t, want, arns)
		var room roomReply
		call(t, c, "AKIDNEW", "GetRoom", members{"identifier": lobby}, &room)
		assert.Equal(t, lobbyBefore, room)

		// Nobody is dropped, and nobody enters a room that is gone.
		for _, p := range []*peer{ann, bob} {
			p.say("still here")
			assert.Equal(t, "still here", p.next().Content)
		}
		_, resp, _ := c.try(c.mint(claims.Claims{RoomIdentifier: other, UserID: "cid"}), nil)
		require.NotNil(t, resp)
		assert.Equal(t, http.StatusForbidden, resp.StatusCode)

		// An invalid registry changes nothing.
		require.Error(t, c.SetRegistry(ivschat.Registry{Region: "us-west-2"}))
		require.Error(t, c.SetRegistry(ivschat.Registry{Region: "us-west-2", Rooms: []string{"x"}}))
		assert.Equal(t, 200, call(t, c, "AKIDNEW", "ListRooms", members{}, nil).Status)

		// A deleted room is back.
		call(t, c, "AKIDNEW", "DeleteRoom", members{"identifier": lobby}, nil)
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
		require.NoError(t, c.SetRegistry(ivschat.Demo()))
		time.Sleep(2 * time.Second) // tokens up to the clock's error after the deletion are refused
		c.enter(user("ann", 0))
	})
}

// Rooms and registries come and go while requests are answered.
func TestSetRegistryRace(t *testing.T) {
	server := fixedServer(t, time.Now())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 50 {
				room := do[roomReply](t, server, "CreateRoom", members{})
				do[roomReply](t, server, "UpdateRoom", members{"identifier": room.ARN, "name": strings.Repeat("x", 9)})
				call(t, server, accessKey, "DeleteRoom", members{"identifier": room.ARN}, nil)
			}
		})
		running.Go(func() {
			for range 50 {
				assert.NoError(t, server.SetRegistry(ivschat.Demo()))
			}
		})
	}
	running.Wait()
	assert.Len(t, do[page](t, server, "ListRooms", members{}).Rooms, len(ivschat.Demo().Rooms))
}

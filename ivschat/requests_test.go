package ivschat_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

const (
	logging = "arn:aws:ivschat:us-west-2:123456789012:logging-configuration/g1H2I3j4k5L6"
	lambda  = "arn:aws:lambda:us-west-2:123456789012:function:review"
)

// members are the members of a request.
type members map[string]any

// leasts are the smallest valid requests, by operation.
var leasts = map[string]members{
	"CreateChatToken": {"roomIdentifier": lobby, "userId": "ann"},
	"CreateRoom":      {},
	"DeleteMessage":   {"roomIdentifier": lobby, "id": "AYk6xKitV4On"},
	"DeleteRoom":      {"identifier": lobby},
	"DisconnectUser":  {"roomIdentifier": lobby, "userId": "ann"},
	"GetRoom":         {"identifier": lobby},
	"ListRooms":       {},
	"SendEvent":       {"roomIdentifier": lobby, "eventName": "x"},
	"UpdateRoom":      {"identifier": lobby},
}

func tags(n int, value string) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint(i)] = value
	}
	return m
}

// TestOperationRequests puts each member of each operation at its limits and
// beyond.
func TestOperationRequests(t *testing.T) {
	s := strings.Repeat
	const wide = "\U0001F600" // one code point
	type m = map[string]any
	arn := func(n int) string { return lobby[:strings.LastIndex(lobby, "/")+1] + s("x", n-len(lobby)+12) }
	room := []any{lobby, arn(128)}
	noRoom := []any{"", arn(129), "g1H2I3j4k5L6", lobby + "\n", logging, 1, []string{lobby}}
	names := []any{"", s("x", 128), "a-b_C9"}
	noNames := []any{s("x", 129), "a b", "ü", "x\n", 1}
	reasons := []any{"x", s(wide, 256)}
	noReasons := []any{"", s(wide, 257), 1}
	settings := []struct {
		member    string
		good, bad []any
	}{
		{"name", names, noNames},
		{"maximumMessageLength", []any{1, 500}, []any{0, 501, -1, "1", 1.5, true}},
		{"maximumMessageRatePerSecond", []any{1, 100}, []any{0, 101, "1", 1e30}},
		{"messageReviewHandler", []any{m{}, m{"uri": ""}, m{"fallbackResult": "DENY"}},
			[]any{m{"uri": lambda}, m{"uri": "x"}, m{"fallbackResult": "PERHAPS"}, m{"URI": ""}, "x", []int{}}},
		{"loggingConfigurationIdentifiers", []any{[]string{}, []string{logging, logging, logging}},
			[]any{[]string{logging, logging, logging, logging}, []string{lobby}, []any{nil}, logging, []int{1}}},
	}
	type row struct {
		operation, member string
		good, bad         []any
	}
	rows := []row{
		{"CreateChatToken", "roomIdentifier", room, noRoom},
		{"CreateRoom", "tags", []any{m{}, m{"k": ""}, tags(50, s(wide, 256)), m{s(wide, 128): "x"}},
			[]any{tags(51, "x"), m{"k": s(wide, 257)}, m{"": "x"}, m{s(wide, 129): "x"}, m{"k": nil}, m{"k": 1}, []string{}}},
		{"DeleteMessage", "roomIdentifier", room, noRoom},
		{"DeleteMessage", "id", []any{"abcXYZ012345"}, []any{"", "abcXYZ01234", "abcXYZ0123456", "abcXYZ01234-", 1}},
		{"DeleteMessage", "reason", reasons, noReasons},
		{"DeleteRoom", "identifier", room, noRoom},
		{"DisconnectUser", "roomIdentifier", room, noRoom},
		{"DisconnectUser", "userId", []any{"x", s(wide, 128)}, []any{"", s(wide, 129), 11231234}},
		{"DisconnectUser", "reason", reasons, noReasons},
		{"GetRoom", "identifier", room, noRoom},
		{"ListRooms", "name", names, noNames},
		{"ListRooms", "maxResults", []any{1, 50}, []any{0, 51, "1"}},
		{"ListRooms", "nextToken", []any{"", ivschat.EncodePage(lobby)}, []any{"x", "?", ivschat.EncodePage("x"), s("x", 1025), 1}},
		{"ListRooms", "messageReviewHandlerUri", []any{"", lambda}, []any{"x", lambda + s("x", 170), 1}},
		{"ListRooms", "loggingConfigurationIdentifier", []any{logging}, []any{"", lobby, 1}},
		{"SendEvent", "roomIdentifier", room, noRoom},
		{"SendEvent", "eventName", []any{"x", s(wide, 100)}, []any{"", s(wide, 101), 1}},
		{"SendEvent", "attributes", []any{m{}, m{"": ""}, m{"k": s("é", 511), "l": ""}},
			[]any{m{"k": s("é", 512)}, m{"k": 1}, m{"k": nil}, []string{}, "x"}},
		{"UpdateRoom", "identifier", room, noRoom},
		{"UpdateRoom", "tags", nil, []any{m{}}},
	}
	for _, x := range settings {
		rows = append(rows, row{"CreateRoom", x.member, x.good, x.bad}, row{"UpdateRoom", x.member, x.good, x.bad})
	}
	for _, r := range rows {
		t.Run(r.operation+"/"+r.member, func(t *testing.T) {
			least := leasts[r.operation]
			with := func(name string, value any) string {
				m := maps.Clone(least)
				m[name] = value
				body, err := json.Marshal(m)
				require.NoError(t, err)
				return string(body)
			}
			for _, value := range r.good {
				assert.Empty(t, ivschat.Refused(r.operation, with(r.member, value)), "%.40q", value)
			}
			want := r.member
			if r.good == nil {
				want = "(unknown)"
			}
			for _, value := range r.bad {
				assert.Equal(t, []string{want}, ivschat.Refused(r.operation, with(r.member, value)), "%.40q", value)
			}
			if _, isRequired := least[r.member]; isRequired {
				assert.Equal(t, []string{r.member}, ivschat.Refused(r.operation, with(r.member, nil)))
			} else if r.good != nil {
				assert.Empty(t, ivschat.Refused(r.operation, with(r.member, nil)))
			}
		})
	}
}

// TestRequestForms tests what holds for all operations.
func TestRequestForms(t *testing.T) {
	require.Len(t, leasts, len(ivschat.Operations()))
	for name, least := range leasts {
		body, err := json.Marshal(least)
		require.NoError(t, err)
		valid := string(body)
		with := func(member string) string {
			return strings.Replace(strings.TrimSuffix(valid, "}")+","+member+"}", "{,", "{", 1)
		}
		assert.Empty(t, ivschat.Refused(name, valid), name)
		assert.Empty(t, ivschat.Refused(name, " "+valid+"\n"), name)
		assert.Equal(t, []string{"(unknown)"}, ivschat.Refused(name, with(`"Nothing":1`)), name)
		for member := range least {
			misspelt := strings.Replace(valid, `"`+member+`"`, `"`+strings.ToUpper(member)+`"`, 1)
			assert.Equal(t, []string{member, "(unknown)"}, ivschat.Refused(name, misspelt), name)
		}
		for _, malformed := range []string{"", "null", "[]", `"x"`, "1", "{", valid + valid, valid + "x", with(`"x":`),
			"\ufeff" + valid, with("\"\xff\":1"), with("\"x\":\"\xff\""), with(`"\ud800":1`)} {
			assert.Equal(t, []string{"OTHER"}, ivschat.Refused(name, malformed), "%s: %q", name, malformed)
		}
	}
	// The error names every one of several.
	assert.Equal(t, []string{"roomIdentifier", "userId", "reason"},
		ivschat.Refused("DisconnectUser", `{"roomIdentifier":"x","userId":"","reason":""}`))
	// A lone surrogate would become U+FFFD, and so another user.
	assert.NotEmpty(t, ivschat.Refused("DisconnectUser", `{"roomIdentifier":"`+lobby+`","userId":"\ud800"}`))
	assert.NotEmpty(t, ivschat.Refused("DisconnectUser", `{"roomIdentifier":"`+lobby+`","userId":"ann","userId":"bob"}`))
}

// FuzzRequests looks for a body that panics, or is refused without a reason.
func FuzzRequests(f *testing.F) {
	names := ivschat.Operations()
	for i, name := range names {
		body, err := json.Marshal(leasts[name])
		require.NoError(f, err)
		f.Add(i, string(body))
	}
	f.Add(1, `{"tags":{"a":null},"messageReviewHandler":{"uri":1}}`)
	f.Fuzz(func(t *testing.T, i int, body string) {
		name := names[uint(i)%uint(len(names))]
		refused := ivschat.Refused(name, body)
		if refused == nil {
			assert.True(t, json.Valid([]byte(body)))
		}
		assert.Equal(t, refused, slices.Compact(slices.Clone(refused)), "one reason a member")
	})
}

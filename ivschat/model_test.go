package ivschat_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

// serviceModel is the service model of Debian's python3-botocore.
const serviceModel = "/usr/lib/python3/dist-packages/botocore/data/ivschat/2020-07-14/service-2.json"

type model struct {
	Operations map[string]struct {
		HTTP struct {
			Method, RequestURI string
			ResponseCode       int
		}
		Input, Output struct{ Shape string }
		Errors        []struct{ Shape string }
	}
	Shapes map[string]struct {
		Required []string
		Members  map[string]struct{ Shape string }
		Min, Max int
		Pattern  string
		Error    struct{ HTTPStatusCode int }
	}
}

// TestServiceModel compares operations, members, limits and errors with those
// of the service.
func TestServiceModel(t *testing.T) {
	data, err := os.ReadFile(serviceModel)
	if err != nil {
		skip(t, "the service model is missing: install python3-boto3")
	}
	var m model
	require.NoError(t, json.Unmarshal(data, &m))

	for shape, got := range ivschat.Rules() {
		want := m.Shapes[shape]
		if shape == "MessageID" {
			got.Form = want.Pattern // ours has the length in it
		}
		assert.Equal(t, ivschat.Rule{Min: want.Min, Max: want.Max, Form: want.Pattern}, got, shape)
	}
	assert.Equal(t, 50, m.Shapes["Tags"].Max)
	assert.Equal(t, 3, m.Shapes["LoggingConfigurationIdentifierList"].Max)
	assert.Equal(t, 50, m.Shapes["MaxRoomResults"].Max)
	assert.Equal(t, 500, m.Shapes["RoomMaxMessageLength"].Max)
	assert.Contains(t, []int{10, 100}, m.Shapes["RoomMaxMessageRatePerSecond"].Max, "it was 10 once")

	throttled := []string{"DeleteMessage", "DisconnectUser", "SendEvent"}
	server := fixedServer(t, time.Now())
	for _, name := range ivschat.Operations() {
		o := m.Operations[name]
		assert.Equal(t, []string{"POST", "/" + name}, []string{o.HTTP.Method, o.HTTP.RequestURI}, name)
		var errors []string
		for _, e := range o.Errors {
			errors = append(errors, e.Shape)
		}
		assert.Equal(t, slices.Contains(errors, "PendingVerification"), ivschat.IsVerified(name), name)
		assert.Equal(t, slices.Contains(errors, "ThrottlingException"), slices.Contains(throttled, name), name)
		assert.Equal(t, slices.Contains(errors, "ServiceQuotaExceededException"), name == "CreateRoom", name)

		in := m.Shapes[o.Input.Shape]
		assert.ElementsMatch(t, in.Required, slices.Collect(maps.Keys(leasts[name])), name)
		for member := range in.Members {
			body := maps.Clone(leasts[name])
			body[member] = nil
			data, err := json.Marshal(body)
			require.NoError(t, err)
			assert.NotContains(t, ivschat.Refused(name, string(data)), "(unknown)", "%s: %s", name, member)
		}

		if name == "DeleteRoom" {
			continue // comes last, and has no reply
		}
		var reply members
		assert.Equal(t, o.HTTP.ResponseCode, call(t, server, accessKey, name, leasts[name], &reply).Status, name)
		for member := range reply {
			assert.Contains(t, m.Shapes[o.Output.Shape].Members, member, name)
		}
		if name == "ListRooms" {
			for member := range reply["rooms"].([]any)[0].(map[string]any) {
				assert.Contains(t, m.Shapes["RoomSummary"].Members, member)
			}
		}
	}
	f := call(t, server, accessKey, "DeleteRoom", leasts["DeleteRoom"], nil)
	assert.Equal(t, m.Operations["DeleteRoom"].HTTP.ResponseCode, f.Status)
}

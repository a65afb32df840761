package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

func TestIssuer(t *testing.T) {
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	file := keyring.File{Name: filepath.Join(t.TempDir(), "keyring"), KEK: kek}
	ring, err := file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	keys, err := file.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	server := httptest.NewServer(newIssuer(keys, map[string]user{
		"alice":                  {"secret", []string{"lobby", strings.Repeat("r", 129)}, claims.SendMessage},
		strings.Repeat("b", 129): {Password: "secret", Rooms: []string{"lobby"}},
		"nobody":                 {},
	}))
	t.Cleanup(server.Close)

	ask := func(name, password, body string) (status int, answer map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/token", strings.NewReader(body))
		require.NoError(t, err)
		r.SetBasicAuth(name, password)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		require.NoError(t, json.Unmarshal(text, &answer), string(text))
		return resp.StatusCode, answer
	}
	for _, test := range []struct {
		name, password, body string
		status               int
		want                 string
	}{
		{"alice", "wrong", `{"room": "lobby"}`, 403, `{"error": "who are you?"}`},
		{"alice", "", `{"room": "lobby"}`, 403, `{"error": "who are you?"}`},
		{"mallory", "", `{"room": "lobby"}`, 403, `{"error": "who are you?"}`},
		{"nobody", "", `{"room": "lobby"}`, 403, `{"error": "who are you?"}`},
		{"alice", "secret", `{"room": `, 400, `{"error": "not the JSON of a request"}`},
		{"alice", "secret", strings.Repeat(" ", 4<<10) + `{"room": "lobby"}`, 400, `{"error": "not the JSON of a request"}`},
		{"alice", "secret", `{}`, 422, `{"fields": {"room": "required; 1–128 bytes allowed"}}`},
		{"alice", "secret", `{"room": "cellar", "minutes": 181}`, 422,
			`{"fields": {"room": "not in the form of a room identifier", "minutes": "out of range; 1–180 minutes allowed"}}`},
		{strings.Repeat("b", 129), "secret", `{"room": "lobby"}`, 422, `{"fields": {"user": "129 code points used; 1–128 allowed"}}`},
	} {
		status, answer := ask(test.name, test.password, test.body)
		assert.Equal(t, test.status, status, test.body)
		got, err := json.Marshal(answer)
		require.NoError(t, err)
		assert.JSONEq(t, test.want, string(got))
	}

	status, answer := ask("alice", "secret", `{"room": "lobby", "minutes": 5}`)
	require.Equal(t, 200, status)
	require.Len(t, answer, 2, "no tokenExpirationTime")
	guard, err := replay.New(replay.Config{Limits: ring.Limits(), AcceptIssuedBeforeStart: true})
	require.NoError(t, err)
	session := new(token.Session)
	require.NoError(t, (&token.Opener{Ring: ring, Guard: guard}).Open(t.Context(), session, answer["token"].(string)))
	assert.Equal(t, session.SessionExpiration().Format(time.RFC3339), answer["sessionExpirationTime"])
	assert.Equal(t, claims.Claims{RoomIdentifier: "lobby", UserID: "alice", Capabilities: claims.SendMessage, SessionMinutes: 5}, session.Claims())

	// A key that another host revoked seals nothing more.
	for key := range ring.Keys(time.Now()) {
		if key.State == keyring.Primary {
			require.NoError(t, ring.Revoke(time.Now(), key.ID))
			break
		}
	}
	require.NoError(t, file.Save(t.Context(), ring))
	_, answer = ask("alice", "secret", `{"room": "lobby"}`)
	require.NoError(t, (&token.Opener{Ring: ring, Guard: guard}).Open(t.Context(), session, answer["token"].(string)))
}

package ivschat_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// Keys rotate every two minutes, while users come and go with tokens of every
// age. Nobody is refused.
func TestSoakRotation(t *testing.T) {
	span := 8 * time.Minute
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		span = 6 * time.Hour
	}
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{Policy: keyring.Policy{ClockSkew: time.Second, Lead: time.Minute, Period: 2 * time.Minute}})
		serial := c.vars().Ring.Serial
		const users = 10
		var coming sync.WaitGroup
		for i := range users {
			coming.Go(func() {
				for began := time.Now(); time.Since(began) < span; {
					text := c.mint(user("ann", claims.SendMessage))
					time.Sleep(time.Duration(i) * 59 * time.Second / (users - 1)) // up to a second before it expires
					p, _, refused := c.try(text, nil)
					if assert.Empty(t, refused) {
						p.conn.Close(1000, "")
					}
					time.Sleep(time.Second)
				}
			})
		}
		coming.Wait()
		v := c.vars()
		assert.Empty(t, v.Refused)
		assert.Positive(t, v.Opened)
		assert.GreaterOrEqual(t, v.Ring.Serial-serial, int(span/(2*time.Minute))-1)
		t.Logf("%d connections, %d versions of the ring", v.Opened, v.Ring.Serial-serial)
	})
}

// shared is a sealed ring that servers follow.
type shared struct {
	file keyring.File
	ring *keyring.Ring // the rotator's
}

func newShared(t *testing.T) *shared {
	t.Helper()
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	s := &shared{file: keyring.File{Name: filepath.Join(t.TempDir(), "keyring"), KEK: kek}}
	s.ring, err = s.file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	return s
}

// upkeep is how long a saved ring takes to be in force.
const upkeep = 11 * time.Second

func (s *shared) save(t *testing.T) {
	t.Helper()
	require.NoError(t, s.file.Save(t.Context(), s.ring))
}

func (s *shared) start(t *testing.T, config ivschat.Config) *chat {
	t.Helper()
	var err error
	config.Keys, err = s.file.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	return start(t, config)
}

// A new server doesn't know which tokens were spent. So it refuses older
// tokens, its health says so, and it's ready within seconds.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newShared(t)
		first := keys.start(t, ivschat.Config{})
		resp, _ := first.get("/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		time.Sleep(10 * time.Second)
		resp, _ = first.get("/healthz")
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		spent, unused := first.mint(user("ann", 0)), first.mint(user("bob", 0))
		_, _, refused := first.try(spent, nil)
		require.Empty(t, refused)
		require.NoError(t, first.Shutdown(t.Context(), 0, 0))

		second := keys.start(t, ivschat.Config{})
		for _, text := range []string{spent, unused, second.mint(user("cid", 0))} {
			_, resp, _ := second.try(text, nil)
			assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		}
		assert.Contains(t, second.varsText(), `"beforeStart":3`)
		for {
			if resp, _ = second.get("/healthz"); resp.StatusCode == http.StatusOK {
				break
			}
			time.Sleep(time.Second)
		}
		second.enter(user("cid", 0))
		_, resp, _ = second.try(spent, nil)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	})
}

// Keys in memory end with the process, and so do its tokens.
func TestRestartWithKeysInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := start(t, ivschat.Config{}).mint(user("ann", 0))
		second := start(t, ivschat.Config{})
		_, resp, _ := second.try(text, nil)
		assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		assert.Equal(t, map[string]int{"unknown-key": 1}, second.vars().Refused)
		second.enter(user("ann", 0))
	})
}

// From the next refresh on, a key revoked in the file opens nothing, and
// another key seals. A broken file changes nothing, and is logged.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newShared(t)
		var log bytes.Buffer
		c := keys.start(t, ivschat.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		time.Sleep(10 * time.Second)
		text := c.mint(user("ann", 0))
		id := primary(keys.ring)
		require.NoError(t, keys.ring.Revoke(time.Now(), id))
		keys.save(t)
		time.Sleep(upkeep)
		_, resp, _ := c.try(text, nil)
		assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		assert.Equal(t, map[string]int{"revoked-key": 1}, c.vars().Refused)
		c.enter(user("ann", 0))

		require.NoError(t, os.WriteFile(keys.file.Name, []byte("junk"), 0o600))
		time.Sleep(upkeep)
		c.enter(user("bob", 0))
		assert.NotEqual(t, "ok", c.vars().Ring.Refresh)
		require.NoError(t, c.Shutdown(t.Context(), 0, 0))
		assert.Contains(t, log.String(), "keys changed")
		assert.Contains(t, log.String(), "keys not updated")
	})
}

func primary(ring *keyring.Ring) keyring.ID {
	for k := range ring.Keys(time.Now()) {
		if k.State == keyring.Primary {
			return k.ID
		}
	}
	return keyring.ID{}
}

// Two hosts with one ring open each other's tokens. With a guard each, a token
// works once on each host: that's why they need a shared guard.
func TestTwoHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newShared(t)
		g := newGuard(t)
		a, b := keys.start(t, ivschat.Config{Guard: g}), keys.start(t, ivschat.Config{Guard: g})
		time.Sleep(10 * time.Second)
		text := a.mint(user("ann", 0))
		_, _, refused := b.try(text, nil)
		assert.Empty(t, refused)
		_, resp, _ := a.try(text, nil)
		assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		assert.Equal(t, map[string]int{"spent": 1}, a.vars().Refused)
	})
}

// The log has no token, user or attribute.
func TestLogHasNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := start(t, ivschat.Config{AllowUnsigned: true,
			Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		claim := user("confidential-user", everything)
		claim.Attributes = map[string]string{"confidential-key": "confidential-value"}
		text := c.mint(claim)
		ann, _, _ := c.try(text, nil)
		ann.say("confidential-text")
		id := ann.next().ID
		ann.send(map[string]string{"Action": "DELETE_MESSAGE", "Id": id, "Reason": "confidential-reason"})
		ann.disconnect("confidential-user")
		c.try(text, nil)
		c.post("/CreateChatToken", []byte(`{"roomIdentifier":"`+lobby+`","userId":"confidential-user"}`))
		c.post("/CreateChatToken", []byte(`{"userId":"confidential-user"}`))
		require.NoError(t, c.Shutdown(context.Background(), 0, 0))
		for _, event := range []string{"session opened", "session closed", "message deleted", "user disconnected", "connection refused", "minted"} {
			assert.Contains(t, log.String(), event)
		}
		assert.NotContains(t, log.String(), "confidential")
		assert.NotContains(t, log.String(), "ct1_")
	})
}

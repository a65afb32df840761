package conformance_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// sharedKeys are the files of a keyring that several processes share.
type sharedKeys struct{ ring, kek string }

// newSharedKeys makes them with the project's command. The clock skew is short,
// so a server with them is soon ready.
func newSharedKeys(t testing.TB, policy ...string) sharedKeys {
	t.Helper()
	dir := t.TempDir()
	k := sharedKeys{filepath.Join(dir, "ring"), filepath.Join(dir, "kek")}
	chattoken(t, "keyring", "make-kek", k.kek)
	chattoken(t, append([]string{"keyring", "init", "--keyring", k.ring, "--kek-file", k.kek, "--clock-skew", "1s"}, policy...)...)
	return k
}

func (k sharedKeys) flags() []string { return []string{"-keyring", k.ring, "-kek-file", k.kek} }

func chattoken(t testing.TB, args ...string) {
	t.Helper()
	dir, err := binaries()
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "chattoken"), args...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// TestSharedKeys opens a client's token with the library and the server's
// keyring.
func TestSharedKeys(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	keys := newSharedKeys(t)
	s := startServer(t, keys.flags()...)
	client := startClient(t, python3, "-I", "-B", "boto3_client.py", s.url)

	kek, err := keyring.KEKFile{Name: keys.kek}.Read()
	require.NoError(t, err)
	follower, err := keyring.File{Name: keys.ring, KEK: kek}.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	opener := token.Opener{Ring: follower.Ring()}
	for _, test := range successes {
		got := replyOf[minted](t, client.do(t, call{Request: test.request}.withDefaults()))
		var session token.Session
		require.NoError(t, opener.OpenWithoutSpending(t.Context(), &session, got.Token))
		assert.Equal(t, wantClaims(t, test.request, test.minutes), session.Claims())
		assert.True(t, session.SessionExpiration().Equal(got.SessionExpiration))
	}
}

// wantClaims returns a request's claims.
func wantClaims(t testing.TB, request map[string]any, minutes int) (c claims.Claims) {
	t.Helper()
	data, err := json.Marshal(request)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &c))
	c.SessionMinutes = minutes
	if len(c.Attributes) == 0 {
		c.Attributes = nil
	}
	return c
}

package conformance_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
)

// TestValkeyDown takes away the guard's server of two gateways. Nobody enters,
// and those who are in go on talking. When it is back, all is well.
func TestValkeyDown(t *testing.T) {
	t.Parallel()
	v := valkeytest.Start(t)
	flags := append(newSharedKeys(t).flags(), "-guard", "valkey://"+v.Address)
	a, b := startServer(t, flags...), startServer(t, flags...)
	a.waitReady(t)
	b.waitReady(t)

	spent := mint(t, a, "alice")
	live := connect(t, a, spent)
	_, status := dial(t, b, spent)
	assert.Equal(t, http.StatusUnauthorized, status, "it is spent for the other gateway, too")

	v.Kill()
	for range 3 {
		_, status = dial(t, a, mint(t, a, "bob"))
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Equal(t, "still here", say(t, live, "still here").Content)
	}

	v.Restart()
	require.Eventually(t, func() bool {
		conn, _ := dial(t, b, mint(t, b, "bob"))
		return conn != nil
	}, patience, tick, "nobody is let in any more")
	for _, s := range []*server{a, b} {
		conn, _ := dial(t, s, spent)
		assert.Nil(t, conn, "a spent token has become good again")
	}
	assert.Equal(t, "and now", say(t, live, "and now").Content)
}

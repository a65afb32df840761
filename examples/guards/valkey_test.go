package guards_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
)

func TestValkey(t *testing.T) {
	server := valkeytest.Start(t)
	ring := newRing(t)
	guard, err := valkey.New(t.Context(), valkey.Config{Addresses: []string{server.Address}, Limits: ring.Limits()})
	require.NoError(t, err)
	t.Cleanup(guard.Close)
	testGateway(t, ring, guard)
}

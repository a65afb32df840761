package payload_test

import (
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
)

// twin is a payload as fxamacker/cbor reads it: slow, and obviously right.
type twin struct {
	_              struct{} `cbor:",toarray"`
	RoomIdentifier string
	UserID         string
	Capabilities   uint64
	Attributes     map[string]string
	IssuedAt       uint64
	TTL            uint64
	SessionMinutes uint64
}

// coreDeterministic is the encoding of RFC 8949, section 4.2.1. It writes a nil
// map as an empty one.
func coreDeterministic(t testing.TB) cbor.EncMode {
	t.Helper()
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty
	mode, err := options.EncMode()
	require.NoError(t, err)
	return mode
}

func twinOf(c *claims.Claims, issuedAt, ttl int64) twin {
	minutes := c.SessionMinutes
	if minutes == 0 {
		minutes = claims.DefaultSessionMinutes
	}
	return twin{
		RoomIdentifier: c.RoomIdentifier,
		UserID:         c.UserID,
		Capabilities:   uint64(c.Capabilities),
		Attributes:     c.Attributes,
		IssuedAt:       uint64(issuedAt),
		TTL:            uint64(ttl),
		SessionMinutes: uint64(minutes),
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := coreDeterministic(t).Marshal(v)
	require.NoError(t, err)
	return b
}

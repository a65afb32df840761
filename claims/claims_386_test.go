package claims_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// The values share their memory. Their lengths add up to 1<<32, which is 0 in
// an int of 32 bits.
func TestAttributesBeyondAnInt(t *testing.T) {
	const entries = 1024
	shared := strings.Repeat("x", 1<<32/entries)
	c := tokentest.Claims()
	c.Attributes = map[string]string{}
	for i := range entries {
		key := fmt.Sprint(i)
		c.Attributes[key] = shared[len(key):]
	}
	require.ErrorContains(t, c.Validate(nil), "4294967296 bytes used")
}

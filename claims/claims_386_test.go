package claims_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// Values that share their memory add up to more than an int holds, which is
// here zero again.
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

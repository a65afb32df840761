package claims_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
)

// capabilitySets has every set, with its text and JSON forms.
var capabilitySets = []struct {
	set        claims.Capabilities
	text, json string
}{
	{0, "", `[]`},
	{claims.SendMessage, "SEND_MESSAGE", `["SEND_MESSAGE"]`},
	{claims.DisconnectUser, "DISCONNECT_USER", `["DISCONNECT_USER"]`},
	{claims.SendMessage | claims.DisconnectUser, "SEND_MESSAGE,DISCONNECT_USER", `["SEND_MESSAGE","DISCONNECT_USER"]`},
	{claims.DeleteMessage, "DELETE_MESSAGE", `["DELETE_MESSAGE"]`},
	{claims.SendMessage | claims.DeleteMessage, "SEND_MESSAGE,DELETE_MESSAGE", `["SEND_MESSAGE","DELETE_MESSAGE"]`},
	{claims.DisconnectUser | claims.DeleteMessage, "DISCONNECT_USER,DELETE_MESSAGE", `["DISCONNECT_USER","DELETE_MESSAGE"]`},
	{7, "SEND_MESSAGE,DISCONNECT_USER,DELETE_MESSAGE", `["SEND_MESSAGE","DISCONNECT_USER","DELETE_MESSAGE"]`},
}

func TestCapabilitiesForms(t *testing.T) {
	for _, test := range capabilitySets {
		text, err := test.set.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, test.text, string(text))
		var fromText claims.Capabilities = 1
		require.NoError(t, fromText.UnmarshalText(text))
		assert.Equal(t, test.set, fromText)

		j, err := json.Marshal(test.set)
		require.NoError(t, err)
		assert.Equal(t, test.json, string(j))
		var fromJSON claims.Capabilities = 1
		require.NoError(t, json.Unmarshal(j, &fromJSON))
		assert.Equal(t, test.set, fromJSON)

		if test.set == 0 {
			assert.Equal(t, "none", test.set.String())
		} else {
			assert.Equal(t, test.text, test.set.String())
		}
	}
}

func TestCapabilitiesRefused(t *testing.T) {
	for _, text := range []string{"send_message", "SEND_MESSAGE ", " SEND_MESSAGE", "SEND_MESSAGE,", ",", "*", "ALL",
		"SEND_MESSAGE,,DELETE_MESSAGE", "SEND_MESSAGE;DELETE_MESSAGE", "VIEW_MESSAGE", "1", "SEND_MESSAGE\n"} {
		c := claims.DeleteMessage
		assert.Error(t, c.UnmarshalText([]byte(text)), "%q", text)
		assert.Equal(t, claims.DeleteMessage, c, "left as it was")
		_, err := claims.ParseCapabilities(text)
		assert.Error(t, err)
	}
	for _, text := range []string{`["send_message"]`, `["SEND_MESSAGE",null]`, `"SEND_MESSAGE"`, `[1]`, `7`, `{}`, `[["SEND_MESSAGE"]]`, `["SEND_MESSAGE`} {
		c := claims.DeleteMessage
		assert.Error(t, c.UnmarshalJSON([]byte(text)), "%q", text)
		assert.Equal(t, claims.DeleteMessage, c, "left as it was")
	}
	repeated, err := claims.ParseCapabilities("SEND_MESSAGE", "SEND_MESSAGE")
	require.NoError(t, err)
	assert.Equal(t, claims.SendMessage, repeated)
	none, err := claims.ParseCapabilities()
	require.NoError(t, err)
	assert.Zero(t, none)
}

func TestCapabilitiesUnknownBits(t *testing.T) {
	for bits := 8; bits < 256; bits++ {
		c := claims.Capabilities(bits)
		assert.False(t, c.Valid())
		_, err := c.MarshalText()
		assert.Error(t, err)
		_, err = json.Marshal(c)
		assert.Error(t, err)
		assert.Equal(t, fmt.Sprintf("Capabilities(%#x)", bits), c.String())
	}
}

func TestCapabilitiesHas(t *testing.T) {
	for have := range claims.Capabilities(8) {
		assert.False(t, have.Has(0), "nothing is not a capability")
		for want := range claims.Capabilities(8) {
			if want != 0 {
				assert.Equal(t, have|want == have, have.Has(want))
			}
		}
	}
}

func TestCapabilitiesNamesStops(t *testing.T) {
	var got []string
	for name := range claims.Capabilities(7).Names() {
		got = append(got, name)
		break
	}
	assert.Equal(t, []string{"SEND_MESSAGE"}, got)
}

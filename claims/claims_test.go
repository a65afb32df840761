package claims_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
)

const room = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"

// valid returns the service documentation's example.
func valid() claims.Claims {
	return claims.Claims{
		RoomIdentifier: room,
		UserID:         "11231234",
		Capabilities:   claims.SendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
		SessionMinutes: 30,
	}
}

// longest returns claims that make the longest payload: as many attributes as
// 1,024 bytes allow, which is all keys of one byte and then keys of two.
func longest() claims.Claims {
	attributes := map[string]string{}
	for i := range 128 {
		attributes[string(rune(i))] = ""
	}
	for i := range 448 {
		attributes[fmt.Sprintf("%c%c", 'A'+i/26, 'a'+i%26)] = ""
	}
	return claims.Claims{
		RoomIdentifier: roomOfLength(claims.MaxRoomIdentifierBytes),
		UserID:         strings.Repeat("\U0010FFFF", claims.MaxUserIDRunes),
		Capabilities:   claims.SendMessage | claims.DisconnectUser | claims.DeleteMessage,
		Attributes:     attributes,
		SessionMinutes: claims.MaxSessionMinutes,
	}
}

func roomOfLength(n int) string {
	const prefix = "arn:aws:ivschat:us-west-2:123456789012:room/"
	return prefix + strings.Repeat("a", n-len(prefix))
}

func TestValidateLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*claims.Claims)
		field  string // "" where valid
		says   string
	}{
		{"example", func(c *claims.Claims) {}, "", ""},
		{"longest", func(c *claims.Claims) { *c = longest() }, "", ""},
		{"minimal", func(c *claims.Claims) { *c = claims.Claims{RoomIdentifier: room, UserID: "u"} }, "", ""},
		{"room empty", func(c *claims.Claims) { c.RoomIdentifier = "" }, "roomIdentifier", "required; 1–128 bytes allowed"},
		{"room 128", func(c *claims.Claims) { c.RoomIdentifier = roomOfLength(128) }, "", ""},
		{"room 129", func(c *claims.Claims) { c.RoomIdentifier = roomOfLength(129) }, "roomIdentifier", "129 bytes used; 1–128 allowed"},
		{"room not UTF-8", func(c *claims.Claims) { c.RoomIdentifier = room + "\xff" }, "roomIdentifier", "UTF-8"},
		{"room no ARN", func(c *claims.Claims) { c.RoomIdentifier = "lobby" }, "roomIdentifier", "form arn:aws:ivschat:REGION"},
		{"user empty", func(c *claims.Claims) { c.UserID = "" }, "userId", "required; 1–128 code points allowed"},
		{"user 128 runes", func(c *claims.Claims) { c.UserID = strings.Repeat("é", 128) }, "", ""},
		{"user 129 runes", func(c *claims.Claims) { c.UserID = strings.Repeat("é", 129) }, "userId", "129 code points used"},
		{"user not UTF-8", func(c *claims.Claims) { c.UserID = "\xed\xa0\x80" }, "userId", "UTF-8"},
		{"capabilities none", func(c *claims.Claims) { c.Capabilities = 0 }, "", ""},
		{"capabilities unknown", func(c *claims.Claims) { c.Capabilities |= 8 }, "capabilities", "unknown bits"},
		{"attributes 1024", func(c *claims.Claims) { c.Attributes = map[string]string{"k": strings.Repeat("v", 1023)} }, "", ""},
		{"attributes 1025", func(c *claims.Claims) { c.Attributes = map[string]string{"k": strings.Repeat("v", 1024)} }, "attributes", "1025 bytes used by keys and values; 1024 allowed"},
		{"attributes empty value", func(c *claims.Claims) { c.Attributes = map[string]string{"k": ""} }, "", ""},
		{"attributes empty key", func(c *claims.Claims) { c.Attributes = map[string]string{"": "v"} }, "attributes", "empty key"},
		{"attributes key not UTF-8", func(c *claims.Claims) { c.Attributes = map[string]string{"\xc0\xaf": "v"} }, "attributes", "UTF-8"},
		{"attributes value not UTF-8", func(c *claims.Claims) { c.Attributes = map[string]string{"k": "\xff"} }, "attributes", "UTF-8"},
		{"session absent", func(c *claims.Claims) { c.SessionMinutes = 0 }, "", ""},
		{"session 1", func(c *claims.Claims) { c.SessionMinutes = 1 }, "", ""},
		{"session 180", func(c *claims.Claims) { c.SessionMinutes = 180 }, "", ""},
		{"session 181", func(c *claims.Claims) { c.SessionMinutes = 181 }, "sessionDurationInMinutes", "181 minutes; 1–180 allowed"},
		{"session negative", func(c *claims.Claims) { c.SessionMinutes = -1 }, "sessionDurationInMinutes", "-1 minutes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := valid()
			test.change(&c)
			err := c.Validate(nil)
			if test.field == "" {
				require.NoError(t, err)
				return
			}
			var invalid *claims.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Fields, 1)
			assert.Equal(t, test.field, invalid.Fields[0].Name)
			assert.Contains(t, invalid.Fields[0].Message, test.says)
			assert.Contains(t, err.Error(), test.field+": "+invalid.Fields[0].Message)

			var e claims.Encoder
			dst, err := e.Append([]byte("dst"), &c, nil, 1, 60)
			require.ErrorAs(t, err, &invalid, "the encoder validates too")
			assert.Equal(t, "dst", string(dst))
		})
	}
}

func TestValidateListsEveryField(t *testing.T) {
	c := claims.Claims{
		RoomIdentifier: "lobby",
		Capabilities:   128,
		Attributes:     map[string]string{"": "\xff" + strings.Repeat("x", 1024)},
		SessionMinutes: 500,
	}
	var invalid *claims.ValidationError
	require.ErrorAs(t, c.Validate(nil), &invalid)
	var got []string
	for _, f := range invalid.Fields {
		got = append(got, f.Name)
	}
	assert.Equal(t, []string{"roomIdentifier", "userId", "capabilities",
		"attributes", "attributes", "attributes", "sessionDurationInMinutes"}, got)
	assert.NotContains(t, invalid.Error(), "lobby", "errors do not echo values")
}

func TestValidateOwnGrammar(t *testing.T) {
	anyRoom := func(string) bool { return true }
	c := valid()
	for _, test := range []struct {
		room string
		ok   bool
	}{
		{"lobby", true},
		{"ルーム", true},
		{"", false},
		{strings.Repeat("x", 128), true},
		{strings.Repeat("x", 129), false},
		{"\xff", false},
	} {
		c.RoomIdentifier = test.room
		assert.Equal(t, test.ok, c.Validate(anyRoom) == nil, "%q", test.room)
	}
}

func TestIsRoomARN(t *testing.T) {
	for _, s := range []string{
		room,
		"arn:aws:ivschat:a:1:room/A",
		"arn:aws:ivschat:-:0:room/-",
		"arn:aws:ivschat:eu-central-1:000:room/a-B-9",
	} {
		assert.True(t, claims.IsRoomARN(s), "%q", s)
	}
	for _, s := range []string{
		"",
		"arn:aws:ivschat:",
		"arn:aws:ivschat::1:room/A",
		"arn:aws:ivschat:a::room/A",
		"arn:aws:ivschat:a:1:room/",
		"arn:aws:ivschat:a:1:room",
		"arn:aws:ivschat:a:1:Room/A",
		"arn:aws:ivschat:A:1:room/A",
		"arn:aws:ivschat:a:1x:room/A",
		"arn:aws:ivschat:a:1:room/A/B",
		"arn:aws:ivschat:a:1:room/A\n",
		"\narn:aws:ivschat:a:1:room/A",
		" " + room,
		room + " ",
		room + "_",
		"arn:aws-cn:ivschat:a:1:room/A",
		"arn:aws:ivschat:a:1:room/é",
		strings.ToUpper(room),
	} {
		assert.False(t, claims.IsRoomARN(s), "%q", s)
	}
}

// TestIsRoomARNBytes has every byte in every part, and compares with the pattern
// of the service model.
func TestIsRoomARNBytes(t *testing.T) {
	pattern := regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+$`)
	for at := range room {
		for c := range 256 {
			for _, s := range []string{room[:at] + string([]byte{byte(c)}) + room[at+1:], room[:at] + string([]byte{byte(c)}) + room[at:]} {
				want := pattern.MatchString(s) && s[len(s)-1] != '\n'
				if got := claims.IsRoomARN(s); got != want {
					t.Errorf("IsRoomARN(%q) = %v", s, got)
				}
			}
		}
	}
}

func TestNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	example, big := valid(), longest()
	var e claims.Encoder
	buf, err := e.Append(nil, &big, nil, 1e9, 60)
	require.NoError(t, err)
	payload, err := claims.ParsePayload(buf)
	require.NoError(t, err)
	truncated := buf[:len(buf)-1]
	scratch := make([]byte, 0, len(buf))
	var size int

	tests := []struct {
		name string
		do   func()
	}{
		{"Validate", func() { _ = big.Validate(nil) }},
		{"Append", func() { scratch, _ = e.Append(scratch[:0], &example, nil, 1e9, 60) }},
		{"Append/longest", func() { scratch, _ = e.Append(scratch[:0], &big, nil, 1e9, 60) }},
		{"ParsePayload", func() { _, _ = claims.ParsePayload(buf) }},
		{"ParsePayload/refused", func() { _, _ = claims.ParsePayload(truncated) }},
		{"MoveTo", func() { p := payload; scratch = p.MoveTo(scratch[:0]) }},
		{"Attribute", func() { _, _ = payload.Attribute("zz") }},
		{"Attributes", func() {
			for k, v := range payload.Attributes() {
				size += len(k) + len(v)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, test.do))
		})
	}
}

func TestValidationErrorIsNotNilInDisguise(t *testing.T) {
	c := valid()
	err := c.Validate(nil)
	assert.True(t, err == nil)
	var invalid *claims.ValidationError
	assert.False(t, errors.As(err, &invalid))
}

package claims_test

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func TestValidateLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*claims.Claims)
		field  string // "" if valid
		says   string
	}{
		{"example", func(c *claims.Claims) {}, "", ""},
		{"longest", func(c *claims.Claims) { *c = testenv.LongestClaims() }, "", ""},
		{"minimal", func(c *claims.Claims) { *c = claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u"} }, "", ""},
		{"room empty", func(c *claims.Claims) { c.RoomIdentifier = "" }, "roomIdentifier", "required; 1–128 bytes allowed"},
		{"room 128", func(c *claims.Claims) { c.RoomIdentifier = testenv.LongestRoom() }, "", ""},
		{"room 129", func(c *claims.Claims) { c.RoomIdentifier = testenv.LongestRoom() + "x" }, "roomIdentifier", "129 bytes used; 1–128 allowed"},
		{"room not UTF-8", func(c *claims.Claims) { c.RoomIdentifier = tokentest.Room + "\xff" }, "roomIdentifier", "UTF-8"},
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
		{"session 181", func(c *claims.Claims) { c.SessionMinutes = 181 }, "sessionDurationInMinutes", "out of range; 1–180 minutes allowed"},
		{"session negative", func(c *claims.Claims) { c.SessionMinutes = -1 }, "sessionDurationInMinutes", "out of range; 1–180 minutes allowed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := tokentest.Claims()
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
	c := tokentest.Claims()
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
		tokentest.Room,
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
		" " + tokentest.Room,
		tokentest.Room + " ",
		tokentest.Room + "_",
		"arn:aws-cn:ivschat:a:1:room/A",
		"arn:aws:ivschat:a:1:room/é",
		strings.ToUpper(tokentest.Room),
	} {
		assert.False(t, claims.IsRoomARN(s), "%q", s)
	}
}

// TestIsRoomARNBytes puts every byte into every part, and compares with the
// pattern of the service model.
func TestIsRoomARNBytes(t *testing.T) {
	pattern := regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+$`)
	for at := range tokentest.Room {
		for c := range 256 {
			for _, s := range []string{tokentest.Room[:at] + string([]byte{byte(c)}) + tokentest.Room[at+1:], tokentest.Room[:at] + string([]byte{byte(c)}) + tokentest.Room[at:]} {
				want := pattern.MatchString(s) && s[len(s)-1] != '\n'
				if got := claims.IsRoomARN(s); got != want {
					t.Errorf("IsRoomARN(%q) = %v", s, got)
				}
			}
		}
	}
}

func TestValidateNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	big := testenv.LongestClaims()
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = big.Validate(nil) }))
}

func TestValidationErrorIsNotNilInDisguise(t *testing.T) {
	c := tokentest.Claims()
	err := c.Validate(nil)
	assert.True(t, err == nil)
	var invalid *claims.ValidationError
	assert.False(t, errors.As(err, &invalid))
}

// No field error repeats the value.
func TestFieldErrorsDoNotEcho(t *testing.T) {
	const secret = "s3cr3t"
	long := strings.Repeat(secret, 200)
	quoted := func(s string) string { return `"` + s + `"` }
	made := map[string]claims.Claims{
		"room of another form":    {RoomIdentifier: secret, UserID: "u"},
		"room too long":           {RoomIdentifier: long, UserID: "u"},
		"room not UTF-8":          {RoomIdentifier: secret + "\xff", UserID: "u"},
		"user too long":           {RoomIdentifier: tokentest.Room, UserID: long},
		"user not UTF-8":          {RoomIdentifier: tokentest.Room, UserID: secret + "\xff"},
		"attributes too long":     {RoomIdentifier: tokentest.Room, UserID: "u", Attributes: map[string]string{secret: long}},
		"attributes not UTF-8":    {RoomIdentifier: tokentest.Room, UserID: "u", Attributes: map[string]string{secret: secret + "\xff"}},
		"attributes without keys": {RoomIdentifier: tokentest.Room, UserID: "u", Attributes: map[string]string{"": secret}},
	}
	for _, n := range []int{-1, 181, 4711} {
		made["session of "+strconv.Itoa(n)] = claims.Claims{RoomIdentifier: tokentest.Room, UserID: "u", SessionMinutes: n}
	}
	errs := map[string]error{}
	for name, c := range made {
		errs[name] = c.Validate(nil)
	}
	for member, values := range map[string][]string{
		"roomIdentifier":           {quoted(secret), quoted(long), `["` + secret + `"]`, quoted(secret + `\ud800`)},
		"userId":                   {quoted(long), `{"` + secret + `":1}`, quoted(secret + `\ud800`)},
		"capabilities":             {`["` + secret + `"]`, quoted(secret)},
		"attributes":               {quoted(secret), `{"` + secret + `":4711}`, `{"` + secret + `":"` + long + `"}`, `{"` + secret + `":"a","` + secret + `":"b"}`},
		"sessionDurationInMinutes": {"-1", "181", "4711", "4711.5", "47e11", quoted(secret)},
		secret:                     {"4711"},
	} {
		for _, value := range values {
			_, err := claims.ParseJSON([]byte(`{"`+member+`":`+value+`}`), nil)
			errs[member+" "+value] = err
		}
	}
	for name, err := range errs {
		var invalid *claims.ValidationError
		require.ErrorAs(t, err, &invalid, name)
		for _, value := range []string{secret, "-1", "181", "4711", "47e11"} {
			assert.NotContains(t, err.Error(), value, name)
		}
	}
}

func TestSessionDuration(t *testing.T) {
	for minutes, want := range map[int]time.Duration{0: time.Hour, 1: time.Minute, 180: 3 * time.Hour} {
		c := claims.Claims{SessionMinutes: minutes}
		assert.Equal(t, want, c.SessionDuration())
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

func TestOpenFromStandardInput(t *testing.T) {
	f := newFake(t)
	text := f.mint(t)
	for _, args := range [][]string{{"open"}, {"open", "-"}} {
		for _, end := range []string{"", "\n", "\r\n"} {
			f.stdin = iotest.OneByteReader(strings.NewReader(text + end))
			status, stdout, stderr := f.run(args...)
			assert.Equal(t, exitOK, status, stderr)
			assert.Equal(t, "11231234", member(t, stdout, "userId"))
			assert.NotContains(t, stderr, text)
		}
	}
}

func TestOpenResponse(t *testing.T) {
	f := newFake(t)
	response, err := json.Marshal(token.ChatToken{Token: f.mint(t)})
	require.NoError(t, err)
	f.stdin = bytes.NewReader(append(response, '\n'))
	status, stdout, stderr := f.run("open")
	assert.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "11231234", member(t, stdout, "userId"))

	f.stdin = strings.NewReader("\n")
	status, _, stderr = f.run("open")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "no token on standard input")
}

func TestOpenRefuses(t *testing.T) {
	f := newFake(t)
	text := f.mint(t)
	tests := []struct {
		name string
		text string
		late time.Duration
		want string
	}{
		{"JSON without a token", `{"token":""}`, 0, "malformed"},
		{"JSON cut off", `{"token":"` + text, 0, "malformed"},
		{"two line ends", text + "\n\n", 0, "malformed"},
		{"space", " " + text, 0, "malformed"},
		{"too long", text + strings.Repeat("A", 1<<20), 0, "malformed"},
		{"tampered", tamper(text), 0, "forged"},
		{"expired", text, time.Minute, "expired"},
		{"from the future", text, -time.Minute, "not-yet-valid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := newFake(t)
			g.dir = f.dir
			g.now = func() time.Time { return testNow.Add(test.late) }
			g.stdin = strings.NewReader(test.text)
			status, stdout, stderr := g.run("open", "-")
			assert.Equal(t, exitRefused, status)
			assert.Empty(t, stdout)
			assert.Equal(t, "chattoken: open: refused: "+test.want+": "+explanations[test.want]+"\n", stderr)
		})
	}
}

func TestOpenWithoutAnswer(t *testing.T) {
	f := newFake(t)
	status, _, stderr := f.run("open", "ct1_x")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "there is no keyring")
	assert.NoDirExists(t, f.dir)

	status, _, stderr = f.run("open", "-")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "reading the token: standard input was read")
}

// TestRefusal checks the sentence for errors that have none of their own.
func TestRefusal(t *testing.T) {
	assert.Equal(t, "refused: refused: banned", refusal(errors.New("banned")))
	for _, err := range []error{token.ErrRevokedKey, token.ErrPayload, token.ErrSpent, token.ErrNotPermitted} {
		assert.Contains(t, explanations, token.Reason(err))
	}
}

func TestEscapeUnprintable(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"letters of all kinds", "aé€語😀~", "aé€語😀~"},
		{"delete", "\x7f", `\u007f`},
		{"C1 control", "\u009b31m", `\u009b31m`},
		{"bidirectional override", "\u202e", `\u202e`},
		{"line separator", "\u2028", `\u2028`},
		{"tag beyond 16 bits", "\U000e0041", `\udb40\udc41`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, escapeUnprintable(test.text))
		})
	}
}

// TestOddText checks that escapes stand for the very same text.
func TestOddText(t *testing.T) {
	const odd = "\x00\x1b[2J\u009b\u202e\U000e0041<&>\"\\"
	f := newFake(t)
	text := f.mint(t, "--attributes", `{"a":"\u0000\u001b[2J\u009b\u202e\udb40\udc41<&>\"\\"}`)
	status, stdout, _ := f.run("open", text)
	assert.Equal(t, exitOK, status)
	assert.NotContains(t, stdout, "\x1b")
	assert.NotContains(t, stdout, "\u202e")
	assert.Equal(t, odd, member(t, attributes(t, stdout), "a"))
}

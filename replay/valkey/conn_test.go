package valkey

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

func parse(text string) (reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(text), maxText+2), maxDepth)
}

// TestCommandsAreReplies reads commands as the replies that they look like:
// what was added comes back, whatever is in it.
func TestCommandsAreReplies(t *testing.T) {
	var p pipeline
	args := []string{"SET", "", "\r\n", "$-1\r\n", strings.Repeat("x", maxText), "*1\r\n"}
	p.add(args...)
	v, err := parse(string(p.buf))
	require.NoError(t, err)
	require.Len(t, v.array, len(args))
	for i, arg := range args {
		got, err := v.array[i].string()
		assert.NoError(t, err)
		assert.Equal(t, arg, got)
	}
}

// TestReadReply reads what servers send, every truncation of it, and noise.
// Nothing but a whole reply is one.
func TestReadReply(t *testing.T) {
	for _, text := range []string{
		"+OK\r\n", "-ERR no\r\n", ":-12\r\n", "$-1\r\n", "*-1\r\n", "$0\r\n\r\n", "$3\r\na\r\n\r\n",
		"*0\r\n", "*2\r\n$1\r\n1\r\n:2\r\n", "*1\r\n*1\r\n*1\r\n+x\r\n",
		// CLUSTER SLOTS, with the name of a host.
		"*1\r\n*3\r\n:0\r\n:9\r\n*4\r\n$1\r\nh\r\n:1\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nn\r\n",
	} {
		_, err := parse(text)
		assert.NoError(t, err, "%q", text)
		for n := range len(text) {
			_, err := parse(text[:n])
			assert.Error(t, err, "%q", text[:n])
		}
	}
	for _, text := range []string{
		"\r\n", "+OK\n", "x\r\n", "$\r\n", "$x\r\n", "$-2\r\n", "$65535\r\n", "$1\r\nab\r\n", "$1\r\na\n\r\n",
		"*32769\r\n", "*-2\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n", "#t\r\n", "_\r\n", "%0\r\n",
		"+" + strings.Repeat("x", maxText+2) + "\r\n",
	} {
		_, err := parse(text)
		assert.Equal(t, errReply, err, "%.20q", text)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		noise := make([]byte, rng.IntN(40))
		for i := range noise {
			noise[i] = "+-:$*0123456789\r\n"[rng.IntN(17)]
		}
		r := bufio.NewReaderSize(bytes.NewReader(noise), maxText+2)
		for {
			if _, err := readReply(r, maxDepth); err != nil {
				break
			}
		}
	}
}

// TestNames has every target come back from its name, and no two have one.
func TestNames(t *testing.T) {
	names := make(map[string]bool)
	for _, room := range []string{"", "a", "1:a", "u", "t0123456789abcdef", "a\x00", "é"} {
		for _, user := range []string{"", "a", ":a", "1:a", "0:", "é"} {
			if room+user == "" {
				continue
			}
			target := targetOf(nameOf(token.Target{Room: room, User: user}))
			assert.Equal(t, token.Target{Room: room, User: user}, target)
			names[nameOf(target)] = true
		}
	}
	assert.Len(t, names, 7*6-1)
	for _, odd := range []string{"", "t", "tx", "u", "ux:", "u9:a", "u-1:a", "b1:ab", "aa"} {
		assert.Error(t, targetOf(odd).Validate(), "%q", odd)
	}
}

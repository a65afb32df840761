package conformance_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The documentation's own commands, as printed, and corrected if they can't
// run.
var documented = []struct {
	name, command string
	status        int
	stderr        string // what is in it
}{
	{"userGuide", `aws ivschat create-chat-token --room-identifier "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6" --user-id "11231234" --capabilities "SEND_MESSAGE"`,
		0, ""},
	// It has parameters of the operation instead of options, commas between
	// them, and unpaired quotes. The command line refuses it.
	{"reference", `aws ivschat create-chat-token \
    --roomIdentifier "arn:aws:ivschat:us-west-2:12345689012:room/g1H2I3j4k5L6", \
    --userId" "11231234" \
    --capabilities "SEND_MESSAGE", \
    --sessionDurationInMinutes" 30`,
		252, "the following arguments are required: --room-identifier, --user-id"},
	// Its account lacks a digit, and so does another's.
	{"referenceCorrected", `aws ivschat create-chat-token \
    --room-identifier "arn:aws:ivschat:us-west-2:12345689012:room/g1H2I3j4k5L6" \
    --user-id "11231234" \
    --capabilities "SEND_MESSAGE" \
    --session-duration-in-minutes 30`,
		254, "(ResourceNotFoundException)"},
	{"referenceCorrectedTwice", `aws ivschat create-chat-token \
    --room-identifier "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6" \
    --user-id "11231234" \
    --capabilities "SEND_MESSAGE" \
    --session-duration-in-minutes 30`,
		0, ""},
	{"everyOption", `aws ivschat create-chat-token \
    --room-identifier "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6" \
    --user-id 11231234 --capabilities SEND_MESSAGE DELETE_MESSAGE DISCONNECT_USER \
    --session-duration-in-minutes 180 --attributes displayName=DemoUser,color=blue`,
		0, ""},
}

// printedCommand matches assignments and their command, over several lines.
var printedCommand = regexp.MustCompile(`(?m)^AWS_ACCESS_KEY_ID=(?:.*\\\n)*.*\n`)

var tokenInJSON = regexp.MustCompile(`"token": "([^"]+)"`)

// TestDocumentation runs the documentation's commands, with an endpoint added.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	needAWS(t)
	s := sharedServer(t)
	for _, test := range documented {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := shell(t, test.command+" --endpoint-url "+s.url)
			assert.Equal(t, test.status, status, stderr)
			assert.Contains(t, stderr, test.stderr)
			if test.status == 0 {
				connect(t, s, findToken(t, stdout))
			}
		})
	}
}

// TestPrintedCommand runs the command that the server prints at its start, as
// if pasted: with nothing set up for it.
func TestPrintedCommand(t *testing.T) {
	t.Parallel()
	needAWS(t)
	s := sharedServer(t)
	var printed string
	require.Eventually(t, func() bool {
		printed = printedCommand.FindString(s.out.String())
		return printed != ""
	}, patience, tick, "no command is printed")
	stdout, stderr, status := shell(t, "unset $(env | grep -o '^AWS_[A-Z0-9_]*')\n"+printed)
	require.Equal(t, 0, status, stderr)
	connect(t, s, findToken(t, stdout))
}

func findToken(t testing.TB, stdout string) string {
	t.Helper()
	m := tokenInJSON.FindStringSubmatch(stdout)
	require.NotNil(t, m, stdout)
	return m[1]
}

// shell runs a command line. It ends with the test.
func shell(t testing.TB, command string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
	cmd.Env = environment(t, keyAllowed)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/vectors"
)

// clockFile is an environment variable. It names a file with the seconds that
// the command adds to the time.
const clockFile = "CHATTOKEN_TEST_CLOCK"

// TestMain makes this program a chattoken, if that is its name. A script can
// set its clock: a case of KEYS.md waits for an hour.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "chattoken" {
		os.Exit(m.Run())
	}
	now := func() time.Time {
		text, _ := os.ReadFile(os.Getenv(clockFile))
		off, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			panic(err)
		}
		return time.Now().Add(time.Duration(off) * time.Second)
	}
	os.Exit(newProcess(now).run(os.Args[1:]))
}

// The set-up that a case starts from.
const (
	fromNothing = ""
	fromFile    = "A KEK in a file"
	fromKMS     = "A KEK in a KMS"
)

// withFile and withKMS are the flags of a keyring whose KEK is in a file, or in
// a service.
const (
	withFile = `--keyring ring --kek-file kek --context chat.example.com`
	withKMS  = `--keyring ring --kek-command "chattoken-kms aws-kms://key" --context chat.example.com`
)

// runbook has two scripts for each case of KEYS.md: one runs before its
// commands, the other checks their result.
var runbook = map[string]struct{ from, before, after string }{
	fromFile: {fromNothing, ``, `test "$(ls)" = "$(printf 'kek\nkeyring.sh\nring\nring.lock\nserial\nserial.lock')"`},
	fromKMS:  {fromNothing, ``, `test "$(ls)" = "$(printf 'keyring.sh\nring\nring.lock\nserial\nserial.lock')"`},
	"Watch":  {fromFile, ``, `kr check | grep -q ', ok$'`},
	"Rotate now": {fromFile,
		`next=$(key pending); sleep 3600; mint ` + withFile,
		`test "$(key primary)" = "$next"; opens ` + withFile + `; fails kr rotate --now`},
	"The policy": {fromFile, ``, `kr list | grep -q 'period 168h0m0s'`},
	"The KEK, from file to file": {fromFile,
		`mint ` + withFile + `; cp kek kek.old`,
		`opens ` + withFile + `; refuses 'sealed under the KEK' --keyring ring --kek-file kek.old --context chat.example.com`},
	"The KEK, from a file to a KMS": {fromFile,
		`mint ` + withFile + `; cp kek kek.old`,
		`fails test -e kek; opens ` + withKMS + `; refuses 'sealed under the KEK' --keyring ring --kek-file kek.old --context chat.example.com`},
	"The KEK, from a KMS to a file": {fromKMS, `mint ` + withKMS, `opens ` + withFile + `; refuses 'not made by this KEK' ` + withKMS},
	"Sealed form 2":                 {fromFile, `cat "$HOME/form1" > ring; cat "$HOME/form1.kek" > kek; kr list | grep -q 'form 1'`, `kr list | grep -q 'form 2'`},
	"A key leaked": {fromFile,
		`mint ` + withFile,
		`kr check; refuses revoked-key ` + withFile + `; mint ` + withFile + `; opens ` + withFile},
	"The KEK leaked": {fromFile,
		`mint ` + withFile + `; cp kek kek.old`,
		`kr check; refuses revoked-key ` + withFile + `; refuses 'sealed under the KEK' --keyring ring --kek-file kek.old --context chat.example.com`},
	"The keyring is broken": {fromFile,
		`cp ring ring.backup; sleep 5184000; mint ` + withFile + `; kr set --serial 41; echo broken > ring; fails kr list`,
		`kr list | grep -q '^serial 42,'; opens ` + withFile},
	"The keyring or the KEK is lost": {fromFile, `kr set --serial 41; echo 7 > serial`, `kr list | grep -q '^serial 42,'`},
	"The KMS does not answer":        {fromKMS, `touch away`, `rm away; kr check`},
	"The rotator's clock was ahead": {fromFile,
		`sleep 31536000; kr rotate; sleep -31536000; kr check | grep -q ^far-ahead:`,
		`mint ` + withFile + `; opens ` + withFile},
}

// shell is functions for the scripts. A script ends at the first command that
// fails.
const shell = `
sleep() { echo $(($(cat "$` + clockFile + `") + $1)) > "$` + clockFile + `"; }
key() { kr list | awk -v state="$1" '$2 == state {print $1}'; }
mint() { chattoken create-chat-token --any-room --room-identifier lobby --user-id alice "$@" > "$HOME/token"; }
fails() { if "$@"; then return 1; fi; }
opens() { chattoken open "$@" < "$HOME/token" | grep -q alice; }
refuses() { want=$1; shift; if out=$(opens "$@" 2>&1); then return 1; fi; echo "$out" | grep -q "$want"; }
`

// The commands in KEYS.md do what it says.
func TestRunbook(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for a shell")
	}
	if testing.Short() {
		t.Skip("starts many processes, and tells nothing new about another build")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		testenv.Skip(t, "openssl is missing")
	}
	blocks := readBlocks(t, "sh")
	require.NotEmpty(t, blocks)
	for name := range blocks {
		assert.Contains(t, runbook, name, "a case without a test")
	}
	for name, c := range runbook {
		t.Run(name, func(t *testing.T) {
			require.NotEmpty(t, blocks[name], "KEYS.md has no commands for this")
			r := newRunner(t)
			before := c.before
			if c.from != fromNothing {
				r.run(t, blocks[c.from]...)
				before = ". ./keyring.sh\n" + before
			}
			out := r.run(t, append(append([]string{before}, blocks[name]...), c.after)...)
			if name == "The KMS does not answer" {
				require.Contains(t, out, "the service is away")
				require.Contains(t, out, "status 2")
			}
		})
	}
}

// The commands of the systemd timer and of the Kubernetes job in KEYS.md work.
func TestRunbookTimers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for a shell")
	}
	r := newRunner(t)
	r.run(t, readBlocks(t, "sh")[fromFile]...)
	unit := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(.*)$`).FindStringSubmatch(strings.Join(readBlocks(t, "ini")["A systemd timer"], ""))
	require.NotEmpty(t, unit)
	job := regexp.MustCompile(`(?m)^ *command: (\[.*\])$`).FindStringSubmatch(strings.Join(readBlocks(t, "yaml")["Kubernetes"], ""))
	require.NotEmpty(t, job)
	var words []string
	require.NoError(t, json.Unmarshal([]byte(job[1]), &words))
	here := strings.NewReplacer("/etc/chat/", "./")
	due := "sleep 2592000; . ./keyring.sh; kr list > before; "
	published := "; kr list > after; fails cmp -s before after"
	r.run(t, due+here.Replace(unit[1])+published)
	r.run(t, due+"CHATTOKEN_KEK=$(cat kek) "+here.Replace(strings.Join(words, " "))+published)
}

// readBlocks returns the code blocks of KEYS.md in a language, by heading.
func readBlocks(t *testing.T, language string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "KEYS.md"))
	require.NoError(t, err)
	blocks := make(map[string][]string)
	var heading, fence string
	var block strings.Builder
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSpace(line)
		switch {
		case fence != "" && text == "```":
			if fence == "```"+language {
				blocks[heading] = append(blocks[heading], block.String())
			}
			block.Reset()
			fence = ""
		case fence != "":
			block.WriteString(strings.TrimPrefix(line, "   ")) // that of a list
		case strings.HasPrefix(text, "```"):
			fence = text
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(text, "# ")
		}
	}
	require.Empty(t, fence)
	return blocks
}

// runner runs scripts in a directory that is empty at first. PATH has
// chattoken, and a chattoken-kms that needs no service.
type runner struct {
	dir string
	env []string
}

func newRunner(t *testing.T) runner {
	t.Helper()
	bin, home := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "chattoken")))
	helper, err := filepath.Abs(filepath.Join("..", "..", "keyring", "kekhelper", "testdata", "file-helper.sh"))
	require.NoError(t, err)
	const service = "#!/bin/sh\n" +
		"if test -e away; then echo 'the service is away' >&2; exit 1; fi\n" +
		"exec sh %q %q\n"
	require.NoError(t, os.WriteFile(filepath.Join(home, "service"), []byte("the key of a service"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "chattoken-kms"), fmt.Appendf(nil, service, helper, filepath.Join(home, "service")), 0o700))
	v, err := vectors.Read()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "form1"), v.Rings[0].Sealed, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(home, "form1.kek"), []byte(v.Rings[0].KEK), 0o600))
	clock := filepath.Join(home, "clock")
	require.NoError(t, os.WriteFile(clock, []byte("0\n"), 0o600))
	return runner{t.TempDir(), []string{
		"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + home, clockFile + "=" + clock,
		"GORACE=atexit_sleep_ms=0",
	}}
}

// run runs scripts in one shell, one after the other, and returns their output.
func (r runner) run(t *testing.T, scripts ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", shell+strings.Join(scripts, "\n"))
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", strings.Join(scripts, "\n"), out)
	return string(out)
}

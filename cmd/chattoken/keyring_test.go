package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// rig is a keyring, its KEK, and a process that uses them.
type rig struct {
	*fake
	dir  string
	args []string // that name the two
}

func newRig(t *testing.T, init ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{newFake(t), dir, []string{"--keyring", filepath.Join(dir, "ring"), "--kek-file", filepath.Join(dir, "kek")}}
	r.quiet(t, "make-kek", r.args[3])
	r.quiet(t, append([]string{"init"}, append(init, r.args...)...)...)
	return r
}

// quiet runs a keyring command that is to succeed and to print nothing.
func (r *rig) quiet(t *testing.T, args ...string) {
	t.Helper()
	status, stdout, stderr := r.run(append([]string{"keyring"}, args...)...)
	require.Equal(t, exitOK, status, stderr)
	require.Empty(t, stdout+stderr)
}

// change runs a keyring command on the keyring.
func (r *rig) change(t *testing.T, args ...string) {
	t.Helper()
	r.quiet(t, append(args, r.args...)...)
}

// list returns what keyring list says.
func (r *rig) list(t *testing.T, args ...string) (l listing) {
	t.Helper()
	status, stdout, stderr := r.run(append([]string{"keyring", "list", "--output", "json"}, append(args, r.args...)...)...)
	require.Equal(t, exitOK, status, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &l))
	return l
}

func (l listing) states() (states []string) {
	for _, k := range l.Keys {
		states = append(states, k.State)
	}
	return states
}

// at sets the clock.
func (r *rig) at(now time.Time) { r.now = func() time.Time { return now } }

func TestKeyringInit(t *testing.T) {
	r := newRig(t, "--max-ttl", "2m", "--clock-skew=10s", "--period", "24h", "--lead", "1h30m")
	assert.Equal(t, listing{Serial: 1, Form: 2, MaxTTL: 120, ClockSkew: 10, Period: 86400, Lead: 5400}, func() listing {
		l := r.list(t)
		l.Keys = nil
		return l
	}())
	assertOnly(t, r.dir, "kek", "ring", "ring.lock")
	for _, name := range []string{"ring", "kek"} {
		info, err := os.Stat(filepath.Join(r.dir, name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode())
	}
	text := r.mint(t, r.args...)
	status, _, stderr := r.run(append([]string{"open", text}, r.args...)...)
	assert.Equal(t, exitOK, status, stderr)
	assert.NoDirExists(t, r.fake.dir, "the user's own keyring was touched")
}

func TestKeyringList(t *testing.T) {
	seed(t)
	r := newRig(t)
	primary := r.list(t).Keys[0].ID
	r.at(testNow.Add(30 * 24 * time.Hour))
	r.change(t, "rotate")
	r.change(t, "revoke", r.list(t).Keys[1].ID)
	l := r.list(t)
	assert.Equal(t, []string{"retired", "primary", "pending", "revoked"}, l.states())
	assert.Equal(t, primary, l.Keys[0].ID)
	for _, output := range []string{"text", "json"} {
		status, stdout, stderr := r.run(append([]string{"keyring", "list", "--output", output}, r.args...)...)
		require.Equal(t, exitOK, status, stderr)
		golden(t, "keyring-list."+output, stdout)
		for line := range strings.Lines(stdout) {
			assert.LessOrEqual(t, len(line), 81, line)
		}
	}
}

// What cron does: nothing, until it is time.
func TestKeyringRotate(t *testing.T) {
	r := newRig(t)
	content := func() string {
		data, err := os.ReadFile(r.args[1])
		require.NoError(t, err)
		return string(data)
	}
	due := testNow.Add(30 * 24 * time.Hour)
	for _, step := range []struct {
		name    string
		now     time.Time
		changed bool
		states  []string
	}{
		{"at once", testNow, false, []string{"primary", "pending"}},
		{"one second early", due.Add(-time.Second), false, []string{"primary", "pending"}},
		{"due", due, true, []string{"retired", "primary", "pending"}},
		{"again", due, false, []string{"retired", "primary", "pending"}},
		{"expired", due.Add(70 * time.Second), true, []string{"primary", "pending"}},
	} {
		r.at(step.now)
		before := content()
		r.change(t, "rotate")
		assert.Equal(t, step.changed, content() != before, step.name)
		assert.Equal(t, step.states, r.list(t).states(), step.name)
	}
	// Nobody rotates for a long time.
	r.at(due.Add(100 * 24 * time.Hour))
	_, stdout, _ := r.run(append([]string{"keyring", "list"}, r.args...)...)
	assert.Contains(t, stdout, "rotate is overdue")
	r.change(t, "rotate")
	_, stdout, _ = r.run(append([]string{"keyring", "list"}, r.args...)...)
	assert.NotContains(t, stdout, "rotate is overdue")
}

// The next key seals ahead of its time, if all hosts can have it.
func TestKeyringRotateNow(t *testing.T) {
	r := newRig(t)
	now := func(want string) {
		t.Helper()
		before := r.list(t)
		status, stdout, stderr := r.run(append([]string{"keyring", "rotate", "--now"}, r.args...)...)
		assert.Empty(t, stdout)
		if want == "" {
			assert.Equal(t, exitOK, status, stderr)
			return
		}
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, want)
		assert.Equal(t, before, r.list(t))
	}
	now("the next key was published at 2022-03-16 04:43:09; wait until 2022-03-16 05:43:09")
	r.at(testNow.Add(time.Hour - time.Second))
	now("wait until 2022-03-16 05:43:09")
	text := r.mint(t, r.args...)
	next := r.list(t).Keys[1].ID

	r.at(testNow.Add(time.Hour))
	now("")
	assert.Equal(t, []string{"retired", "primary", "pending"}, r.list(t).states())
	assert.Equal(t, next, r.list(t).Keys[1].ID)
	status, _, stderr := r.run(append([]string{"open", text}, r.args...)...)
	assert.Equal(t, exitOK, status, stderr)
	now("wait until 2022-03-16 06:43:09")

	r.at(testNow.Add(60 * 24 * time.Hour))
	now("no next key is published; rotate without --now first, and wait for the lead, 1h0m0s")
}

// Two that rotate at the same time: one does, and the other one says so.
func TestKeyringRotateTogether(t *testing.T) {
	r := newRig(t)
	due := func() time.Time { return testNow.Add(30 * 24 * time.Hour) }
	var fakes [4]*fake
	var statuses [4]int
	var wg sync.WaitGroup
	for i := range fakes {
		fakes[i] = newFake(t)
		fakes[i].now = due
		wg.Go(func() {
			statuses[i], _, _ = fakes[i].run(append([]string{"keyring", "rotate"}, r.args...)...)
		})
	}
	wg.Wait()
	assert.Contains(t, statuses, exitOK)
	for i, status := range statuses {
		if status != exitOK {
			assert.Equal(t, exitTrouble, status)
			assert.Contains(t, fakes[i].err.String(), "changed by another writer")
		}
	}
	assert.EqualValues(t, 2, r.list(t).Serial)
}

func TestKeyringRevoke(t *testing.T) {
	r := newRig(t)
	before := r.list(t).Keys
	text := r.mint(t, r.args...)
	r.change(t, "revoke", before[0].ID)
	r.change(t, "revoke", before[0].ID)
	status, _, stderr := r.run(append([]string{"open", text}, r.args...)...)
	assert.Equal(t, exitRefused, status)
	assert.Contains(t, stderr, "revoked-key")
	after := r.list(t)
	assert.EqualValues(t, 2, after.Serial)
	assert.Equal(t, []string{"primary", "pending", "revoked"}, after.states())
	assert.Equal(t, before[1].ID, after.Keys[0].ID, "the spare seals at once")

	// All at once: none of the old ones is left.
	status, stdout, stderr := r.run(append([]string{"keyring", "revoke", "00000000", after.Keys[0].ID, "00000001", after.Keys[1].ID}, r.args...)...)
	assert.Equal(t, exitRefused, status, "two are unknown")
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "the keyring has no key 00000000, 00000001; all others that were named are revoked")
	all := r.list(t)
	assert.Equal(t, []string{"primary", "pending", "revoked", "revoked", "revoked"}, all.states())
	assert.Equal(t, exitOK, func() int {
		status, _, _ := r.run(append([]string{"open", r.mint(t, r.args...)}, r.args...)...)
		return status
	}())
}

func TestKeyringRewrap(t *testing.T) {
	r := newRig(t)
	before := r.list(t)
	old := append([]string{}, r.args...)
	newKEK := filepath.Join(r.dir, "kek2")
	r.quiet(t, "make-kek", newKEK)
	r.change(t, "rewrap", "--new-kek-file", newKEK)
	r.change(t, "rewrap", "--new-kek-file", newKEK) // again, with the old one still given
	status, _, stderr := r.run(append([]string{"keyring", "list"}, old...)...)
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "sealed under the KEK")
	r.args[3] = newKEK
	assert.Equal(t, before, r.list(t))

	// Both KEKs in the environment.
	first, err := os.ReadFile(newKEK)
	require.NoError(t, err)
	second, err := os.ReadFile(old[3])
	require.NoError(t, err)
	r.env[kekFlags.variable], r.env[newKEKFlags.variable] = strings.TrimSpace(string(first)), strings.TrimSpace(string(second))
	r.quiet(t, "rewrap", "--keyring", r.args[1])
	r.args[3] = old[3]
	assert.Equal(t, before, r.list(t))
}

// Form 1 is read, and what is saved is form 2; unless it is refused.
func TestKeyringFromForm1(t *testing.T) {
	for _, command := range [][]string{{"rotate"}, {"set", "--period", "24h"}, {"revoke"}, {"rewrap", "--new-kek-file"}} {
		r := newRig(t)
		before := r.list(t)
		form1 := r.toForm1(t)
		r.at(testNow.Add(30 * 24 * time.Hour)) // rotate is due
		switch command[0] {
		case "revoke":
			command = append(command, before.Keys[0].ID)
		case "rewrap":
			command = append(command, r.args[3])
		}
		for _, refused := range [][]string{{"list"}, command} {
			status, _, stderr := r.run(append(append([]string{"keyring"}, append(refused, "--refuse-form-1")...), r.args...)...)
			assert.Equal(t, exitTrouble, status, refused)
			assert.Contains(t, stderr, "form 1, which names none; see KEYS.md")
		}
		now, err := os.ReadFile(r.args[1])
		require.NoError(t, err)
		assert.Equal(t, form1, now)

		l := r.list(t)
		assert.Equal(t, 1, l.Form)
		assert.Equal(t, before.Keys[0].ID, l.Keys[0].ID)
		r.change(t, command...)
		assert.Equal(t, 2, r.list(t, "--refuse-form-1").Form)
	}
}

// toForm1 makes form 1 of the keyring, as an older version has written it.
func (r *rig) toForm1(t *testing.T) []byte {
	t.Helper()
	kek, err := keyring.KEKFile{Name: r.args[3]}.Read()
	require.NoError(t, err)
	sealed, err := os.ReadFile(r.args[1])
	require.NoError(t, err)
	const magic = "chattoken-keyring"
	id := len(magic) + 2
	wrapped := id + int(sealed[id-1]) + 2
	nonce := wrapped + 72
	ciphertext := nonce + chacha20poly1305.NonceSizeX
	dataKey, err := kek.Unwrap(t.Context(), kek.ID(), sealed[wrapped:nonce])
	require.NoError(t, err)
	aead, err := chacha20poly1305.NewX(dataKey)
	require.NoError(t, err)
	plaintext, err := aead.Open(nil, sealed[nonce:ciphertext], sealed[ciphertext:], sealed[:nonce])
	require.NoError(t, err)
	sealed[len(magic)] = 1
	sealed = aead.Seal(sealed[:ciphertext:ciphertext], sealed[nonce:ciphertext], plaintext[32:], sealed[:nonce])
	require.NoError(t, os.WriteFile(r.args[1], sealed, 0o600))
	return sealed
}

// Where modes cannot be chosen, as in a pod with an fsGroup, the KEK and the
// mark are used if that is asked for.
func TestKeyringAnyMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of files are of Unix")
	}
	r := newRig(t)
	mark := filepath.Join(r.dir, "mark")
	r.args = append(r.args, "--high-water", mark)
	r.change(t, "rotate")
	require.NoError(t, os.Chmod(r.args[3], 0o440))
	require.NoError(t, os.Chmod(mark, 0o660))
	for _, command := range [][]string{{"check"}, {"list"}, {"rotate"}, {"rewrap", "--new-kek-file", r.args[3]}} {
		args := append(append([]string{"keyring"}, command...), r.args...)
		status, _, _ := r.run(args...)
		assert.Equal(t, exitTrouble, status, command)
		status, _, stderr := r.run(append(args, "--insecure-any-mode")...)
		assert.Equal(t, exitOK, status, stderr)
	}
}

func TestKeyringSet(t *testing.T) {
	r := newRig(t)
	before := r.list(t)
	r.change(t, "set")
	assert.Equal(t, before, r.list(t))
	r.change(t, "set", "--period", "24h", "--lead", "2h")
	r.change(t, "set", "--serial", "100")
	r.change(t, "set", "--serial", "99")
	after := r.list(t)
	assert.Equal(t, before.Keys, after.Keys)
	assert.EqualValues(t, 100, after.Serial)
	assert.EqualValues(t, 86400, after.Period)
	assert.EqualValues(t, 7200, after.Lead)
	r.change(t, "set", "--max-ttl", "2m")
	assert.EqualValues(t, 120, r.list(t).MaxTTL)
}

// The user's own keyring is used where none is named.
func TestKeyringOwn(t *testing.T) {
	f := newFake(t)
	text := f.mint(t)
	for _, args := range [][]string{{"rotate"}, {"set", "--period", "24h"}, {"revoke", decode(text).keyID().String()}, {"list"}} {
		status, _, stderr := f.run(append([]string{"keyring"}, args...)...)
		assert.Equal(t, exitOK, status, stderr)
	}
	status, _, stderr := f.run("open", text)
	assert.Equal(t, exitRefused, status)
	assert.Contains(t, stderr, "revoked-key")
}

func TestKeyringErrors(t *testing.T) {
	r := newRig(t)
	ring, err := os.ReadFile(r.args[1])
	require.NoError(t, err)
	kek, err := os.ReadFile(r.args[3])
	require.NoError(t, err)
	secret := strings.TrimSpace(string(kek))
	tests := []struct {
		name string
		args []string // the keyring is named where there is one at the end
		want string
	}{
		{"nothing", []string{}, "unknown command; see chattoken help keyring"},
		{"unknown command", []string{secret}, "unknown command; see chattoken help keyring"},
		{"make-kek without a file", []string{"make-kek"}, "one FILE is needed"},
		{"make-kek over a file", []string{"make-kek", r.args[3]}, "file exists"},
		{"init without a file", []string{"init"}, "--keyring is needed"},
		{"init over a file", []string{"init", "ring"}, "file already exists"},
		{"init without a KEK", []string{"init", "--keyring", r.args[1] + "x"}, "there is no KEK"},
		{"init by no policy", []string{"init", "--lead", "1s", "--keyring", r.args[1] + "x", "--kek-file", r.args[3]}, "Policy.Lead"},
		{"init for no time", []string{"init", "--period", "0s", "--keyring", r.args[1] + "x", "--kek-file", r.args[3]}, "--period takes a duration"},
		{"init for a year", []string{"init", "--period", "1y", "--keyring", r.args[1] + "x", "--kek-file", r.args[3]}, "--period takes a duration"},
		{"init by a policy that cannot work", []string{"init", "--max-ttl", "5s", "--clock-skew", "60s", "--keyring", r.args[1] + "x", "--kek-file", r.args[3]}, "Policy.MaxTTL is less than ClockSkew and 5 s"},
		{"init nowhere", []string{"init", "--keyring", r.args[1] + "x/ring", "--kek-file", r.args[3]}, "no such file"},
		{"init with an argument", []string{"init", "x", "--keyring", r.args[1] + "x"}, "unexpected argument"},
		{"list with an argument", []string{"list", secret, "ring"}, "unexpected argument"},
		{"list as XML", []string{"list", "--output", "xml", "ring"}, "--output takes text or json"},
		{"list of none", []string{"list"}, "there is no keyring"},
		{"rotate with an argument", []string{"rotate", secret, "ring"}, "unexpected argument"},
		{"rotate none", []string{"rotate", "--keyring", r.args[1] + "x", "--kek-file", r.args[3]}, "no such file"},
		{"rotate a KEK", []string{"rotate", "--keyring", r.args[3], "--kek-file", r.args[3]}, "not a sealed ring"},
		{"revoke nothing", []string{"revoke", "ring"}, "no ID given"},
		{"revoke what is no ID", []string{"revoke", secret, "ring"}, "a key ID is 8"},
		{"rewrap without a file", []string{"rewrap"}, "--keyring is needed"},
		{"rewrap without a KEK", []string{"rewrap", "--keyring", r.args[1]}, "give --kek-file, --kek-command or the variable CHATTOKEN_KEK"},
		{"rewrap without a new KEK", []string{"rewrap", "ring"}, "give --new-kek-file, --new-kek-command or the variable CHATTOKEN_NEW_KEK"},
		{"rewrap with the KEK itself", []string{"rewrap", "--new-kek-file", secret, "ring"}, "a token or a KEK was given where it does not belong"},
		{"rewrap a KEK", []string{"rewrap", "--new-kek-file", r.args[3], "--keyring", r.args[3], "--kek-file", r.args[3]}, "not a sealed ring"},
		{"set with an argument", []string{"set", "x", "ring"}, "unexpected argument"},
		{"set no policy", []string{"set", "--period", "1s", "ring"}, "Policy.Lead"},
		{"set a policy that cannot work", []string{"set", "--clock-skew", "60s", "ring"}, "Policy.MaxTTL is less than ClockSkew and 5 s"},
		{"set a shorter TTL", []string{"set", "--max-ttl", "59s", "ring"}, "cannot be lowered"},
		{"set what is no duration", []string{"set", "--max-ttl", "1", "ring"}, "--max-ttl takes a duration"},
		{"set what is no serial", []string{"set", "--serial", "-1", "ring"}, "--serial takes a number"},
		{"set the last serial", []string{"set", "--serial", "9223372036854775807", "ring"}, "raised by at most 4294967296 at a time"},
		{"set a serial too high", []string{"set", "--serial", fmt.Sprint(uint64(1 << 63)), "ring"}, "--serial takes a number"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"keyring"}, test.args...)
			if args[len(args)-1] == "ring" {
				args = append(args[:len(args)-1], r.args...)
			}
			status, stdout, stderr := newFake(t).run(args...)
			assert.Equal(t, exitTrouble, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.want)
			assert.NotContains(t, stderr, secret)
			after, err := os.ReadFile(r.args[1])
			require.NoError(t, err)
			assert.Equal(t, ring, after)
			assertOnly(t, r.dir, "kek", "ring", "ring.lock")
		})
	}
}

func TestKeyringHelp(t *testing.T) {
	f := newFake(t)
	_, overview, _ := f.run("help", "keyring")
	for _, args := range [][]string{{"keyring", "-h"}, {"keyring", "--help"}} {
		status, stdout, _ := f.run(args...)
		assert.Equal(t, exitOK, status)
		assert.Equal(t, overview, stdout)
	}
	for _, c := range keyringCommands() {
		assert.Contains(t, overview, "  "+c.name+" ")
		words := strings.Fields(c.name)
		status, stdout, _ := f.run(append([]string{"help"}, words...)...)
		assert.Equal(t, exitOK, status)
		assert.True(t, strings.HasPrefix(stdout, "Usage: chattoken "+c.name+" "), stdout)
		for name := range c.flags {
			assert.Contains(t, stdout, "--"+name, c.name)
		}
		for line := range strings.Lines(stdout + overview) {
			assert.LessOrEqual(t, len(line), 81, line)
		}
	}
	status, _, stderr := f.run("help", "keyring", "rotate", "list")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stderr, "one command")
}

// The default of a policy that is shown in the help is that of the library.
func TestKeyringDefaults(t *testing.T) {
	ring, err := keyring.New(testNow, keyring.Config{})
	require.NoError(t, err)
	for flag, d := range map[string]time.Duration{
		"max-ttl": ring.Policy().MaxTTL, "clock-skew": ring.Policy().ClockSkew, "period": ring.Policy().Period, "lead": ring.Policy().Lead,
	} {
		_, after, ok := strings.Cut(initUsage, "--"+flag+" ")
		require.True(t, ok)
		_, after, _ = strings.Cut(after, "; ")
		text, _, _ := strings.Cut(after, " if not given")
		got, err := time.ParseDuration(text)
		require.NoError(t, err, flag)
		assert.Equal(t, d, got, flag)
	}
}

// A new keyring begins above the mark, or nobody who has seen the old one takes
// it.
func TestInitAboveHighWater(t *testing.T) {
	r := newRig(t)
	mark := filepath.Join(r.dir, "mark")
	another := func(name string) []string {
		return []string{"init", "--keyring", filepath.Join(r.dir, name), "--kek-file", r.args[3], "--high-water", mark}
	}
	read := func() string {
		content, err := os.ReadFile(mark)
		require.NoError(t, err)
		return string(content)
	}
	r.quiet(t, another("first")...)
	assert.Equal(t, "1\n", read())
	require.NoError(t, os.WriteFile(mark, []byte("41\n"), 0o600))
	r.quiet(t, another("second")...)
	assert.Equal(t, "42\n", read())
	r.args[1] = filepath.Join(r.dir, "second")
	assert.EqualValues(t, 42, r.list(t, "--high-water", mark).Serial)
	r.change(t, "rotate", "--high-water", mark)

	link := filepath.Join(r.dir, "link")
	require.NoError(t, os.Symlink("nothing", link))
	status, _, stderr := r.run("keyring", "init", "--keyring", filepath.Join(r.dir, "third"), "--kek-file", r.args[3], "--high-water", link)
	assert.Equal(t, exitTrouble, status, stderr)
	assert.NoFileExists(t, filepath.Join(r.dir, "third"))

	for content, want := range map[string]string{"9223372036854775807\n": "leaves too few above it; see KEYS.md", "junk": "not a serial in decimal"} {
		require.NoError(t, os.WriteFile(mark, []byte(content), 0o600))
		status, _, stderr := r.run(append([]string{"keyring"}, another("third")...)...)
		assert.Equal(t, exitTrouble, status)
		assert.Contains(t, stderr, want)
		assert.NoFileExists(t, filepath.Join(r.dir, "third"))
		assert.Equal(t, content, read())
	}
}

// The rotator must not go on from an old keyring that somebody put back: in it,
// keys are live that were revoked since.
func TestHighWater(t *testing.T) {
	r := newRig(t)
	ring, mark := r.args[1], filepath.Join(r.dir, "mark")
	old, err := os.ReadFile(ring)
	require.NoError(t, err)
	r.change(t, "revoke", "--high-water", mark, r.list(t).Keys[0].ID)
	serial, err := os.ReadFile(mark)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintln(r.list(t).Serial), string(serial))

	require.NoError(t, os.WriteFile(ring, old, 0o600))
	for _, command := range [][]string{{"rotate"}, {"set", "--period", "48h"}, {"revoke", r.list(t).Keys[0].ID}, {"list"}} {
		args := append(append([]string{"keyring"}, command...), append(r.args, "--high-water", mark)...)
		status, _, stderr := r.run(args...)
		assert.Equal(t, exitTrouble, status, command)
		assert.Contains(t, stderr, keyring.ErrRollback.Error(), command)
	}
	now, err := os.ReadFile(ring)
	require.NoError(t, err)
	assert.Equal(t, old, now)
	r.change(t, "set", "--serial", "1000", "--high-water", filepath.Join(r.dir, "another")) // the way out
	r.change(t, "rotate", "--high-water", mark)
}

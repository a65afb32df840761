package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// check returns what keyring check says, which is the same in both forms.
func (r *rig) check(t *testing.T, args ...string) (status int, d struct {
	Status   string
	Serial   uint64
	Due      string `json:"nextKeyDue"`
	Overdue  int64  `json:"overdueInSeconds"`
	Findings []struct{ Name, Severity, Text string }
}) {
	t.Helper()
	args = append(append([]string{"keyring", "check"}, args...), r.args...)
	status, stdout, stderr := r.run(append(args, "--output", "json")...)
	require.Empty(t, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	again, text, stderr := r.run(args...)
	require.Equal(t, status, again)
	require.Empty(t, stderr)
	require.Equal(t, severity(status).String(), d.Status)
	require.Contains(t, text, d.Status+"\n")
	require.Equal(t, 1+len(d.Findings), strings.Count(text, "\n"))
	for _, f := range d.Findings {
		require.Contains(t, text, f.Name+": "+f.Text+"\n")
		require.Contains(t, checkUsage, " "+f.Name+" ", "the help says what it is")
	}
	return status, d
}

func TestKeyringCheck(t *testing.T) {
	const day = 24 * time.Hour
	due := testNow.Add(30 * day)
	tests := []struct {
		name    string
		now     time.Time
		spoil   func(t *testing.T, r *rig)
		status  int
		finding string
		text    string
	}{
		{"fresh", testNow, nil, exitOK, "", ""},
		{"just before it is due", due.Add(-time.Second), nil, exitOK, "", ""},
		{"due", due, nil, exitOK, "pending-missing", "the next key is due since 2022-04-15 04:43:09"},
		{"at the end of grace", due.Add(2 * time.Hour), nil, exitOK, "pending-missing", ""},
		{"overdue", due.Add(2*time.Hour + time.Second), nil, exitRefused, "overdue", "the next key has been due for 2h0m1s"},
		{"a lead before others may go on", due.Add(30*day - time.Hour - time.Second), nil, exitRefused, "overdue", ""},
		{"within the lead", due.Add(30*day - time.Hour), nil, exitTrouble, "expires-soon", "from 2022-05-15 04:43:09 on, others may mint under it"},
		{"long after", due.Add(1000 * day), nil, exitTrouble, "expires-soon", ""},
		{"a clock that was ahead", testNow, func(t *testing.T, r *rig) {
			r.at(testNow.Add(100 * day))
			r.change(t, "rotate")
			r.at(testNow)
		}, exitRefused, "far-ahead", "there is no rotation before 2022-06-24 05:43:09"},
		{"a shorter period", testNow, func(t *testing.T, r *rig) {
			r.change(t, "set", "--period", "24h")
		}, exitRefused, "far-ahead", "there is no rotation before 2022-04-15 04:43:09"},
		{"no time for distribution", testNow, func(t *testing.T, r *rig) {
			r.change(t, "set", "--lead", "15s")
		}, exitRefused, "policy", "lead is 15s, which leaves 9s"},
		{"just enough time", testNow, func(t *testing.T, r *rig) {
			r.change(t, "set", "--lead", "16s")
		}, exitOK, "", ""},
		{"form 1, refused", testNow, func(t *testing.T, r *rig) {
			r.toForm1(t)
			r.args = append(r.args, "--refuse-form-1")
		}, exitTrouble, "other-context", "form 1, which names none; see KEYS.md"},
		{"form 1", testNow, func(t *testing.T, r *rig) {
			r.toForm1(t)
		}, exitRefused, "form-1", "it names no context"},
		{"another context", testNow, func(t *testing.T, r *rig) {
			r.env[envContext] = "another"
		}, exitTrouble, "other-context", "another context"},
		{"an older file", testNow, func(t *testing.T, r *rig) {
			mark := filepath.Join(r.dir, "mark")
			require.NoError(t, os.WriteFile(mark, []byte("2\n"), 0o600))
			r.args = append(r.args, "--high-water", mark)
		}, exitTrouble, "high-water-ahead", "lower serial"},
		{"no file", testNow, func(t *testing.T, r *rig) {
			require.NoError(t, os.Remove(r.args[1]))
		}, exitTrouble, "unusable", "no such file"},
		{"no KEK", testNow, func(t *testing.T, r *rig) {
			require.NoError(t, os.Remove(r.args[3]))
		}, exitTrouble, "unusable", "no such file"},
		{"junk", testNow, func(t *testing.T, r *rig) {
			require.NoError(t, os.WriteFile(r.args[1], []byte("junk"), 0o600))
		}, exitTrouble, "unusable", "not a sealed ring"},
		{"a secret for a name", testNow, func(t *testing.T, r *rig) {
			kek, err := keyring.GenerateKEK()
			require.NoError(t, err)
			r.args[1] = kek.InsecureText()
		}, exitTrouble, "unusable", "a token or a KEK was given where it does not belong"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.at(test.now)
			if test.spoil != nil {
				test.spoil(t, r)
			}
			status, d := r.check(t)
			assert.Equal(t, test.status, status)
			if test.finding == "" {
				assert.Empty(t, d.Findings)
				return
			}
			require.Len(t, d.Findings, 1)
			assert.Equal(t, test.finding, d.Findings[0].Name)
			assert.Contains(t, d.Findings[0].Text, test.text)
			if test.spoil == nil {
				assert.Equal(t, timestamp(due), d.Due)
				assert.Equal(t, test.status != exitOK, d.Overdue > 0)
			}
		})
	}
}

// Wrong usage is told on standard error, as everywhere.
func TestKeyringCheckUsage(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"x"}, {"--output", "xml"}, {"--kek-file", "x"}} {
		status, stdout, stderr := r.run(append([]string{"keyring", "check"}, args...)...)
		assert.Equal(t, 3, status, "not that of an answer")
		assert.Empty(t, stdout)
		assert.NotEmpty(t, stderr)
	}
	status, stdout, _ := r.run("keyring", "check")
	assert.Equal(t, exitTrouble, status)
	assert.Contains(t, stdout, "unusable: there is no keyring")
	status, stdout, stderr := r.run("keyring", "check", "--output", "json", "--keyring", r.args[1])
	assert.Equal(t, exitTrouble, status)
	assert.Empty(t, stderr)
	assert.True(t, json.Valid([]byte(stdout)))
	assert.Contains(t, stdout, "there is no KEK: give --kek-file, --kek-command or the variable CHATTOKEN_KEK")
}

// Who looks, perhaps as another user, leaves no file that the process which it
// is about cannot use.
func TestKeyringCheckWritesNothing(t *testing.T) {
	r := newRig(t)
	for _, command := range []string{"check", "list"} {
		status, _, stderr := r.run(append([]string{"keyring", command, "--high-water", filepath.Join(r.dir, "mark")}, r.args...)...)
		assert.Equal(t, exitOK, status, stderr)
	}
	assertOnly(t, r.dir, "kek", "ring", "ring.lock")
}

// station is a gateway that looks at the keyring every hour.
type station struct {
	follower *keyring.Follower
	*rig     // of keyring check, beside it
}

func (s *station) follow(t *testing.T, name string) {
	t.Helper()
	s.args = append([]string{"--keyring", name}, s.args[2:]...)
	f := keyring.File{Name: name, KEK: keyring.KEKFile{Name: s.args[3]}}
	var err error
	s.follower, err = f.Follow(t.Context(), s.now())
	require.NoError(t, err)
}

// says returns what keyring check, Health and Stale say.
func (s *station) says(t *testing.T) string {
	t.Helper()
	_, err := s.follower.Refresh(t.Context(), s.now())
	require.NoError(t, err, "nothing is ever wrong with the file")
	status, d := s.check(t)
	found := d.Status
	if len(d.Findings) > 0 {
		found = d.Findings[0].Name
	}
	health := "well"
	if err := s.follower.Health(s.now()); err != nil {
		health = strings.Trim(strings.Fields(err.Error())[1], ":")
	}
	return fmt.Sprintf("%d %-15s  %-8s  %-5v", status, found, health, s.follower.Stale(s.now()))
}

// opens reports whether what one gateway mints the other one opens.
func (s *station) opens(from *station) bool {
	sealer := token.Sealer{Ring: from.follower.Ring(), Now: from.now}
	minted, err := sealer.Create(claims.Claims{RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6", UserID: "u"})
	if err != nil {
		return false
	}
	opener := token.Opener{Ring: s.follower.Ring(), Now: s.now}
	return opener.OpenWithoutSpending(context.Background(), new(token.Session), minted.Token) == nil
}

// Two gateways, one of which is given the file itself and not its directory, so
// that it never changes there; and then a rotator that dies. What is said of
// that, hour by hour, until both are mended and after.
func TestFrozenFileAndDeadRotator(t *testing.T) {
	rotator := newRig(t, "--period", "24h", "--lead", "2h")
	frozen := filepath.Join(rotator.dir, "frozen")
	require.NoError(t, os.Link(rotator.args[1], frozen)) // what the mount shows
	now := testNow
	clock := func() time.Time { return now }
	rotator.now = clock
	a := &station{rig: &rig{newFake(t), rotator.dir, rotator.args}}
	b := &station{rig: &rig{newFake(t), rotator.dir, rotator.args}}
	a.now, b.now = clock, clock
	a.follow(t, rotator.args[1])
	b.follow(t, frozen)

	var out strings.Builder
	header := fmt.Sprintf("%4s  %-35s  %-35s  %s\n", "hour", "A: check, Health, Stale", "B, whose file is frozen: the same", "B opens A's tokens")
	out.WriteString(header)
	last := ""
	for hour := range 110 {
		now = testNow.Add(time.Duration(hour) * time.Hour)
		event := ""
		switch hour {
		case 50:
			event = "\nB is given the directory.\n"
			b.follow(t, rotator.args[1])
		case 60:
			event = "\nThe rotator dies.\n"
		case 100:
			event = "\nThe rotator runs again.\n"
		}
		if hour < 60 || hour >= 100 {
			rotator.change(t, "rotate")
		}
		line := fmt.Sprintf("%-35s  %-35s  %v\n", a.says(t), b.says(t), b.opens(a))
		if line != last || event != "" {
			fmt.Fprintf(&out, "%s%4d  %s", event, hour, line)
		}
		last = line
	}
	golden(t, "keyring-check.txt", out.String())
}

package main

import (
	"context"
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
	"github.com/seed17cb2b26/chattoken/vectors"
)

func TestExamine(t *testing.T) {
	const day = 24 * time.Hour
	due := testNow.Add(30 * day)
	set := func(p keyring.Policy) func(*keyring.Ring) error {
		return func(r *keyring.Ring) error { return r.SetPolicy(testNow, p) }
	}
	tests := []struct {
		name    string
		now     time.Time
		change  func(*keyring.Ring) error
		status  severity
		finding string
		text    string
	}{
		{"fresh", testNow, nil, exitOK, "", ""},
		{"just before it is due", due.Add(-time.Second), nil, exitOK, "", ""},
		{"due", due, nil, exitOK, "pending-missing", "the next key has been due since 2022-04-15 04:43:09"},
		{"at the end of grace", due.Add(2 * time.Hour), nil, exitOK, "pending-missing", ""},
		{"overdue", due.Add(2*time.Hour + time.Second), nil, exitRefused, "overdue", "the next key has been due for 2h0m1s"},
		{"a lead before others may go on", due.Add(30*day - time.Hour - time.Second), nil, exitRefused, "overdue", ""},
		{"within the lead", due.Add(30*day - time.Hour), nil, exitTrouble, "expires-soon", "from 2022-05-15 04:43:09 on, other hosts may mint under it"},
		{"long after", due.Add(1000 * day), nil, exitTrouble, "expires-soon", ""},
		{"a clock that was ahead", testNow, func(r *keyring.Ring) error {
			_, err := r.Rotate(testNow.Add(100 * day))
			return err
		}, exitRefused, "far-ahead", "there is no rotation before 2022-06-24 05:43:09"},
		{"a shorter period", testNow, set(keyring.Policy{Period: day}), exitRefused, "far-ahead", "there is no rotation before 2022-04-15 04:43:09"},
		{"no time for distribution", testNow, set(keyring.Policy{Lead: 15 * time.Second}), exitRefused, "policy", "lead is 15s, which leaves 9s"},
		{"just enough time", testNow, set(keyring.Policy{Lead: 16 * time.Second}), exitOK, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRing(t)
			if test.change != nil {
				require.NoError(t, test.change(r))
			}
			var d diagnosis
			d.examine(r, test.now)
			assert.Equal(t, test.status, d.Status)
			if test.finding == "" {
				assert.Empty(t, d.Findings)
				return
			}
			require.Len(t, d.Findings, 1)
			assert.Equal(t, test.finding, d.Findings[0].Name)
			assert.Contains(t, d.Findings[0].Text, test.text)
			assert.Contains(t, checkUsage, " "+test.finding+" ", "the help says what it is")
			if test.change == nil {
				assert.Equal(t, timestamp(due), d.Due)
				assert.Equal(t, test.status != exitOK, d.Overdue > 0)
			}
		})
	}
}

func TestExamineForm1(t *testing.T) {
	v, err := vectors.Read()
	require.NoError(t, err)
	kek, err := keyring.ParseKEK(v.Rings[0].KEK)
	require.NoError(t, err)
	r, err := keyring.Load(t.Context(), kek, v.Rings[0].Sealed, keyring.Config{})
	require.NoError(t, err)
	var d diagnosis
	d.examine(r, time.Unix(v.Rings[0].Now, 0))
	assert.EqualValues(t, exitRefused, d.Status)
	assert.Contains(t, d.String(), "serial 1, form 1, warning\nform-1: it names no context")
}

func TestPolicyThatCannotWork(t *testing.T) {
	var d diagnosis
	d.examinePolicy(keyring.Policy{MaxTTL: 64 * time.Second, ClockSkew: time.Minute, Lead: time.Hour})
	require.Len(t, d.Findings, 1)
	assert.Contains(t, d.Findings[0].Text, "max-ttl is 1m4s, and clocks may be 1m0s apart")
}

// station is a gateway that looks at a keyring every hour.
type station struct {
	keyring.File
	follower *keyring.Follower
}

func follow(t *testing.T, f keyring.File, now time.Time) *station {
	t.Helper()
	follower, err := f.Follow(t.Context(), now)
	require.NoError(t, err)
	return &station{f, follower}
}

// says returns what keyring check, Health and Stale say.
func (s *station) says(t *testing.T, now time.Time) string {
	t.Helper()
	_, err := s.follower.Refresh(t.Context(), now)
	require.NoError(t, err, "nothing is ever wrong with the file")
	ring, err := s.Inspect(t.Context())
	require.NoError(t, err)
	var d diagnosis
	d.examine(ring, now)
	found := d.Status.String()
	if len(d.Findings) > 0 {
		found = d.Findings[0].Name
	}
	health := "well"
	if err := s.follower.Health(now); err != nil {
		health = strings.Trim(strings.Fields(err.Error())[1], ":")
	}
	return fmt.Sprintf("%d %-15s  %-8s  %-6v", d.Status, found, health, s.follower.Stale(now))
}

// opens reports whether what one gateway mints the other one opens.
func (s *station) opens(from *station, now time.Time) bool {
	clock := func() time.Time { return now }
	sealer := token.Sealer{Ring: from.follower.Ring(), Now: clock}
	minted, err := sealer.Create(claims.Claims{RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6", UserID: "u"})
	if err != nil {
		return false
	}
	opener := token.Opener{Ring: s.follower.Ring(), Now: clock}
	return opener.OpenWithoutSpending(context.Background(), new(token.Session), minted.Token) == nil
}

// Gateway B is given the keyring file itself, not its directory, so that it
// never sees a new one. Later the rotator dies. The golden file is what the
// gateways say, hour by hour, until both are mended and after.
func TestFrozenFileAndDeadRotator(t *testing.T) {
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	dir := t.TempDir()
	file := keyring.File{Name: filepath.Join(dir, "ring"), KEK: kek}
	file.Config.Policy = keyring.Policy{Period: 24 * time.Hour, Lead: 2 * time.Hour}
	ring, err := file.Create(t.Context(), testNow)
	require.NoError(t, err)
	frozen := file
	frozen.Name = filepath.Join(dir, "frozen")
	require.NoError(t, os.Link(file.Name, frozen.Name)) // what the mount shows
	a, b := follow(t, file, testNow), follow(t, frozen, testNow)

	var out strings.Builder
	fmt.Fprintf(&out, "%4s  %-35s  %-35s  %s\n", "hour", "A: check, Health, Stale", "B, whose file is frozen: the same", "B opens A's tokens")
	last := ""
	for hour := range 110 {
		now := testNow.Add(time.Duration(hour) * time.Hour)
		event := ""
		switch hour {
		case 50:
			event = "\nB is given the directory.\n"
			b = follow(t, file, now)
		case 60:
			event = "\nThe rotator dies.\n"
		case 100:
			event = "\nThe rotator runs again.\n"
		}
		if hour < 60 || hour >= 100 {
			changed, err := ring.Rotate(now)
			require.NoError(t, err)
			if changed {
				require.NoError(t, file.Save(t.Context(), ring))
			}
		}
		line := fmt.Sprintf("%s  %s  %v\n", a.says(t, now), b.says(t, now), b.opens(a, now))
		if line != last || event != "" {
			fmt.Fprintf(&out, "%s%4d  %s", event, hour, line)
		}
		last = line
	}
	golden(t, "keyring-check.txt", out.String())
}

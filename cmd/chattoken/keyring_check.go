package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

const checkUsage = `Usage: chattoken keyring check [--output text | json] [flags]

Says if new keys get here in time. Run it as the user, and with the files, of
the process that uses the keyring. Exit status, and findings:

  0   pending-missing     the next key is due; rotate should publish it soon
  1   overdue             the next key should be here. Nobody rotates, or this
                          isn't the file that is rotated: perhaps it is mounted
                          as a file, not in its directory
      far-ahead           the last key seals later than a period from now, and
                          there is no rotation until then
      policy              if clocks are as far apart as allowed, no token opens;
                          or the lead is too short to bring a new keyring to all
                          hosts
      form-1              it names no context, so it may be another deployment's
  2   expires-soon        overdue, and within the lead other hosts may mint
                          under a key that isn't here
      other-context       the keyring of another deployment
      high-water-ahead    an older keyring than was here before
      unusable            the keyring can't be loaded
  3                       wrong usage: nothing was checked

A key is overdue twice the lead after it was due, or half a period if that is
less. So rotate at least once in a lead. check writes no --high-water file.

` + keyUsage

// severity is how bad a finding is, as an exit status.
type severity int

var severities = [...]string{exitOK: "ok", exitRefused: "warning", exitTrouble: "critical"}

func (s severity) String() string { return severities[s] }

func (s severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// statusError is the exit status of a result that has been printed.
type statusError int

func (e statusError) Error() string { return "status " + severity(e).String() }

// finding is a problem with a keyring.
type finding struct {
	Name     string   `json:"name"`
	Severity severity `json:"severity"`
	Text     string   `json:"text"`
}

// diagnosis is the findings about a keyring. If it couldn't be loaded, JSON
// doesn't have Serial, Form and Due.
type diagnosis struct {
	Status   severity  `json:"status"`
	Serial   uint64    `json:"serial,omitempty"`
	Form     int       `json:"form,omitempty"`
	Due      string    `json:"nextKeyDue,omitempty"`
	Overdue  int64     `json:"overdueInSeconds"`
	Findings []finding `json:"findings"`
}

func (p *process) check(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	output, err := a.output()
	if err != nil {
		return err
	}
	d, err := p.diagnose(a)
	if err != nil {
		return err
	}
	if output == "json" {
		err = p.printJSON(d)
	} else {
		err = p.print(d.String())
	}
	if err == nil && d.Status != exitOK {
		err = statusError(d.Status)
	}
	return err
}

// diagnose returns an error for wrong usage only.
func (p *process) diagnose(a *arguments) (diagnosis, error) {
	d := diagnosis{Findings: []finding{}}
	f, err := p.file(a, false)
	if usage := usageError(""); errors.As(err, &usage) {
		return d, err
	}
	var ring *keyring.Ring
	if err == nil {
		ring, err = f.Inspect(context.Background())
	}
	if err != nil {
		d.add(notLoaded(err), exitTrouble, harmless(err.Error()))
		return d, nil
	}
	d.examine(ring, p.now())
	return d, nil
}

func notLoaded(err error) string {
	switch {
	case errors.Is(err, keyring.ErrContext):
		return "other-context"
	case errors.Is(err, keyring.ErrRollback):
		return "high-water-ahead"
	}
	return "unusable"
}

func (d *diagnosis) add(name string, s severity, text string) {
	d.Findings = append(d.Findings, finding{name, s, text})
	d.Status = max(d.Status, s)
}

// examine adds the findings about a keyring that has been loaded.
func (d *diagnosis) examine(r *keyring.Ring, now time.Time) {
	policy, due, late := r.Policy(), due(r, now), r.Overdue(now)
	d.Serial, d.Form, d.Due, d.Overdue = r.Serial(), r.Form(), timestamp(due), int64(late/time.Second)
	switch {
	case late > 0 && late+policy.Lead >= policy.Period:
		d.add("expires-soon", exitTrouble, fmt.Sprintf(
			"the next key has been due for %v; from %s on, other hosts may mint under it",
			late.Truncate(time.Second), dateTime(due.Add(policy.Period))))
	case late > 0:
		d.add("overdue", exitRefused, fmt.Sprintf("the next key has been due for %v", late.Truncate(time.Second)))
	case !now.Before(due):
		d.add("pending-missing", exitOK, "the next key has been due since "+dateTime(due))
	case r.FarAhead(now):
		d.add("far-ahead", exitRefused, fmt.Sprintf("there is no rotation before %s; see \"The rotator's clock was ahead\" in KEYS.md", dateTime(due)))
	}
	if d.Form == 1 {
		d.add("form-1", exitRefused, "it names no context; see \"Sealed form 2\" in KEYS.md")
	}
	d.examinePolicy(policy)
}

// leastTime is the minimum time to bring a new keyring to all hosts.
const leastTime = 10 * time.Second

func (d *diagnosis) examinePolicy(policy keyring.Policy) {
	if policy.MaxTTL < policy.ClockSkew+token.MinTTL {
		d.add("policy", exitRefused, fmt.Sprintf("max-ttl is %v, and clocks may be %v apart: raise max-ttl", policy.MaxTTL, policy.ClockSkew))
	}
	if left := policy.Lead - policy.ClockSkew - time.Second; left < leastTime {
		d.add("policy", exitRefused, fmt.Sprintf("lead is %v, which leaves %v to bring a new keyring to all hosts: raise lead", policy.Lead, left))
	}
}

// due returns when the next key is due: when the last one starts to seal.
func due(r *keyring.Ring, now time.Time) (t time.Time) {
	for k := range r.Keys(now) {
		switch {
		case k.State == keyring.Revoked:
		case k.Activates.IsZero():
			t = k.Created
		default:
			t = k.Activates
		}
	}
	return t
}

func (d diagnosis) String() string {
	var b strings.Builder
	if d.Serial > 0 {
		fmt.Fprintf(&b, "serial %d, form %d, ", d.Serial, d.Form)
	}
	fmt.Fprintf(&b, "%v\n", d.Status)
	for _, f := range d.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Text)
	}
	return b.String()
}

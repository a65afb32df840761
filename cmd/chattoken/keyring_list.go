package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
)

const listUsage = `Usage: chattoken keyring list [--output text | json] [flags]

Shows the keys of a keyring. The primary key seals, and the pending one will.
Retired keys only open. Expired and revoked keys do neither. Times are UTC. list
writes no --high-water file.

` + keyUsage

// listing is a keyring without secrets.
type listing struct {
	Serial    uint64      `json:"serial"`
	Form      int         `json:"form"`
	MaxTTL    int64       `json:"maxTtlInSeconds"`
	ClockSkew int64       `json:"clockSkewInSeconds"`
	Period    int64       `json:"periodInSeconds"`
	Lead      int64       `json:"leadInSeconds"`
	Overdue   int64       `json:"overdueInSeconds"`
	FarAhead  bool        `json:"farAhead"`
	Keys      []listedKey `json:"keys"`
}

// listedKey is a key without its secret. JSON has only the times that are set.
type listedKey struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Created   string `json:"created,omitempty"`
	Activates string `json:"activates,omitempty"`
	Retires   string `json:"retires,omitempty"`
	Expires   string `json:"expires,omitempty"`
	Revoked   string `json:"revoked,omitempty"`
}

func (p *process) list(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	output, err := a.output()
	if err != nil {
		return err
	}
	f, err := p.file(a, false)
	if err != nil {
		return err
	}
	ring, err := f.Inspect(context.Background())
	if err != nil {
		return naming(f, err)
	}
	if output == "json" {
		return p.printJSON(listRing(ring, p.now()))
	}
	return p.print(table(ring, p.now()))
}

// output returns the value of --output.
func (a *arguments) output() (string, error) {
	output := a.value("output", "text")
	if output != "text" && output != "json" {
		return "", usageError("--output takes text or json")
	}
	return output, nil
}

func listRing(r *keyring.Ring, now time.Time) listing {
	policy := r.Policy()
	l := listing{
		Serial:    r.Serial(),
		Form:      r.Form(),
		MaxTTL:    int64(policy.MaxTTL / time.Second),
		ClockSkew: int64(policy.ClockSkew / time.Second),
		Period:    int64(policy.Period / time.Second),
		Lead:      int64(policy.Lead / time.Second),
		Overdue:   int64(r.Overdue(now) / time.Second),
		FarAhead:  r.FarAhead(now),
	}
	for k := range r.Keys(now) {
		l.Keys = append(l.Keys, listedKey{
			ID:        k.ID.String(),
			State:     k.State.String(),
			Created:   optional(k.Created, timestamp, ""),
			Activates: optional(k.Activates, timestamp, ""),
			Retires:   optional(k.Retires, timestamp, ""),
			Expires:   optional(k.Expires, timestamp, ""),
			Revoked:   optional(k.Revoked, timestamp, ""),
		})
	}
	return l
}

func optional(t time.Time, format func(time.Time) string, absent string) string {
	if t.IsZero() {
		return absent
	}
	return format(t)
}

// table returns a ring for people, in lines of at most 80 characters.
func table(r *keyring.Ring, now time.Time) string {
	const row = "%-8s  %-7s  %-19s  %-19s  %s\n"
	var b strings.Builder
	policy := r.Policy()
	fmt.Fprintf(&b, "serial %d, form %d, max-ttl %v, clock-skew %v, period %v, lead %v\n\n",
		r.Serial(), r.Form(), policy.MaxTTL, policy.ClockSkew, policy.Period, policy.Lead)
	fmt.Fprintf(&b, row, "ID", "STATE", "SEALS FROM", "SEALS UNTIL", "OPENS UNTIL")
	for k := range r.Keys(now) {
		if k.State == keyring.Revoked {
			fmt.Fprintf(&b, "%-8s  %-7s  at %s\n", k.ID, k.State, dateTime(k.Revoked))
			continue
		}
		fmt.Fprintf(&b, row, k.ID, k.State,
			optional(k.Activates, dateTime, "-"), optional(k.Retires, dateTime, "-"), optional(k.Expires, dateTime, "-"))
	}
	if d := r.Overdue(now); d > 0 {
		fmt.Fprintf(&b, "\nThere is no next key. It has been due for %v: rotate is overdue.\n", d.Truncate(time.Second))
	} else if !now.Before(due(r, now)) {
		b.WriteString("\nThere is no next key: rotate is due.\n")
	} else if r.FarAhead(now) {
		fmt.Fprintf(&b, "\nFar ahead: there is no rotation before %s.\n", dateTime(due(r, now)))
	}
	return b.String()
}

func dateTime(t time.Time) string { return t.UTC().Format(time.DateTime) }

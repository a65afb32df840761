package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
)

func keyringCommands() []command {
	return []command{
		{"keyring make-kek", "make a key to seal keyrings under (KEK)", makeKEKUsage, nil, (*process).makeKEK},
		{"keyring init", "make a keyring", initUsage, with(policyFlags), (*process).initKeyring},
		{"keyring list", "show the keys, their states and times", listUsage, with(map[string]arity{"output": one}), (*process).list},
		{checkCommand, "say whether new keys get here in time", checkUsage, with(map[string]arity{"output": one}), (*process).check},
		{"keyring rotate", "rotate the keys if it is time", rotateUsage, with(map[string]arity{"now": none}), (*process).rotate},
		{"keyring revoke", "make keys open nothing any more", revokeUsage, keyFlags, (*process).revoke},
		{"keyring rewrap", "seal a keyring under another KEK", rewrapUsage, with(map[string]arity{newKEKFlags.file: one, newKEKFlags.command: one}), (*process).rewrap},
		{"keyring set", "change the policy, or raise the serial", setUsage, with(policyFlags, map[string]arity{"serial": one}), (*process).set},
	}
}

const checkCommand = "keyring check"

// with returns the key flags and more.
func with(more ...map[string]arity) map[string]arity {
	flags := maps.Clone(keyFlags)
	for _, m := range more {
		maps.Copy(flags, m)
	}
	return flags
}

func keyringUsage() string {
	return "Usage: chattoken keyring COMMAND ...\n\nCommands:\n" + summaries(keyringCommands()) + `
See chattoken help keyring COMMAND for more. None of them shows a secret, and
all but list and check print nothing. Exit status: 0 if the keyring is as it was
to be, also where there was nothing to do; 1 if revoke was given an ID that the
keyring does not have; 2 otherwise; check has its own. After status 2 the
keyring is as it was, or, after an error in writing it, perhaps as it was to be.
Of two that change a keyring at the same time, one fails; run it again.

On Unix, the KEK and the --high-water file must belong to root or to the user
that runs the command, and so must lock files, and symbolic links on the way to
them and to a keyring that is changed. Become the user that the files belong to.
`
}

func (p *process) keyring(*arguments) error {
	return usageError("unknown command; see chattoken help keyring")
}

const makeKEKUsage = `Usage: chattoken keyring make-kek FILE

Makes a fresh key-encryption key (KEK) in a new file that only its owner can
read. It consists of one line, which an environment variable can hold as well.
`

func (p *process) makeKEK(a *arguments) error {
	if len(a.operands) != 1 {
		return usageError("one FILE is needed")
	}
	kek, err := keyring.GenerateKEK()
	if err != nil {
		return err
	}
	return kek.WriteFile(a.operands[0])
}

const initUsage = `Usage: chattoken keyring init --keyring FILE [flags]

Makes a keyring of two fresh keys in a new file, sealed under a KEK that exists.
Its serial is 1, or the next one after that in the --high-water file.

Policy, in units such as 90s, 5m or 720h:
  --max-ttl DURATION      the longest validity of a token, at least 5s more than
                          the clock skew; 60s if not given
  --clock-skew DURATION   how far apart clocks may be; 5s if not given
  --period DURATION       how long a key seals; 720h if not given
  --lead DURATION         how long a key is known before it seals, within which
                          every host must have the new keyring; 1h if not given

` + keyUsage

func (p *process) initKeyring(a *arguments) error {
	if err := a.ownFile(); err != nil {
		return err
	}
	f, err := p.file(a, false)
	if err != nil {
		return err
	}
	if f.Config.Policy, err = a.policy(); err != nil {
		return err
	}
	_, err = f.Create(context.Background(), p.now())
	return err
}

const rotateUsage = `Usage: chattoken keyring rotate [--now] [flags]

Applies the policy: publishes the next key if there is none, and drops those
that have expired. Until that is due it does nothing, so let cron run it, every
minute, on one host.

  --now                   let the next key seal from now on, ahead of its time,
                          and publish another one. It is refused until the next
                          key has been published for the lead: a host that does
                          not have it yet would refuse its tokens. So first make
                          sure, by list, that all hosts have this serial. No
                          token is refused for it: the old key goes on opening.
                          If that key leaked, revoke it instead

` + keyUsage

func (p *process) rotate(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	return p.change(a, func(r *keyring.Ring) error {
		now := p.now()
		if a.has("now") {
			return tooSoon(r, now, r.RotateNow(now))
		}
		_, err := r.Rotate(now)
		return err
	})
}

// tooSoon says of an error of RotateNow how long to wait.
func tooSoon(r *keyring.Ring, now time.Time, err error) error {
	if !errors.Is(err, keyring.ErrTooSoon) {
		return err
	}
	for k := range r.Keys(now) {
		if k.State == keyring.Pending {
			return fmt.Errorf("%w: the next key was published at %s; wait until %s",
				err, dateTime(k.Created), dateTime(k.Created.Add(r.Policy().Lead)))
		}
	}
	return fmt.Errorf("%w: no next key is published; rotate without --now first, and wait for the lead, %v", err, r.Policy().Lead)
}

const revokeUsage = `Usage: chattoken keyring revoke ID ... [flags]

Makes keys open nothing any more: every token under them is refused, on each
host from when it has the new keyring. In place of the key that seals, the next
one does at once. IDs are those that list shows; they depend on the context.
An ID that the keyring does not have is named, and the others are revoked; the
exit status is then 1.

` + keyUsage

func (p *process) revoke(a *arguments) error {
	if len(a.operands) == 0 {
		return usageError("no ID given; see chattoken keyring list")
	}
	var unknown []string
	err := p.change(a, func(r *keyring.Ring) error {
		for _, text := range a.operands {
			id, err := keyring.ParseID(text)
			if err == nil {
				err = r.Revoke(p.now(), id)
			}
			switch {
			case errors.Is(err, keyring.ErrUnknownKey):
				unknown = append(unknown, text)
			case err != nil:
				return err
			}
		}
		return nil
	})
	if err == nil && len(unknown) > 0 {
		err = &refusedError{"the keyring has no key " + strings.Join(unknown, ", ") + "; all others that were named are revoked"}
	}
	return err
}

const setUsage = `Usage: chattoken keyring set [flags]

Changes the policy. --period and --lead count from the next key on. --max-ttl
and --clock-skew can only be raised, and have to be raised in every guard first.

  --max-ttl DURATION
  --clock-skew DURATION
  --period DURATION
  --lead DURATION         see chattoken help keyring init
  --serial N              raise the serial to N, if it is lower: for a keyring
                          from a backup, to above what any host has seen. One
                          step is at most 4294967296

` + keyUsage

func (p *process) set(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	policy, err := a.policy()
	if err != nil {
		return err
	}
	serial, err := strconv.ParseUint(a.value("serial", "1"), 10, 63)
	if err != nil {
		return usageError("--serial takes a number")
	}
	return p.change(a, func(r *keyring.Ring) error {
		if err := r.SetPolicy(p.now(), policy); err != nil {
			return err
		}
		return r.RaiseSerial(serial)
	})
}

// change loads a keyring, and saves it if f changes it.
func (p *process) change(a *arguments, f func(*keyring.Ring) error) error {
	file, err := p.file(a, false)
	if err != nil {
		return err
	}
	ring, err := load(file)
	if err != nil {
		return err
	}
	serial := ring.Serial()
	if err := f(ring); err != nil {
		return err
	}
	if ring.Serial() == serial {
		return nil
	}
	return file.Save(context.Background(), ring)
}

const rewrapUsage = `Usage: chattoken keyring rewrap --keyring FILE [flags]

Seals a keyring under another KEK; the keys stay. Hosts that were not given the
new KEK, beside the old one or since, go on with the keys that they have. They
must have it within the lead: see KEYS.md.

  --new-kek-file FILE     the new KEK
  --new-kek-command "COMMAND ARGUMENT ..."
                          a program that has it. Without these two, it is in the
                          environment variable CHATTOKEN_NEW_KEK

` + keyUsage

func (p *process) rewrap(a *arguments) error {
	if err := a.ownFile(); err != nil {
		return err
	}
	f, err := p.file(a, false)
	if err != nil {
		return err
	}
	kek, err := p.kek(a, newKEKFlags)
	if err != nil {
		return err
	}
	f.KEK = rewrapping{keyring.KEKs{f.KEK, kek}, kek}
	ring, err := load(f)
	if err != nil {
		return err
	}
	return f.Save(context.Background(), ring)
}

// rewrapping is a KEK that wraps with the new one, and asks that last to
// unwrap: a helper would complain about what the old one has wrapped.
type rewrapping struct {
	keyring.KEKs
	next keyring.KEK
}

func (r rewrapping) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	return r.next.Wrap(ctx, dataKey)
}

// ownFile returns an error unless the keyring is named by a flag, and nothing
// else is given.
func (a *arguments) ownFile() error {
	if !a.has("keyring") {
		return usageError("--keyring is needed")
	}
	return a.noOperands()
}

var policyFlags = map[string]arity{"max-ttl": one, "clock-skew": one, "period": one, "lead": one}

// policy returns what the flags say, and zero for what they do not.
func (a *arguments) policy() (keyring.Policy, error) {
	var p keyring.Policy
	for name, field := range map[string]*time.Duration{
		"max-ttl": &p.MaxTTL, "clock-skew": &p.ClockSkew, "period": &p.Period, "lead": &p.Lead,
	} {
		if !a.has(name) {
			continue
		}
		d, err := time.ParseDuration(a.value(name, ""))
		if err != nil || d <= 0 {
			return keyring.Policy{}, usageError("--" + name + " takes a duration such as 90s, 5m or 720h")
		}
		*field = d
	}
	return p, nil
}

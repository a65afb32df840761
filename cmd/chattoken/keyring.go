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
		{"keyring make-kek", "make a key that seals keyrings (KEK)", makeKEKUsage, nil, (*process).makeKEK},
		{"keyring init", "make a keyring", initUsage, with(policyFlags), (*process).initKeyring},
		{"keyring list", "show the keys, their states and times", listUsage, with(map[string]arity{"output": one}), (*process).list},
		{checkCommand, "say if new keys get here in time", checkUsage, with(map[string]arity{"output": one}), (*process).check},
		{"keyring rotate", "rotate the keys if it is time", rotateUsage, with(map[string]arity{"now": none}), (*process).rotate},
		{"keyring revoke", "revoke keys, and all tokens under them", revokeUsage, keyFlags, (*process).revoke},
		{"keyring rewrap", "seal a keyring under another KEK", rewrapUsage, with(map[string]arity{newKEKFlags.file: one, newKEKFlags.command: one}), (*process).rewrap},
		{"keyring set", "change the policy, or raise the serial", setUsage, with(policyFlags, map[string]arity{"serial": one}), (*process).set},
	}
}

const checkCommand = "keyring check"

// with returns keyFlags and more.
func with(more ...map[string]arity) map[string]arity {
	flags := maps.Clone(keyFlags)
	for _, m := range more {
		maps.Copy(flags, m)
	}
	return flags
}

func keyringUsage() string {
	return "Usage: chattoken keyring COMMAND ...\n\nCommands:\n" + summaries(keyringCommands()) + `
See chattoken help keyring COMMAND for more. No command shows a secret. Only
list and check print anything. Exit status, except of check:

  0  success, or nothing to do
  1  revoke was given an ID that the keyring doesn't have
  2  failure: the keyring is as it was. After an error in writing it, it may
     have changed

If two commands change a keyring at the same time, one of them fails. Run it
again.

On Unix, the user that runs the command, or root, must own the KEK, the
--high-water file, the lock files, and symbolic links on the way to them or to a
keyring that is changed. So become the user that owns the files.
`
}

func (p *process) keyring(*arguments) error {
	return usageError("unknown command; see chattoken help keyring")
}

const makeKEKUsage = `Usage: chattoken keyring make-kek FILE

Makes a key-encryption key (KEK) in a new file that only its owner can read. The
file is one line, which an environment variable can hold, too.
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

Makes a keyring of two new keys in a new file, sealed under a KEK that exists.
Its serial is 1, or one more than in the --high-water file.

Policy, in units such as 90s, 5m or 720h:
  --max-ttl DURATION      how long a token may be valid, at least 5s more than
                          the clock skew; 60s if not given
  --clock-skew DURATION   how far apart clocks may be; 5s if not given
  --period DURATION       how long a key seals; 720h if not given
  --lead DURATION         how long a key is published before it seals. In that
                          time every host must get the new keyring; 1h if not
                          given

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

Applies the policy: publishes the next key when it is due, and drops expired
keys. Otherwise it does nothing. Let cron run it every minute, on one host.

  --now                   let the next key seal now, before its time, and
                          publish another one. It fails until the next key has
                          been published for the lead. First see with list that
                          all hosts have this serial: a host without the key
                          would refuse its tokens. Tokens under the old key
                          still open. If that key leaked, revoke it instead

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

// tooSoon adds to an error of RotateNow how long to wait.
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

Revokes keys: a host refuses all their tokens as soon as it has the new keyring.
If the key that seals is revoked, the next one seals at once. The IDs are those
that list shows. They depend on the context. If the keyring doesn't have an ID,
the others are revoked, an error names it, and the exit status is 1.

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
		err = &refusedError{"the keyring has no key " + strings.Join(unknown, ", ") + "; the others that you named are revoked"}
	}
	return err
}

const setUsage = `Usage: chattoken keyring set [flags]

Changes the policy. --period and --lead apply to the next key and those after
it; rotate --now goes by the new --lead at once. --max-ttl and --clock-skew can
only be raised. First raise them in every guard.

  --max-ttl DURATION
  --clock-skew DURATION
  --period DURATION
  --lead DURATION         see chattoken help keyring init
  --serial N              raise a lower serial to N. A keyring from a backup
                          needs a serial above all that hosts have seen. One
                          step is 4294967296 at most

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

// change loads a keyring, calls f, and saves the keyring if f has changed it.
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

Seals a keyring under another KEK. The keys stay. Hosts without the new KEK go
on with the keys that they have, and must get the KEK within the lead: see
KEYS.md.

  --new-kek-file FILE     the new KEK
  --new-kek-command "COMMAND ARGUMENT ..."
                          a program that has the new KEK. If neither is given,
                          the environment variable CHATTOKEN_NEW_KEK has it

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
	f.KEK = &rewrapping{keyring.KEKs{f.KEK, kek}, kek}
	ring, err := load(f)
	if err != nil {
		return err
	}
	return f.Save(context.Background(), ring)
}

// rewrapping wraps with the new KEK, which alone must open what it has wrapped.
// Before that, it asks the new one last, because a helper complains about what
// another KEK has wrapped.
type rewrapping struct {
	keyring.KEKs
	next keyring.KEK
}

func (r *rewrapping) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	r.KEKs = keyring.KEKs{r.next}
	return r.next.Wrap(ctx, dataKey)
}

// ownFile returns an error if --keyring is missing or there are operands.
func (a *arguments) ownFile() error {
	if !a.has("keyring") {
		return usageError("--keyring is needed")
	}
	return a.noOperands()
}

var policyFlags = map[string]arity{"max-ttl": one, "clock-skew": one, "period": one, "lead": one}

// policy returns the policy of the flags. Without its flag, a field is zero.
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

// Command chattoken mints and verifies chat tokens.
//
//	chattoken create-chat-token --room-identifier ARN --user-id ID ...
//	chattoken open [TOKEN | -]
//	chattoken keyring make-kek | init | list | check | rotate | revoke | rewrap | set
//	chattoken demo
//	chattoken help [COMMAND]
//	chattoken version
//
// create-chat-token takes the flags of "aws ivschat create-chat-token" and
// prints what that does. open verifies a token without spending it and prints
// its claims as JSON. keyring makes, shows and changes sealed keyrings.
// "chattoken help COMMAND" says the rest.
//
// The exit status is 0 for success; 1 for a token that was refused, a keyring
// that keyring check warns of, an unknown key of keyring revoke, or a
// demonstration that did not go as it says; 2 for wrong usage, and where there
// is no answer because a keyring or file could not be used. For keyring check
// wrong usage is 3, because 2 is an answer. Results go to standard output, all
// else to standard error. Neither shows a key, nor a token that it was not to
// print.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

func main() { os.Exit(newProcess(time.Now).run(os.Args[1:])) }

func newProcess(now func() time.Time) *process {
	return &process{os.Stdin, os.Stdout, os.Stderr, now}
}

// process is the clock and the standard files of a command.
type process struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
}

// The exit statuses.
const (
	exitOK      = 0
	exitRefused = 1
	exitTrouble = 2
	exitMisused = 3 // of keyring check
)

// command is a subcommand.
type command struct {
	name    string
	summary string // one line for the list of commands
	usage   string // the whole help text
	flags   map[string]arity
	run     func(*process, *arguments) error
}

func commands() []command {
	return []command{
		{"create-chat-token", "mint a token", createUsage, createFlags(), (*process).createChatToken},
		{"open", "verify a token without spending it, and print its claims", openUsage, keyFlags, (*process).open},
		{"keyring", "make, show and change sealed keyrings", keyringUsage(), nil, (*process).keyring},
		{"demo", "mint, show, open and refuse a token; stores nothing", demoUsage, nil, (*process).demo},
		{"version", "print the version", versionUsage, nil, (*process).version},
	}
}

// find returns the command that args begin with, whose name may be two words,
// and the rest of args.
func find(args []string) (c command, rest []string, err error) {
	for _, c := range slices.Concat(keyringCommands(), commands()) {
		name := strings.Fields(c.name)
		if len(args) >= len(name) && slices.Equal(args[:len(name)], name) {
			return c, args[len(name):], nil
		}
	}
	// The name is not repeated: it might be a token.
	return command{}, nil, usageError("unknown command; see chattoken help")
}

// run runs a command line and returns the exit status.
func (p *process) run(args []string) int {
	err := p.dispatch(args)
	var refused *refusedError
	var status statusError
	var misused misusedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &refused):
		p.report(err.Error())
		return exitRefused
	case errors.As(err, &misused):
		p.report(err.Error())
		return exitMisused
	}
	p.explain(err)
	return exitTrouble
}

func (p *process) dispatch(args []string) error {
	if len(args) == 0 {
		return usageError("no command given; see chattoken help")
	}
	switch args[0] {
	case "help", "-h", "--help":
		return p.help(args[1:])
	case "--version":
		args[0] = "version"
	}
	c, args, err := find(args)
	if err != nil {
		return err
	}
	err = p.perform(c, args)
	if usage := usageError(""); c.name == checkCommand && errors.As(err, &usage) {
		err = misusedError{err}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

func (p *process) perform(c command, args []string) error {
	a, err := parseArguments(args, c.flags)
	if err != nil {
		return err
	}
	if a.help {
		return p.print(c.usage)
	}
	return c.run(p, a)
}

// misusedError is wrong usage of a command whose status 2 is an answer.
type misusedError struct{ error }

// usageError is a command line that asks for nothing that there is. It does not
// contain what may be a secret.
type usageError string

func (e usageError) Error() string { return string(e) }

// refusedError is the answer that a token is not to be accepted, or that the
// demonstration failed.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// explain writes what went wrong to standard error. Of a request that is
// outside the limits it lists every field, one per line.
func (p *process) explain(err error) {
	var invalid *claims.ValidationError
	if !errors.As(err, &invalid) {
		p.report(err.Error())
		return
	}
	fmt.Fprintln(p.stderr, "chattoken: the request is outside the limits:")
	for _, f := range invalid.Fields {
		fmt.Fprintf(p.stderr, "  %s: %s\n", f.Name, f.Message)
	}
}

// report writes a line to standard error.
func (p *process) report(text string) {
	fmt.Fprintf(p.stderr, "chattoken: %s\n", harmless(text))
}

// harmless returns the text of an error without secrets. Where a token or a KEK
// was given in place of a file's name, the error of opening that file would
// show it.
func harmless(text string) string {
	if strings.Contains(text, keyring.KEKPrefix) || strings.Contains(text, token.Prefix) {
		return "a token or a KEK was given where it does not belong, perhaps for the name of a file"
	}
	return text
}

// print writes a result. All of it is written at once, so that there is never
// half a result where the process ends early.
func (p *process) print(text string) error {
	if _, err := io.WriteString(p.stdout, text); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

func (p *process) help(args []string) error {
	if len(args) == 0 {
		return p.print(overview())
	}
	c, rest, err := find(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError("help takes the name of one command")
	}
	return p.print(c.usage)
}

func overview() string {
	return "chattoken mints and verifies chat tokens.\n\nCommands:\n" + summaries(commands()) +
		"\nSee chattoken help COMMAND for more. Exit status: 0 done; 1 token refused, or\n" +
		"a warning of keyring check; 2 wrong usage, or no answer for another reason.\n"
}

func summaries(commands []command) string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-18s %s\n", c.name, c.summary)
	}
	return b.String()
}

const versionUsage = `Usage: chattoken version

Prints the version of the module, of the token format, and of Go.
`

func (p *process) version(a *arguments) error {
	if err := a.noOperands(); err != nil {
		return err
	}
	version, goVersion := "(unknown)", "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, goVersion = info.Main.Version, info.GoVersion
	}
	return p.print(fmt.Sprintf("chattoken %s, token format 1 (ct1_), %s\n", version, goVersion))
}

// Command chattoken mints and verifies chat tokens.
//
//	chattoken create-chat-token --room-identifier ARN --user-id ID ...
//	chattoken open [TOKEN | -]
//	chattoken keyring COMMAND
//	chattoken demo
//	chattoken help [COMMAND]
//	chattoken version
//
// create-chat-token takes the flags of "aws ivschat create-chat-token" and
// prints the same. open verifies a token without spending it and prints its
// claims as JSON. keyring makes, shows and changes sealed keyrings. "chattoken
// help COMMAND" has the details.
//
// The exit status is
//
//	0  success
//	1  open refused the token, keyring check warns, keyring revoke was given an
//	   unknown key, or a step of the demo failed
//	2  wrong usage, or a keyring or file can't be used
//	3  wrong usage of keyring check, for which 2 is an answer
//
// Results go to standard output, everything else to standard error. Neither
// shows a key. No error shows a token.
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
	summary string // for the list of commands
	usage   string // the help text
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

// find returns the command that args begin with, and the other args. The name
// of a command has one or two words.
func find(args []string) (c command, rest []string, err error) {
	for _, c := range slices.Concat(keyringCommands(), commands()) {
		name := strings.Fields(c.name)
		if len(args) >= len(name) && slices.Equal(args[:len(name)], name) {
			return c, args[len(name):], nil
		}
	}
	// The error does not repeat the name: it might be a token.
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

// usageError says what is wrong with a command line. It contains no argument
// that may be a secret.
type usageError string

func (e usageError) Error() string { return string(e) }

// refusedError is a negative answer, and ends with status 1.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// explain writes err to standard error. If a request is outside the limits,
// each field has a line.
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

// harmless returns the text of an error, or another text if that one would show
// a secret. If a token or a KEK is given as the name of a file, the error of
// opening the file has it.
func harmless(text string) string {
	if strings.Contains(text, keyring.KEKPrefix) || strings.Contains(text, token.Prefix) {
		return "a token or a KEK was given where it does not belong, perhaps as the name of a file"
	}
	return text
}

// print writes a result, in one call: a process that ends early leaves no half
// result.
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
		"\nSee chattoken help COMMAND for more. Exit status: 0 success; 1 a token is\n" +
		"refused, or keyring check warns; 2 failure.\n"
}

func summaries(commands []command) string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-18s %s\n", c.name, c.summary)
	}
	return b.String()
}

const versionUsage = `Usage: chattoken version

Prints the versions of chattoken, of the token format, and of Go.
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

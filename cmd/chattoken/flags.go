package main

import "strings"

// arity is how many values a flag takes.
type arity uint8

const (
	none arity = iota + 1
	one
	many // all words up to the next flag, possibly none
)

// arguments are the words after the command's name.
type arguments struct {
	flags    map[string][]string // values by name, without dashes
	operands []string            // neither flags nor values
	help     bool                // -h or --help; the rest wasn't parsed
}

// parseArguments parses the arguments of a command that has the known flags.
// Flags and operands may have any order. Package flag stops at the first
// operand, and has no flag with several words, such as --capabilities A B.
//
// A flag is --name value or --name=value. A value that begins with two dashes
// needs the second form. A flag given twice is an error, because it isn't clear
// which of the two counts. Errors contain no values.
func parseArguments(args []string, known map[string]arity) (*arguments, error) {
	a := &arguments{flags: make(map[string][]string)}
	for len(args) > 0 {
		switch arg := args[0]; {
		case arg == "-h" || arg == "--help":
			return &arguments{help: true}, nil
		case isFlag(arg):
			rest, err := a.parseFlag(args, known)
			if err != nil {
				return nil, err
			}
			args = rest
		default:
			a.operands = append(a.operands, arg)
			args = args[1:]
		}
	}
	return a, nil
}

// parseFlag parses the flag at the start of args, and its values.
func (a *arguments) parseFlag(args []string, known map[string]arity) (rest []string, err error) {
	name, value, inline := strings.Cut(strings.TrimPrefix(args[0], "--"), "=")
	args = args[1:]
	takes, ok := known[name]
	if !ok {
		return nil, unknownFlag(name, known)
	}
	if a.has(name) {
		return nil, usageError("--" + name + " is given twice")
	}
	if inline && takes == none {
		return nil, usageError("--" + name + " takes no value")
	}
	if inline {
		a.flags[name] = []string{value}
		return args, nil
	}
	n := takes.count(args)
	if takes == one && n == 0 {
		return nil, usageError("--" + name + " needs a value; if it begins with --, write --" + name + "=VALUE")
	}
	a.flags[name] = args[:n]
	return args[n:], nil
}

func isFlag(arg string) bool { return arg == "-h" || strings.HasPrefix(arg, "--") }

// count returns how many of args are values.
func (takes arity) count(args []string) int {
	if takes == none {
		return 0
	}
	n := 0
	for n < len(args) && !isFlag(args[n]) && (n == 0 || takes == many) {
		n++
	}
	return n
}

// unknownFlag returns an error. It has the name only if that can't be a secret.
// If the name is a flag in the API's spelling, it suggests the flag.
func unknownFlag(name string, known map[string]arity) error {
	if kebab := kebabCase(name); known[kebab] != 0 {
		return usageError("unknown flag; did you mean --" + kebab + "?")
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return usageError("unknown flag")
	}
	return usageError("unknown flag --" + name)
}

// kebabCase returns room-identifier for roomIdentifier, RoomIdentifier,
// room_identifier and ROOM_IDENTIFIER.
func kebabCase(name string) string {
	name = strings.ReplaceAll(name, "_", "-")
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	var b strings.Builder
	for i, r := range name {
		if i > 0 && 'A' <= r && r <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// value returns the value of a flag that takes one, or fallback if it isn't
// given.
func (a *arguments) value(name, fallback string) string {
	if v, ok := a.flags[name]; ok {
		return v[0]
	}
	return fallback
}

func (a *arguments) has(name string) bool {
	_, ok := a.flags[name]
	return ok
}

func (a *arguments) noOperands() error {
	if len(a.operands) > 0 {
		return usageError("unexpected argument; every value belongs to a flag")
	}
	return nil
}

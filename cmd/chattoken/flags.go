package main

import "strings"

// arity is how many values a flag takes.
type arity uint8

const (
	none arity = iota + 1
	one
	many // all words up to the next flag, possibly none
)

// arguments is what follows the command's name.
type arguments struct {
	flags    map[string][]string // values by name, without dashes; of those given
	operands []string            // all else
	help     bool                // -h or --help was given, and the rest was not read
}

// parseArguments reads the arguments of a command with these flags. Flags and
// operands may stand in any order. Package flag would stop at the first
// operand, and knows no --capabilities A B.
//
// A flag is --name value or --name=value; the second form is for values that
// begin with two dashes. Whoever gives a flag twice may expect that the last one
// counts or that both do, so it is an error. Errors contain no values.
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

// parseFlag reads the flag that args begin with, and its values.
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
		return nil, usageError("--" + name + " needs a value; write --" + name + "=VALUE where that begins with --")
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

// unknownFlag repeats the name only if it can be one. It might be a token.
// Members of the API's requests are spelt otherwise than flags, and it says so.
func unknownFlag(name string, known map[string]arity) error {
	if kebab := kebabCase(name); known[kebab] != 0 {
		return usageError("unknown flag; did you mean --" + kebab + "?")
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return usageError("unknown flag")
	}
	return usageError("unknown flag --" + name)
}

// kebabCase returns roomIdentifier, RoomIdentifier, room_identifier and
// ROOM_IDENTIFIER as room-identifier.
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

// value returns the value of a flag that takes one, or fallback.
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

// Package shorthand reads what the aws command line accepts in place of a JSON
// request: [Parse] reads a map in its shorthand, and [Override] replaces
// members of an object by flags.
package shorthand

import (
	"errors"
	"strings"
	"unicode"
)

// The errors of [Parse].
var (
	errKey       = errors.New("expected a key of letters, digits and -_.#/: (JSON takes any key)")
	errEquals    = errors.New("expected = after a key (a value with a comma needs quotes)")
	errDuplicate = errors.New("a key is given twice")
	errUnquoted  = errors.New("a value with quotes, brackets, braces or control characters, or that begins with =, needs quotes")
	errUnclosed  = errors.New("a quote is not closed")
	errBackslash = errors.New("a backslash before a quote cannot be written; use JSON")
	errComma     = errors.New("expected a comma after a quoted value")
)

// keyBytes are the bytes of a key. A key cannot be quoted.
const keyBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.#/:"

// whitespace may stand before and after a comma or an equals sign.
const whitespace = " \t\n\r\v\f"

// Parse reads a map of strings:
//
//	key=value,key='a value, in quotes',key="a value, in quotes"
//
// A bare value ends at a comma; write \, for a comma in it. Parse drops white
// space around it. In quotes, \' or \" is the quote and \\ a backslash; every
// other backslash is itself. A value may be empty.
//
// This is a subset of the aws command line's shorthand: whatever both accept,
// both read alike. Parse refuses lists, nested maps, files (key@=), and
// backslashes that the aws command line reads in a surprising way. Errors don't
// repeat the input. Parse doesn't check for UTF-8.
func Parse(s string) (map[string]string, error) {
	p := parser{rest: strings.TrimLeft(s, whitespace)}
	m := make(map[string]string)
	for {
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		value, err := p.value()
		if err != nil {
			return nil, err
		}
		if _, ok := m[key]; ok {
			return nil, errDuplicate
		}
		m[key] = value
		if p.rest == "" {
			return m, nil
		}
		// A comma follows the value.
		p.skip(1)
	}
}

// parser has the text that is still to be read.
type parser struct{ rest string }

// skip passes over n bytes and the white space after them.
func (p *parser) skip(n int) { p.rest = strings.TrimLeft(p.rest[n:], whitespace) }

// key reads a key and its equals sign.
func (p *parser) key() (string, error) {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, keyBytes))
	key := p.rest[:n]
	p.skip(n)
	switch {
	case key == "":
		return "", errKey
	case !strings.HasPrefix(p.rest, "="):
		return "", errEquals
	}
	p.skip(1)
	return key, nil
}

// value reads a value. What is left is empty or begins with a comma.
func (p *parser) value() (string, error) {
	if strings.HasPrefix(p.rest, "'") || strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	return p.bare()
}

func (p *parser) quoted() (string, error) {
	quote := p.rest[0]
	var value strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		if c == quote {
			p.skip(i + 1)
			if p.rest != "" && p.rest[0] != ',' {
				return "", errComma
			}
			return value.String(), nil
		}
		if next := p.rest[i+1:]; c == '\\' && next != "" && (next[0] == quote || next[0] == '\\') {
			// If another quote follows anywhere, the aws command
			// line takes the second backslash as the quote's.
			if next[0] == '\\' && len(next) > 1 && next[1] == quote {
				return "", errBackslash
			}
			c = next[0]
			i++
		}
		value.WriteByte(c)
	}
	return "", errUnclosed
}

func (p *parser) bare() (string, error) {
	end := comma(p.rest)
	value := strings.ReplaceAll(p.rest[:end], `\,`, ",")
	value = strings.TrimRightFunc(value, unicode.IsSpace)
	if strings.HasPrefix(value, "=") || strings.ContainsFunc(value, needsQuotes) {
		return "", errUnquoted
	}
	p.rest = p.rest[end:]
	return value, nil
}

// comma returns the index of the first comma that is not escaped, or the length
// of s.
func comma(s string) int {
	for i := range len(s) {
		if s[i] == ',' && (i == 0 || s[i-1] != '\\') {
			return i
		}
	}
	return len(s)
}

func needsQuotes(r rune) bool {
	return r < ' ' || strings.ContainsRune(`"'[]{}`, r)
}

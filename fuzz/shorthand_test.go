package fuzz_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/shorthand"
)

// FuzzShorthand reads any text as --attributes. Parse reads what the grammar
// below says, and refuses what doesn't match. It reads the same again from
// quotes of either kind.
func FuzzShorthand(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		got, err := shorthand.Parse(s)
		want, ok := matchShorthand(s)
		require.Equal(t, ok, err == nil, "%q: %v", s, err)
		if !ok {
			require.Nil(t, got)
			return
		}
		require.Equal(t, want, got, "%q", s)
		for _, quote := range []string{"'", `"`} {
			if written, ok := writeShorthand(got, quote); ok {
				again, err := shorthand.Parse(written)
				require.NoError(t, err, "%q", written)
				require.Equal(t, got, again, "%q", written)
			}
		}
	})
}

// The grammar of a map: pairs with commas between them.
var (
	shorthandSpace  = `[ \t\n\r\v\f]*`
	shorthandPair   = regexp.MustCompile(`\A` + shorthandSpace + `([A-Za-z0-9_.#/:-]+)` + shorthandSpace + `=` + shorthandSpace)
	shorthandSingle = regexp.MustCompile(`(?s)\A'((?:\\[\\']|[^'\\]|\\[^\\'])*)'` + shorthandSpace)
	shorthandDouble = regexp.MustCompile(`(?s)\A"((?:\\[\\"]|[^"\\]|\\[^\\"])*)"` + shorthandSpace)
	shorthandBare   = regexp.MustCompile(`(?s)\A((?:\\,|[^,])*)`)
	shorthandWords  = regexp.MustCompile(`(?s)\\.|[^\\]|\\`)
)

// matchShorthand reads s by the grammar.
func matchShorthand(s string) (map[string]string, bool) {
	m := map[string]string{}
	for {
		pair := shorthandPair.FindStringSubmatch(s)
		if pair == nil {
			return nil, false
		}
		value, rest, ok := matchValue(s[len(pair[0]):])
		if _, taken := m[pair[1]]; taken || !ok {
			return nil, false
		}
		m[pair[1]] = value
		if rest == "" {
			return m, true
		}
		if s, ok = strings.CutPrefix(rest, ","); !ok {
			return nil, false
		}
	}
}

func matchValue(s string) (value, rest string, ok bool) {
	for quote, grammar := range map[string]*regexp.Regexp{"'": shorthandSingle, `"`: shorthandDouble} {
		if !strings.HasPrefix(s, quote) {
			continue
		}
		match := grammar.FindStringSubmatch(s)
		// In this case the aws command line reads something else.
		if match == nil || backslashBeforeQuote(match[1]+quote, quote) {
			return "", "", false
		}
		value = strings.NewReplacer(`\\`, `\`, `\`+quote, quote).Replace(match[1])
		return value, s[len(match[0]):], true
	}
	match := shorthandBare.FindString(s)
	value = strings.TrimRightFunc(strings.ReplaceAll(match, `\,`, ","), unicode.IsSpace)
	ok = !strings.HasPrefix(value, "=") && !regexp.MustCompile(`[\x00-\x1f"'\[\]{}]`).MatchString(value)
	return value, s[len(match):], ok
}

// backslashBeforeQuote reports whether an escaped backslash stands before a
// quote in the value, or before the closing one.
func backslashBeforeQuote(s, quote string) bool {
	words := shorthandWords.FindAllString(s, -1)
	for i := range len(words) - 1 {
		if words[i] == `\\` && words[i+1] == quote {
			return true
		}
	}
	return false
}

// writeShorthand writes a map, unless a backslash would stand before a quote.
func writeShorthand(m map[string]string, quote string) (s string, ok bool) {
	var pairs []string
	for key, value := range m {
		if strings.HasSuffix(value, `\`) || strings.Contains(value, `\`+quote) {
			return "", false
		}
		pairs = append(pairs, key+"="+quote+strings.NewReplacer(`\`, `\\`, quote, `\`+quote).Replace(value)+quote)
	}
	return strings.Join(pairs, ","), true
}

func shorthandSeeds(testing.TB) []seed {
	return []seed{
		{"empty", args("")},
		{"example", args("displayName=DemoUser")},
		{"two", args("a=1,b=2")},
		{"spaces", args(" a = 1 , b\t=\n2 ")},
		{"empty-values", args("a=,b=")},
		{"single-quotes", args(`name='Doe, J.',b='it\'s'`)},
		{"double-quotes", args(`name="Doe, \"J\" ",b="C:\dir"`)},
		{"escaped-comma", args(`a=1\,2,b=3`)},
		{"escaped-backslash", args(`a='x\\y'`)},
		{"backslash-before-quote", args(`a='x\\'`)},
		{"backslashes-before-quote", args(`a='x\\\''`)},
		{"unclosed", args(`a='x`)},
		{"behind-quotes", args(`a='x'y`)},
		{"key-bytes", args("a-b_c.d#e/f:g=1")},
		{"key-at", args("a@=file")},
		{"key-missing", args("=1")},
		{"equals-missing", args("a")},
		{"comma-at-the-end", args("a=1,")},
		{"twice", args("a=1,a=2")},
		{"list", args("a=[1,2]")},
		{"map", args("a={b=1}")},
		{"two-values", args("a=1,2")},
		{"equals-first", args("a==1")},
		{"not-utf8", args("a=\xff,b='\xfe'")},
		{"wide-space", args("a=1\u00a0\u2003")},
	}
}

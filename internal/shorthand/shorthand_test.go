package shorthand_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/shorthand"
)

// TestParse expects what the aws command line's parser reads, unless the name
// says that the parser refuses the input.
func TestParse(t *testing.T) {
	type m = map[string]string
	tests := []struct {
		name string
		in   string
		want m
	}{
		{"one", `displayName=DemoUser`, m{"displayName": "DemoUser"}},
		{"two", `k=v,k2=v2`, m{"k": "v", "k2": "v2"}},
		{"all kinds of key", `a-Z_0.#/:=v`, m{"a-Z_0.#/:": "v"}},
		{"empty value", `a=`, m{"a": ""}},
		{"empty value among others", `a=,b=c`, m{"a": "", "b": "c"}},
		{"empty quotes", `a='',b=""`, m{"a": "", "b": ""}},
		{"equals sign in a value", `url=https://x/?a=b&c=d,k=v==`, m{"url": "https://x/?a=b&c=d", "k": "v=="}},
		{"comma in single quotes", `name='Doe, J.',k=v`, m{"name": "Doe, J.", "k": "v"}},
		{"comma in double quotes", `name="Doe, J.",k=v`, m{"name": "Doe, J.", "k": "v"}},
		{"escaped comma", `name=Doe\, J.,k=\,`, m{"name": "Doe, J.", "k": ","}},
		{"backslash and escaped comma", `a=x\\,y`, m{"a": `x\,y`}},
		{"brackets in quotes", `a='[x]',b="{y}"`, m{"a": "[x]", "b": "{y}"}},
		{"other quote in quotes", `a='say "x"',b="it's"`, m{"a": `say "x"`, "b": "it's"}},
		{"escaped quotes", `a='it\'s',b="say \"x\""`, m{"a": "it's", "b": `say "x"`}},
		{"backslashes in quotes", `a='C:\dir\\new'`, m{"a": `C:\dir\new`}},
		{"backslash and escaped quote", `a='\\\'x'`, m{"a": `\'x`}},
		{"three backslashes", `a='\\\x'`, m{"a": `\\x`}},
		{"backslashes without quotes", `a=C:\dir\\new`, m{"a": `C:\dir\\new`}},
		{"white space around signs", "a = b c ,\n\tb\f=\v'd' , e=f\n", m{"a": "b c", "b": "d", "e": "f"}},
		{"white space in quotes", `a=' b '`, m{"a": " b "}},
		{"wide space at the end", "a=b\u00a0", m{"a": "b"}},
		{"control character in quotes", "a='\x01\n'", m{"a": "\x01\n"}},
		{"other scripts", `a=héllo 語`, m{"a": "héllo 語"}},
		{"beyond 16 bits in quotes", `a='😀'`, m{"a": "😀"}},
		{"beyond 16 bits, which aws refuses", `a=😀`, m{"a": "😀"}},
		{"white space in front, which aws refuses", ` a=b`, m{"a": "b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := shorthand.Parse(test.in)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

// TestParseErrors has inputs that the aws command line's parser refuses or
// doesn't read as a map of strings, unless the name says that it accepts them.
func TestParseErrors(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want string
	}{
		{"empty", ``, "expected a key"},
		{"white space", ` `, "expected a key"},
		{"no value", `a`, "expected = after a key"},
		{"list", `a=b,c`, "expected = after a key"},
		{"list of quoted values", `a='b','c'`, "expected a key"},
		{"explicit list", `a=[b]`, "needs quotes"},
		{"nested map", `a={b=c}`, "needs quotes"},
		{"file", `a@=file://b`, "expected = after a key"},
		{"empty key, which aws accepts", `=b`, "expected a key"},
		{"quoted key", `"a"=b`, "expected a key"},
		{"space in a key", `a b=c`, "expected = after a key"},
		{"repeated key", `a=b,a=b`, "given twice"},
		{"comma at the end", `a=b,`, "expected a key"},
		{"comma in front", `,a=b`, "expected a key"},
		{"two commas, which aws accepts", `a=b,,c=d`, "expected a key"},
		{"value that begins with an equals sign", `a==b`, "needs quotes"},
		{"quote in a value", `a=it's`, "needs quotes"},
		{"bracket at the end, which aws refuses", `a=b]`, "needs quotes"},
		{"bracket within, which aws accepts", `a=b[c`, "needs quotes"},
		{"line end in a value, which aws accepts", "a=b\nc", "needs quotes"},
		{"control character", "a=\x01", "needs quotes"},
		{"single quote not closed", `a='b`, "not closed"},
		{"double quote not closed", `a="b'`, "not closed"},
		{"backslashes not closed", `a='\\`, "not closed"},
		{"escaped at the end, which aws accepts", `a='b\'`, "not closed"},
		{"text behind quotes", `a='b'c`, "expected a comma"},
		{"quotes behind quotes", `a='b'"c"`, "expected a comma"},
		{"backslash before the end, which aws accepts", `a='b\\'`, "use JSON"},
		{"backslash before a quote, which aws reads otherwise", `a='\\',b=c'`, "use JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := shorthand.Parse(test.in)
			assert.ErrorContains(t, err, test.want)
			assert.Nil(t, got)
		})
	}
}

// TestParseQuoted checks that every text can be written as a value, except a
// backslash before a quote or the end.
func TestParseQuoted(t *testing.T) {
	for _, text := range []string{"", "a,b=c", `\x`, "[{'\"}]", "\x00\xff\n", strings.Repeat("'", 5000)} {
		in := "k='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
		got, err := shorthand.Parse(in)
		require.NoError(t, err, in)
		assert.Equal(t, map[string]string{"k": text}, got)
	}
}

func TestOverride(t *testing.T) {
	members := []shorthand.Member{
		{Name: "a", Value: json.RawMessage(`"new"`)},
		{Name: `q"`, Value: json.RawMessage(`[1]`)},
	}
	tests := []struct {
		name    string
		object  string
		members []shorthand.Member
		want    string
	}{
		{"nothing", `{}`, nil, `{}`},
		{"nothing in nothing", " { } ", members, `{"a":"new","q\"":[1]}`},
		{"order and values are kept", `{ "z": 1.50, "b": {"x":1,"x":2} }`, nil, `{"z":1.50,"b":{"x":1,"x":2}}`},
		{"replaced", `{"b":1,"a":"old","c":2}`, members, `{"b":1,"c":2,"a":"new","q\"":[1]}`},
		{"replaced under an escaped name", `{"\u0061":"old"}`, members, `{"a":"new","q\"":[1]}`},
		{"replaced each time", `{"a":1,"a":2}`, members, `{"a":"new","q\"":[1]}`},
		{"another case is another member", `{"A":1}`, members, `{"A":1,"a":"new","q\"":[1]}`},
		{"repeated members stay", `{"b":1,"b":2}`, members, `{"b":1,"b":2,"a":"new","q\"":[1]}`},
		{"what is not UTF-8 stays", "{\"b\":\"\xff\"}", nil, "{\"b\":\"\xff\"}"},
		{"lone surrogates in values stay", `{"b":"\ud800"}`, nil, `{"b":"\ud800"}`},
		{"lone surrogates in names make no known name", `{"a\ud800":1}`, nil, "{\"a\ufffd\":1}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := shorthand.Override([]byte(test.object), test.members)
			require.NoError(t, err)
			assert.Equal(t, test.want, string(got))
		})
	}
}

func TestOverrideErrors(t *testing.T) {
	for _, object := range []string{
		"", " ", "null", "1", `"a"`, "[]", `[{"a":1}]`, "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`,
		`{,}`, `{1:2}`, `{"a":b}`, `{"a":1}}`, `{"a":1}{"a":2}`, `{"a":1} x`, "\ufeff{}",
	} {
		got, err := shorthand.Override([]byte(object), nil)
		assert.Equal(t, shorthand.ErrObject, err, object)
		assert.Nil(t, got, object)
	}
}

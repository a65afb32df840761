package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// printJSON prints v as the aws command line does, indented by four spaces.
func (p *process) printJSON(v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return p.print(escapeUnprintable(b.String()))
}

// escapeUnprintable escapes characters that a terminal acts on, in JSON: a
// stranger may have chosen a user ID or an attribute. The encoder has escaped
// those below U+0020.
func escapeUnprintable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < 0x7F || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

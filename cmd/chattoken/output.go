package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// printJSON writes v as the aws command line does, indented by four spaces.
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

// escapeUnprintable escapes in JSON what a terminal would act on instead of
// showing it: a user ID may be of a stranger's making. Below U+0020 the encoder
// has done so.
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

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEscapeUnprintable(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"letters of all kinds", "aé€語😀~", "aé€語😀~"},
		{"delete", "\x7f", `\u007f`},
		{"C1 control", "\u009b31m", `\u009b31m`},
		{"bidirectional override", "\u202e", `\u202e`},
		{"line separator", "\u2028", `\u2028`},
		{"tag beyond 16 bits", "\U000e0041", `\udb40\udc41`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, escapeUnprintable(test.text))
		})
	}
}

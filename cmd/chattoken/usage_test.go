package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The help of every command fits into a terminal and names all flags.
func TestUsage(t *testing.T) {
	for _, c := range slices.Concat(commands(), keyringCommands()) {
		assert.True(t, strings.HasPrefix(c.usage, "Usage: chattoken "+c.name), c.name)
		for name := range c.flags {
			assert.Contains(t, c.usage, "--"+name, c.name)
		}
		for line := range strings.Lines(overview() + keyringUsage() + c.usage) {
			assert.LessOrEqual(t, len(line), 81, line)
		}
	}
}

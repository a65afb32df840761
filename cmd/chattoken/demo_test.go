package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDemo(t *testing.T) {
	seed(t)
	f := newFake(t)
	status, stdout, stderr := f.run("demo")
	assert.Equal(t, exitOK, status)
	assert.Empty(t, stderr)
	assert.NoDirExists(t, f.dir, "it stored something")
	golden(t, "demo.txt", stdout)
	for line := range strings.Lines(stdout) {
		assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 80, line)
	}
}

// TestDemoFails checks that the demonstration is not a mere recital: under a
// clock that leaps, the token is not opened, and so no message is allowed.
func TestDemoFails(t *testing.T) {
	f := newFake(t)
	var calls atomic.Int64 // from the gateways' goroutines, too
	f.now = func() time.Time { return testNow.Add(time.Duration(calls.Add(1)) * time.Hour) }
	status, stdout, stderr := f.run("demo")
	assert.Equal(t, exitRefused, status)
	assert.Contains(t, stdout, "refused: expired: it can open no connection any more  FAILED")
	assert.Contains(t, stderr, "steps did not end as they should")
}

func TestDemoWithoutClock(t *testing.T) {
	f := newFake(t)
	f.now = func() time.Time { return time.Unix(-1, 0) }
	status, stdout, _ := f.run("demo")
	assert.Equal(t, exitTrouble, status)
	assert.Empty(t, stdout)
}

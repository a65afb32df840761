package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var testNow = time.Unix(1647405789, 0) // 2022-03-16T04:43:09Z

// golden compares got with a file in testdata. With CHATTOKEN_UPDATE it writes
// the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if os.Getenv("CHATTOKEN_UPDATE") != "" {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "in %s", name)
}

// demo returns what the demonstration prints, and its error.
func demo(now func() time.Time) (string, error) {
	var out strings.Builder
	err := (&process{stdout: &out, now: now}).demo(&arguments{})
	return out.String(), err
}

func TestDemo(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	out, err := demo(func() time.Time { return testNow })
	assert.NoError(t, err)
	golden(t, "demo.txt", out)
}

// The demonstration is not a mere recital: if the clock leaps, nothing opens.
func TestDemoFails(t *testing.T) {
	var calls atomic.Int64 // from the gateways' goroutines, too
	out, err := demo(func() time.Time { return testNow.Add(time.Duration(calls.Add(1)) * time.Hour) })
	assert.Contains(t, out, "refused: expired: too late to connect with it  FAILED")
	_, refused := errors.AsType[*refusedError](err)
	assert.True(t, refused)
	assert.ErrorContains(t, err, "steps failed")
}

func TestDemoWithoutClock(t *testing.T) {
	out, err := demo(func() time.Time { return time.Unix(-1, 0) })
	assert.Error(t, err)
	assert.Empty(t, out)
}

package testsum_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed17cb2b26/chattoken/tools/internal/testsum"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The files in testdata were recorded from go test -json, less the times and
// the stacks.
func TestRead(t *testing.T) {
	tests := []struct {
		name    string
		want    string
		reasons map[string]int
		shows   []string
		hides   []string
	}{
		{
			name: "pass",
			want: "5 passed, 0 failed, 3 skipped",
			reasons: map[string]int{
				"SKIPPED: no redis-server":             1,
				"SKIPPED: no redis-server second line": 1,
				"no reason given":                      1,
			},
			shows: []string{"ok  \texample.com/ev/a", "?   \texample.com/ev/d\t[no test files]"},
			hides: []string{"quiet", "PASS", "logged before"},
		},
		{
			name:  "fail", // a test and its subtest, and one that called os.Exit
			want:  "1 passed, 3 failed, 0 skipped",
			shows: []string{"bad value", "worse", "--- FAIL: TestFail/sub", "=== RUN   TestExit", "FAIL\texample.com/ev/b"},
			hides: []string{"TestOK"},
		},
		{
			name:  "build",
			want:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"undefined: undefined", "[build failed]"},
		},
		{
			name:  "panic",
			want:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"panic: boom", "FAIL\texample.com/ev/e"},
		},
		{
			name:  "timeout",
			want:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"waiting", "panic: test timed out"},
		},
		{
			name:  "main", // TestMain fails after its tests passed
			want:  "1 passed, 1 failed, 0 skipped",
			shows: []string{"FAIL\texample.com/ev/f"},
		},
		{
			name:  "none",
			want:  "0 passed, 0 failed, 0 skipped",
			shows: []string{"[no test files]"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, err := os.Open(filepath.Join("testdata", tt.name+".json"))
			require.NoError(t, err)
			defer in.Close()
			var out bytes.Buffer
			got, err := testsum.Read(in, &out)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got.String())
			assert.Equal(t, tt.reasons, got.Reasons)
			for _, s := range tt.shows {
				assert.Contains(t, out.String(), s)
			}
			for _, s := range tt.hides {
				assert.NotContains(t, out.String(), s)
			}
		})
	}
}

// Events of packages that run at the same time are interleaved: a failure in
// one must not be taken for a failure in the other.
func TestReadInterleaved(t *testing.T) {
	const stream = `{"Action":"run","Package":"a","Test":"TestA"}
{"Action":"run","Package":"b","Test":"TestB"}
{"Action":"fail","Package":"b","Test":"TestB"}
{"Action":"pass","Package":"a","Test":"TestA"}
{"Action":"fail","Package":"a"}
{"Action":"fail","Package":"b"}`
	got, err := testsum.Read(strings.NewReader(stream), new(bytes.Buffer))
	require.NoError(t, err)
	assert.Equal(t, "1 passed, 2 failed, 0 skipped", got.String())
}

func TestReadErrors(t *testing.T) {
	const pass = `{"Action":"pass","Package":"a","Test":"TestA"}` + "\n"

	t.Run("not an event", func(t *testing.T) {
		got, err := testsum.Read(strings.NewReader(pass+"go: no such tool\n"+pass), new(bytes.Buffer))
		assert.ErrorContains(t, err, "not a test event")
		assert.Equal(t, 1, got.Passed)
	})
	t.Run("cut off", func(t *testing.T) {
		_, err := testsum.Read(strings.NewReader(pass+pass[:20]), new(bytes.Buffer))
		assert.ErrorContains(t, err, "not a test event")
	})
	t.Run("writer", func(t *testing.T) {
		for _, stream := range []string{
			`{"Action":"output","Package":"a","Output":"ok\n"}`,
			`{"Action":"output","Package":"a","Test":"T","Output":"x\n"}
{"Action":"fail","Package":"a","Test":"T"}`,
			`{"Action":"output","Package":"a","Test":"T","Output":"x\n"}
{"Action":"fail","Package":"a"}`,
		} {
			_, err := testsum.Read(strings.NewReader(stream), brokenWriter{})
			assert.ErrorIs(t, err, errBroken)
		}
	})
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestAdd(t *testing.T) {
	var total testsum.Summary
	total.Add(testsum.Summary{Passed: 1, Skipped: 1, Reasons: map[string]int{"a": 1}})
	total.Add(testsum.Summary{Failed: 2, Skipped: 3, Reasons: map[string]int{"a": 1, "b": 2}})
	assert.Equal(t, testsum.Summary{
		Passed: 1, Failed: 2, Skipped: 4,
		Reasons: map[string]int{"a": 2, "b": 2},
	}, total)
	assert.Equal(t, 7, total.Total())
}

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// modules are the test files of the modules that the tests are run on.
var modules = map[string]string{
	"pass":    "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n",
	"fail":    "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Fatal(\"no\") }\n",
	"skip":    "package m\n\nimport \"testing\"\n\nfunc TestB(t *testing.T) { t.Skip(\"no server\") }\n",
	"refused": "package m\n\nimport \"testing\"\n\nfunc TestB(t *testing.T) { t.Skip(\"NOT ALLOWED HERE: no ptrace\") }\n",
	"novet":   "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Logf(\"%d\", \"text\") }\n",
	"nobuild": "package m\n\nfunc f() { undefined() }\n",
	"notest":  "package m\n",
}

func TestTestall(t *testing.T) {
	root := t.TempDir()
	bin := filepath.Join(root, "testall")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	for name, file := range modules {
		writeModule(t, filepath.Join(root, name), file)
	}

	tests := []struct {
		name    string
		args    string
		require string // CHATTOKEN_REQUIRE
		exit    int
		last    string
		shows   []string
	}{
		{
			name: "all required",
			args: "pass", require: "1",
			last:  "1 passed, 0 failed, 0 skipped",
			shows: []string{"module pass: 1 passed, 0 failed, 0 skipped"},
		},
		{
			name:  "every kind",
			args:  "fail novet nobuild notest pass skip",
			exit:  1,
			last:  "1 passed, 4 failed, 1 skipped",
			shows: []string{"--- FAIL: TestA", "testall: novet: go vet:", "undefined: undefined", "testall: notest: no test ran", "\tskipped 1: no server\n"},
		},
		{
			name: "skip where all is required",
			args: "skip", require: "1",
			exit:  1,
			last:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"testall: skip: 1 skipped, but CHATTOKEN_REQUIRE=1", "\tskipped 1: no server\n"},
		},
		{
			name: "what no installation cures",
			args: "refused", require: "1",
			last:  "0 passed, 0 failed, 1 skipped",
			shows: []string{"\tskipped 1: NOT ALLOWED HERE: no ptrace\n"},
		},
		{
			name: "skip in another build",
			args: "skip --", require: "1",
			last: "0 passed, 0 failed, 1 skipped",
		},
		{
			name:  "chosen tests in one module",
			args:  "pass skip -- -run=TestB",
			last:  "0 passed, 0 failed, 1 skipped",
			shows: []string{"module pass: 0 passed, 0 failed, 0 skipped"},
		},
		{
			name:  "chosen tests in none",
			args:  "pass -- -run=TestNone",
			exit:  1,
			last:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"testall: no test ran"},
		},
		{
			name:  "go test refuses",
			args:  "pass -- -covermode=nonesuch",
			exit:  1,
			last:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"testall: pass: go test:"},
		},
		{
			name:  "no such module",
			args:  "nonesuch",
			exit:  1,
			last:  "0 passed, 1 failed, 0 skipped",
			shows: []string{"testall: nonesuch: go vet:"},
		},
		{
			name: "no module",
			exit: 2,
			last: "usage: testall dir... [-- [go test flags]]",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(bin, strings.Fields(tt.args)...)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "CHATTOKEN_REQUIRE="+tt.require)
			out, _ := cmd.CombinedOutput()
			assert.Equal(t, tt.exit, cmd.ProcessState.ExitCode())
			for _, s := range tt.shows {
				assert.Contains(t, string(out), s)
			}
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			assert.Equal(t, tt.last, lines[len(lines)-1])
		})
	}
}

// writeModule writes a module with one file into dir, which it makes.
func writeModule(t *testing.T, dir, file string) {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o700))
	gomod := "module example.com/m\n\ngo 1.26.0\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(gomod), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m_test.go"), []byte(file), 0o600))
}

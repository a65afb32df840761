//go:build unix

package tools_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packages are the test files of the packages that test.sh tests.
var packages = map[string]string{
	"pass": "import \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(*testing.T) {}) }\n",
	"fail": "import \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Fatal(\"no\") }) }\n",
	"skip": "import \"testing\"\n\nfunc TestB(t *testing.T) { t.Skip(\"SKIPPED: no \\\"Action\\\":\\\"pass\\\",\\\"Test\\\": here\") }\n",
	"refused": "import \"testing\"\n\nfunc TestB(t *testing.T) { t.Skip(\"NOT ALLOWED HERE: no ptrace\") }\n" +
		"func TestC(t *testing.T) { t.Skip(\"NOT ALLOWED HERE: no ptrace\") }\n",
	"novet":   "import \"testing\"\n\nfunc TestA(t *testing.T) { t = t }\n",
	"nobuild": "func f() { undefined() }\n",
	"dies":    "import (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestA(t *testing.T) { os.Exit(3) }\n",
	"notest":  "",
}

func TestCounts(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module m\n\ngo 1.26.0\n"), 0o600))
	for name, file := range packages {
		require.NoError(t, os.Mkdir(filepath.Join(root, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name, "m_test.go"), []byte("package m\n\n"+file), 0o600))
	}
	script, err := filepath.Abs("test.sh")
	require.NoError(t, err)

	tests := []struct {
		name  string
		args  []string
		free  bool // no CHATTOKEN_REQUIRE
		exit  int
		last  string
		shows []string
	}{
		{name: "all required", args: []string{"./pass"}, last: "2 passed, 0 failed, 0 skipped", shows: []string{"PASS  pass"}},
		{name: "two lists", args: []string{"./pass ./refused", "./pass"}, last: "4 passed, 0 failed, 2 skipped",
			shows: []string{"test: ./pass ./refused\n", "test: ./pass\n", "2 NOT ALLOWED HERE: no ptrace\n"}},
		{name: "failure in the first list", args: []string{"./fail", "./pass"}, exit: 1,
			last: "2 passed, 2 failed, 0 skipped", shows: []string{"m_test.go:5: no"}},
		{name: "vet", args: []string{"./novet"}, exit: 1, last: "0 passed, 1 failed, 0 skipped", shows: []string{"self-assignment"}},
		{name: "build", args: []string{"./nobuild ./pass"}, exit: 1, last: "2 passed, 1 failed, 0 skipped", shows: []string{"undefined: undefined"}},
		{name: "exit", args: []string{"./dies"}, exit: 1, last: "0 passed, 1 failed, 0 skipped"},
		{name: "no tests", args: []string{"./notest"}, exit: 1, last: "0 passed, 1 failed, 0 skipped", shows: []string{"test: no test ran"}},
		{name: "no package", args: []string{"./nonesuch"}, exit: 1, last: "0 passed, 1 failed, 0 skipped"},
		{name: "skip where all is required", args: []string{"./skip ./refused"}, exit: 1, last: "0 passed, 1 failed, 2 skipped",
			shows: []string{"1 SKIPPED: no ", "test: 1 skipped, but CHATTOKEN_REQUIRE=1"}},
		{name: "skip", args: []string{"./skip"}, free: true, last: "0 passed, 0 failed, 1 skipped"},
		{name: "skip in another build", args: []string{"./skip", "--"}, last: "0 passed, 0 failed, 1 skipped"},
		{name: "chosen tests", args: []string{"./pass ./refused", "--", "-run=TestB"}, last: "0 passed, 0 failed, 1 skipped"},
		{name: "flag with a space", args: []string{"./pass", "--", "-exec=env -u X"}, last: "2 passed, 0 failed, 0 skipped"},
		{name: "go test refuses", args: []string{"./pass", "--", "-covermode=nonesuch"}, exit: 1, last: "0 passed, 1 failed, 0 skipped"},
		{name: "nothing to test", args: []string{"--", "-v"}, exit: 2, last: "usage: test.sh packages... [-- [go test flags]]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(script, tt.args...)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CHATTOKEN_REQUIRE=1")
			if tt.free {
				cmd.Env = append(cmd.Env, "CHATTOKEN_REQUIRE=")
			}
			out, _ := cmd.CombinedOutput()
			assert.Equal(t, tt.exit, cmd.ProcessState.ExitCode())
			for _, s := range tt.shows {
				assert.Contains(t, string(out), s)
			}
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			if !assert.Equal(t, tt.last, lines[len(lines)-1]) {
				t.Log(string(out))
			}
		})
	}
}

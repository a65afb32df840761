//go:build unix

// Package tools_test tests the scripts beside it.
package tools_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stubs stand in for go, gotestsum and qemu-i386. The programs that go builds
// end as on the kernel and under qemu-i386.
var stubs = map[string]string{
	"go": `#!/bin/sh
echo "GOARCH=$GOARCH $*" >>"$CALLS"
case $1 in
build) printf '#!/bin/sh\nexit %s\n' "$KERNEL" >"$3"; chmod +x "$3" ;;
list) echo package ;;
tool) echo "$(dirname "$0")/gotestsum" ;;
esac
`,
	"gotestsum": `#!/bin/sh
echo "GOARCH=$GOARCH $*" >>"$CALLS"
for flag; do case $flag in
--jsonfile=*) echo '{"Action":"pass","Test":"A"}' >"${flag#*=}" ;;
esac; done
exit "$TESTS"
`,
	"qemu-i386": "#!/bin/sh\n[ \"$QEMU\" = 0 ] && echo \"$GODEBUG $*\" >>\"$CALLS\"\nexit \"$QEMU\"\n",
}

// machine says what a machine can run, as exit statuses: 0 if it can.
type machine struct{ kernel, qemu, tests string }

// run runs 386.sh in a directory of the module, and returns what it started.
func (m machine) run(t *testing.T, dir string, args ...string) (calls, out string, err error) {
	t.Helper()
	bin := t.TempDir()
	for name, text := range stubs {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700))
	}
	script, err := filepath.Abs("386.sh")
	require.NoError(t, err)
	cmd := exec.Command(script, args...)
	cmd.Dir = filepath.Join("..", dir)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "GOARCH=", "CALLS="+filepath.Join(bin, "calls"),
		"KERNEL="+m.kernel, "QEMU="+m.qemu, "TESTS="+m.tests)
	printed, err := cmd.CombinedOutput()
	data, _ := os.ReadFile(filepath.Join(bin, "calls"))
	return string(data), string(printed), err
}

func Test386Form(t *testing.T) {
	for want, m := range map[string]machine{
		"native\n": {kernel: "0", qemu: "0"},
		"qemu\n":   {kernel: "126", qemu: "0"},
		"none\n":   {kernel: "126", qemu: "127"},
	} {
		_, out, err := m.run(t, ".")
		require.NoError(t, err)
		assert.Equal(t, want, out)
	}
}

// In each form only the tests are for 386, and a failure shows.
func Test386(t *testing.T) {
	tests := []struct {
		name   string
		m      machine
		starts []string
		says   string
	}{
		{"native", machine{"0", "0", "0"}, []string{"--packages=claims token -- ", " -run=X\n"}, ""},
		{"qemu", machine{"126", "0", "0"}, []string{"--packages=claims token -- ", " -run=X -short -skip=^(Test", "-exec='"}, "386: this machine runs no 386 programs, so qemu-i386 ran the tests"},
		{"none", machine{"126", "1", "0"}, []string{"GOARCH=386 vet claims token\n", "GOARCH=386 test -c -o /dev/null claims token\n"}, "so 1 packages were only compiled and vetted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"claims token", "--", "-run=X"}
			calls, out, err := tt.m.run(t, ".", args...)
			require.NoError(t, err, out)
			assert.Contains(t, out, tt.says)
			for _, call := range tt.starts {
				assert.Contains(t, calls, call)
			}
			assert.NotContains(t, calls, "GOARCH=386 tool")
			if tt.name == "none" {
				assert.NotContains(t, calls, "--packages")
				return
			}
			assert.Contains(t, calls, "GOARCH=386 --format")
			tt.m.tests = "1"
			_, _, err = tt.m.run(t, ".", args...)
			assert.Error(t, err)
		})
	}
}

// A test program runs under qemu-i386 unless its package crashes there. The
// packages and tests that the script leaves out exist.
func Test386Lists(t *testing.T) {
	m := machine{kernel: "126", qemu: "0"}
	calls, _, err := m.run(t, "claims", "-exec", "claims.test", "-test.v")
	require.NoError(t, err)
	assert.Equal(t, "asyncpreemptoff=1 -cpu max claims.test -test.v\n", calls)

	script, err := os.ReadFile("386.sh")
	require.NoError(t, err)
	dirs, tests := list(t, script, "compiled"), list(t, script, "skipped")
	require.Greater(t, len(dirs), 5)
	for _, dir := range append(dirs, "tools/mutate") {
		calls, out, err := m.run(t, dir, "-exec", "x.test")
		require.NoError(t, err)
		assert.Empty(t, calls)
		assert.Equal(t, "386: only compiled and vetted:\n", out)
	}
	files, err := filepath.Glob("../keyring/*_test.go")
	require.NoError(t, err)
	var source strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		source.Write(text)
	}
	for _, test := range tests {
		assert.Contains(t, source.String(), "func "+test+"(t *testing.T)")
	}
}

// list returns the words that the script gives a variable.
func list(t *testing.T, script []byte, name string) []string {
	t.Helper()
	value := regexp.MustCompile("(?m)^" + name + "='(.*)'$").FindSubmatch(script)
	require.NotNil(t, value, name)
	return strings.Fields(string(value[1]))
}

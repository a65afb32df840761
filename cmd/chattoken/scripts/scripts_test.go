// Package scripts_test runs the built command as its users do. A file in
// testdata/script shows one behaviour.
//
// Package testscript says how to read them. They have more commands:
//
//	exits STATUS PROGRAM ARG...   exec, for a program that must exit with STATUS
//	fails STATUS REGEXP ARG...    chattoken ARG... must exit with STATUS, without
//	                              a result, and with an error that matches and
//	                              shows no secret
//	let NAME REGEXP               match the last standard output, and set NAME to
//	                              the first group
//	own-keyring AGE               make the user's own keyring, so old: 720h, say
//	own-keyring form-1            use the test vectors' keyring of form 1
//	token-of AGE                  print a token that is so old, under the user's
//	                              own keyring
//
// At first, the directory HOME doesn't exist. OWN, in it, is for the user's own
// keyring. HELPER is a KEK helper in shell, which needs openssl.
//
// go test doesn't notice that the command has changed, and may answer from its
// cache. -count=1 prevents that. make test does so.
package scripts_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/vectors"
)

const module = "github.com/seed17cb2b26/chattoken"

func TestScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the scripts expect the errors of Unix, and modes of files")
	}
	if testing.Short() {
		t.Skip("the race detector and other builds don't reach the command")
	}
	bin := t.TempDir()
	output(t, "go", "build", "-buildvcs=false", "-o", bin, module+"/cmd/chattoken")
	helper := filepath.Join(output(t, "go", "list", "-f", "{{.Dir}}", module+"/keyring/kekhelper"), "testdata", "file-helper.sh")

	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("HELPER", helper)
			e.Setenv("HOME", home)
			e.Setenv("XDG_CONFIG_HOME", home)
			if runtime.GOOS == "darwin" {
				home = filepath.Join(home, "Library", "Application Support")
			}
			e.Setenv("OWN", filepath.Join(home, "chattoken"))
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "openssl" {
				return false, errors.New("unknown condition")
			}
			_, err := exec.LookPath("openssl")
			if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
				return true, err
			}
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fails": fails, "let": let, "own-keyring": ownKeyring, "token-of": tokenOf,
		},
	})
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		require.NoError(t, err, string(exit.Stderr))
	}
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	status := "0"
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		status = fmt.Sprint(exit.ExitCode())
	} else {
		ts.Check(err)
	}
	if status != args[0] {
		ts.Fatalf("exit status %s", status)
	}
}

// A secret is in no error, not even if it was given in the wrong place.
var secret = regexp.MustCompile(`(` + keyring.KEKPrefix + `|` + token.Prefix + `)[\w-]{8}`)

func fails(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, neg, append([]string{args[0], "chattoken"}, args[2:]...))
	stderr := ts.ReadFile("stderr")
	switch {
	case ts.ReadFile("stdout") != "":
		ts.Fatalf("there is a result")
	case !regexp.MustCompile(args[1]).MatchString(stderr) || stderr == "":
		ts.Fatalf("not the error expected")
	case secret.MatchString(stderr):
		ts.Fatalf("the error shows a secret")
	}
}

func let(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(`(?m)` + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("no match")
	}
	ts.Setenv(args[0], found[1])
}

func ownFile(ts *testscript.TestScript) (f keyring.File, kekFile string) {
	name := filepath.Join(ts.Getenv("OWN"), "keyring")
	return keyring.File{Name: name}, name + ".kek"
}

func ownKeyring(ts *testscript.TestScript, _ bool, args []string) {
	f, kekFile := ownFile(ts)
	ts.Check(os.RemoveAll(filepath.Dir(f.Name)))
	ts.Check(os.MkdirAll(filepath.Dir(f.Name), 0o700))
	if args[0] == "form-1" {
		v, err := vectors.Read()
		ts.Check(err)
		ts.Check(os.WriteFile(f.Name, v.Rings[0].Sealed, 0o600))
		ts.Check(os.WriteFile(kekFile, []byte(v.Rings[0].KEK+"\n"), 0o600))
		return
	}
	kek, err := keyring.GenerateKEK()
	ts.Check(err)
	ts.Check(kek.WriteFile(kekFile))
	f.KEK = kek
	_, err = f.Create(context.Background(), ago(ts, args[0]))
	ts.Check(err)
}

func tokenOf(ts *testscript.TestScript, _ bool, args []string) {
	f, kekFile := ownFile(ts)
	kek, err := keyring.KEKFile{Name: kekFile}.Read()
	ts.Check(err)
	f.KEK = kek
	ring, err := f.Load(context.Background())
	ts.Check(err)
	sealer := token.Sealer{Ring: ring, Now: func() time.Time { return ago(ts, args[0]) }}
	minted, err := sealer.Create(claims.Claims{RoomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6", UserID: "11231234"})
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), minted.Token)
}

func ago(ts *testscript.TestScript, age string) time.Time {
	d, err := time.ParseDuration(age)
	ts.Check(err)
	return time.Now().Add(-d)
}

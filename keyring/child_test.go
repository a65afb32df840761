package keyring_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
)

const childVariable = "CHATTOKEN_KEYRING_TEST_CHILD"

// inChild reports whether runChild started this process.
func inChild() bool { return os.Getenv(childVariable) != "" }

// runChild runs the calling test once more, in its own process.
func runChild(t *testing.T, env ...string) (out []byte, err error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), childVariable+"=1"), env...)
	return cmd.CombinedOutput()
}

// FIPS 140-only mode forbids the cipher. Every way to a key returns an error.
func TestFIPSOnly(t *testing.T) {
	if testenv.PureGo {
		t.Skip("this mode does not run without assembly")
	}
	if !inChild() {
		out, err := runChild(t, "GODEBUG=fips140=only")
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestFIPSOnly")
		return
	}
	_, err := keyring.New(start, keyring.Config{})
	require.ErrorContains(t, err, "FIPS 140")
	_, err = keyring.GenerateKEK()
	require.ErrorContains(t, err, "FIPS 140")
	_, err = keyring.ParseKEK("chattoken-kek1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	require.ErrorContains(t, err, "FIPS 140")
	header := append([]byte("chattoken-keyring\x01\x01k\x00\x01w"), make([]byte, 100)...)
	_, err = keyring.Load(t.Context(), stub{dataKey: secret(1)}, header, keyring.Config{})
	require.ErrorContains(t, err, "FIPS 140")
	_, err = keyring.Seal(t.Context(), &knownKEK{stub{id: "k", wrapped: []byte("w")}}, "", nil)
	require.ErrorContains(t, err, "FIPS 140")
}

package kekhelper_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
)

const ok = "chattoken-kek-1 ok\n"

// TestMain makes this program a helper, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		os.Exit(helper(os.Args[2:]))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the helpers
	os.Exit(m.Run())
}

// helper is a helper that does what its first argument says.
func helper(args []string) int {
	switch args[0] {
	case "serve": // as one should, with the KEK in a file
		err := kekhelper.Serve(context.Background(), keyring.KEKFile{Name: args[1]}, os.Stdin, os.Stdout)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	case "spy": // writes down what others could see of it
		seen := fmt.Sprint(os.Args, os.Environ())
		if os.WriteFile(args[2], []byte(seen), 0o600) != nil {
			return 1
		}
		return helper([]string{"serve", args[1]})
	case "print": // replies with an argument, whatever the request
		io.Copy(io.Discard, os.Stdin)
		fmt.Print(args[1])
	case "early": // the same without reading it
		fmt.Print(args[1])
	case "fail": // the same, and then fails
		fmt.Print(args[1])
		fmt.Fprintln(os.Stderr, "the service is away")
		return 3
	case "echo":
		io.Copy(os.Stdout, os.Stdin)
	case "hang":
		time.Sleep(time.Hour)
	case "leave": // leaves a process behind that holds the standard output
		left := exec.Command(os.Args[0], "helper", "hang")
		left.Stdout = os.Stdout
		if left.Start() != nil {
			return 1
		}
		fmt.Fprintln(os.Stderr, left.Process.Pid)
		return helper(append([]string{"print"}, args[1:]...))
	case "flood":
		for {
			if _, err := os.Stdout.Write(make([]byte, 4096)); err != nil {
				return 1
			}
		}
	}
	return 0
}

func command(args ...string) kekhelper.Command {
	return kekhelper.Command{Args: append([]string{os.Args[0], "helper"}, args...), Timeout: time.Minute}
}

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func encoded(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// kekFile makes a KEK in a file.
func kekFile(t *testing.T) string {
	t.Helper()
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "kek")
	require.NoError(t, kek.WriteFile(name))
	return name
}

// checkKEK checks that a KEK keeps its contract, and that other, with another
// key, refuses what it made.
func checkKEK(t *testing.T, kek, other keyring.KEK) {
	t.Helper()
	id, wrapped, err := kek.Wrap(t.Context(), secret(1))
	require.NoError(t, err)
	got, err := kek.Unwrap(t.Context(), id, wrapped)
	require.NoError(t, err)
	require.Equal(t, secret(1), got)

	otherID, foreign, err := other.Wrap(t.Context(), secret(1))
	require.NoError(t, err)
	for _, c := range []struct {
		id      string
		wrapped []byte
	}{{otherID, foreign}, {id, foreign}, {otherID, wrapped}, {id, append([]byte{wrapped[0] ^ 1}, wrapped[1:]...)}, {id, wrapped[:len(wrapped)-1]}} {
		got, err := kek.Unwrap(t.Context(), c.id, c.wrapped)
		require.Error(t, err)
		require.Nil(t, got)
	}

	now := time.Now()
	ring, err := keyring.New(now, keyring.Config{})
	require.NoError(t, err)
	sealed, err := ring.Marshal(t.Context(), kek)
	require.NoError(t, err)
	loaded, err := keyring.Load(t.Context(), kek, sealed, keyring.Config{})
	require.NoError(t, err)
	require.Equal(t, ring.String(), loaded.String())
	_, err = keyring.Load(t.Context(), other, sealed, keyring.Config{})
	require.Error(t, err)
}

func TestCommand(t *testing.T) {
	a, b := kekFile(t), kekFile(t)
	checkKEK(t, command("serve", a), command("serve", b))
	checkKEK(t, command("serve", a), keyring.KEKFile{Name: b})
}

// The protocol is for other languages, too.
func TestShellHelper(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		testenv.Skip(t, "openssl is missing")
	}
	script := filepath.Join("testdata", "file-helper.sh")
	kek := func() kekhelper.Command { return kekhelper.Command{Args: []string{"sh", script, kekFile(t)}} }
	checkKEK(t, kek(), kek())
}

// Neither what others can see of a process nor what it says on errors has the
// key.
func TestSecretsAreNotSeen(t *testing.T) {
	name, seen := kekFile(t), filepath.Join(t.TempDir(), "seen")
	key := []byte("thirty-two bytes, none repeated!")
	require.Len(t, key, 32)
	forms := []string{string(key), encoded(key), base64.RawURLEncoding.EncodeToString(key), fmt.Sprintf("%x", key)}
	spy := command("spy", name, seen)
	spy.Env = append(os.Environ(), "SPY=present")
	id, wrapped, err := spy.Wrap(t.Context(), key)
	require.NoError(t, err)
	_, err = spy.Unwrap(t.Context(), id, wrapped)
	require.NoError(t, err)
	shown, err := os.ReadFile(seen)
	require.NoError(t, err)
	require.Contains(t, string(shown), "SPY=present")

	var errs []error
	for _, mode := range []string{"fail", "print"} {
		c := command(mode, ok+encoded(key)+"\n"+encoded(key)+"\n"+encoded(key)+"\n")
		_, _, err := c.Wrap(t.Context(), key)
		require.Error(t, err)
		errs = append(errs, err)
		_, err = c.Unwrap(t.Context(), "id", []byte("w"))
		require.Error(t, err)
		errs = append(errs, err)
	}
	for _, form := range forms {
		require.NotContains(t, string(shown), form)
		require.NotContains(t, errors.Join(errs...).Error(), form)
	}
}

func TestStderr(t *testing.T) {
	var b strings.Builder
	c := command("fail", ok+"id\n"+encoded([]byte("w"))+"\n")
	c.Stderr = &b
	_, _, err := c.Wrap(t.Context(), secret(1))
	require.ErrorContains(t, err, "exit status 3")
	require.NotContains(t, err.Error(), "away")
	require.Equal(t, "the service is away\n", b.String())
}

// A reply is exactly what the protocol says.
func TestReplies(t *testing.T) {
	w, key := encoded([]byte("w")), encoded(secret(1))
	wraps := map[string]bool{
		ok + "id\n" + w + "\n":                            true,
		ok + strings.Repeat("!", 255) + "\n" + w + "\n":   true,
		ok + "id\n" + encoded(make([]byte, 65535)) + "\n": true,
		"":                         false,
		"\n":                       false,
		ok:                         false,
		ok + "id\n":                false,
		ok + "id\n" + w:            false,
		ok + "id\n" + w + "\n\n":   false,
		ok + "id\n" + w + "\nx\n":  false,
		ok + "\n" + w + "\n":       false,
		ok + "i d\n" + w + "\n":    false,
		ok + "i\xe9d\n" + w + "\n": false,
		ok + "id\r\n" + w + "\n":   false,
		ok + "id\n" + w + "\r\n":   false,
		ok + "id\n\n":              false,
		ok + "id\n" + w[:3] + "\n": false,
		ok + "id\n" + "dx==\n":     false, // bits beyond the last byte
		ok + "id\n" + strings.TrimRight(w, "=") + "\n":              false,
		ok + strings.Repeat("!", 256) + "\n" + w + "\n":             false,
		ok + "id\n" + encoded(make([]byte, 65536)) + "\n":           false,
		"chattoken-kek-2 ok\nid\n" + w + "\n":                       false,
		"chattoken-kek-1\nid\n" + w + "\n":                          false,
		"chattoken-kek-1 ok \nid\n" + w + "\n":                      false,
		" " + ok + "id\n" + w + "\n":                                false,
		strings.ReplaceAll(ok, "\n", "\r\n") + "id\n" + w + "\n":    false,
		ok + "id\n" + w + "\n" + strings.Repeat("x", 96<<10) + "\n": false,
	}
	for reply, good := range wraps {
		id, wrapped, err := command("print", reply).Wrap(t.Context(), secret(1))
		assert.Equal(t, good, err == nil, "%.60q: %v", reply, err)
		assert.Equal(t, good, id != "" && wrapped != nil)
	}
	unwraps := map[string]bool{
		ok + key + "\n":                           true,
		ok + key:                                  false,
		ok + key + "\n\n":                         false,
		ok + key + "\n" + key + "\n":              false,
		ok + key[:43] + "\n":                      false,
		ok + "\n":                                 false,
		ok + encoded(secret(1)[1:]) + "\n":        false,
		ok + encoded(append(secret(1), 1)) + "\n": false,
		ok:                     false,
		"chattoken-kek-1 ok":   false,
		ok + "id\n" + w + "\n": false,
	}
	for reply, good := range unwraps {
		dataKey, err := command("print", reply).Unwrap(t.Context(), "id", []byte("w"))
		assert.Equal(t, good, err == nil, "%.60q: %v", reply, err)
		assert.Equal(t, good, dataKey != nil)
	}
	// Whether the helper reads the request is its own affair.
	_, err := command("early", ok+key+"\n").Unwrap(t.Context(), "id", make([]byte, 65535))
	assert.NoError(t, err)
}

// Anybody may have written the file that an ID is from: it cannot add lines to
// a request.
func TestUnwrapWithoutAHelper(t *testing.T) {
	for _, id := range []string{"", "a\nb", "a\n", "a b", "é", "\x00", strings.Repeat("a", 256)} {
		_, err := kekhelper.Command{Args: []string{"/nonexistent"}}.Unwrap(t.Context(), id, []byte("w"))
		require.ErrorContains(t, err, "the KEK's ID", "%q", id)
	}
	for _, wrapped := range [][]byte{nil, make([]byte, 65536)} {
		_, err := kekhelper.Command{Args: []string{"/nonexistent"}}.Unwrap(t.Context(), "id", wrapped)
		require.ErrorContains(t, err, "wrapped data key")
	}
}

func TestHelperThatDoesNotWork(t *testing.T) {
	dataKey := secret(1)
	for name, c := range map[string]kekhelper.Command{
		"none":        {},
		"missing":     {Args: []string{filepath.Join(t.TempDir(), "missing")}},
		"not in PATH": {Args: []string{"chattoken-no-such-helper"}},
		"flood":       command("flood"),
		"echo":        command("echo"), // as cat would
		"no request":  command("serve", "/nonexistent"),
	} {
		_, wrapped, err := c.Wrap(t.Context(), dataKey)
		assert.Error(t, err, name)
		assert.Nil(t, wrapped, name)
		got, err := c.Unwrap(t.Context(), "id", []byte("w"))
		assert.Error(t, err, name)
		assert.Nil(t, got, name)
	}
}

func TestTimeout(t *testing.T) {
	c := command("hang")
	c.Timeout = 50 * time.Millisecond
	_, _, err := c.Wrap(t.Context(), secret(1))
	require.ErrorContains(t, err, "no answer within 50ms")
	c.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = c.Wrap(ctx, secret(1))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = c.Unwrap(ctx, "id", []byte("w"))
	require.ErrorIs(t, err, context.Canceled)
}

// A process that the helper leaves behind blocks nobody.
func TestHelperLeavesAProcessBehind(t *testing.T) {
	var pid strings.Builder
	c := command("leave", ok+encoded(secret(1))+"\n")
	c.Stderr = &pid
	_, err := c.Unwrap(t.Context(), "id", []byte("w"))
	require.ErrorIs(t, err, exec.ErrWaitDelay)
	var n int
	_, err = fmt.Sscan(pid.String(), &n)
	require.NoError(t, err)
	left, err := os.FindProcess(n)
	require.NoError(t, err)
	require.NoError(t, left.Kill())
}

// A service's credentials are not printed, logged or encoded.
func TestEnvIsNotShown(t *testing.T) {
	c := kekhelper.Command{Args: []string{"helper", "--pin=needle"}, Env: []string{"SECRET=needle"}}
	file := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: keyring.KEKs{keyring.KEKFile{Name: kekFile(t)}, c}}
	_, err := file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	follower, err := file.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	for _, v := range []any{c, &c, keyring.KEKs{c}, file, follower} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			shown := fmt.Sprintf(verb, v)
			require.NotContains(t, shown, "needle", verb)
			require.NotContains(t, shown, hex.EncodeToString([]byte("needle")), verb)
		}
		var logged strings.Builder
		for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
			slog.New(h).Info("message", "v", v, "in", []any{v})
		}
		require.NotContains(t, logged.String(), "needle")
		encoded, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(encoded), "needle")
	}
	require.ErrorContains(t, gob.NewEncoder(io.Discard).Encode(c), "not encoded")
	require.Equal(t, "helper", fmt.Sprintf("%#v", c))
}

// A data key of another length does not reach a helper.
func TestWrapLength(t *testing.T) {
	for _, n := range []int{0, 31, 33} {
		_, _, err := command("print", ok+"id\n"+encoded([]byte("w"))+"\n").Wrap(t.Context(), make([]byte, n))
		require.ErrorContains(t, err, "not 32 bytes", n)
	}
}

// A request is exactly what the protocol says. To any other, a helper writes
// nothing.
func TestServe(t *testing.T) {
	kek := keyring.KEKFile{Name: kekFile(t)}
	id, made, err := kek.Wrap(t.Context(), secret(1))
	require.NoError(t, err)
	key, w := encoded(secret(1)), encoded(made)
	const v = "chattoken-kek-1\n"
	requests := map[string]bool{
		v + "wrap\n" + key + "\n":              true,
		v + "unwrap\n" + id + "\n" + w + "\n":  true,
		"":                                     false,
		v:                                      false,
		v + "wrap\n":                           false,
		v + "wrap\n" + key:                     false,
		v + "wrap\n" + key + "\n\n":            false,
		v + "wrap\n" + key + "\n" + key + "\n": false,
		v + "WRAP\n" + key + "\n":              false,
		v + "wrap\n" + encoded(secret(1)[1:]) + "\n":             false,
		v + "wrap\n" + encoded(append(secret(1), 1)) + "\n":      false,
		"chattoken-kek-2\nwrap\n" + key + "\n":                   false,
		"wrap\n" + key + "\n":                                    false,
		v + "unwrap\n" + id + "\n" + w:                           false,
		v + "unwrap\n" + id + "x\n" + w + "\n":                   false,
		v + "unwrap\n" + w + "\n":                                false,
		v + "unwrap\n\n" + w + "\n":                              false,
		v + "unwrap\n" + id + "\n" + encoded([]byte("w")) + "\n": false,
		v + "unwrap\n" + id + "\n" + w[1:] + "\n":                false,
		v + strings.Repeat("x", 96<<10) + "\n":                   false,
	}
	for request, good := range requests {
		var reply strings.Builder
		err := kekhelper.Serve(t.Context(), kek, strings.NewReader(request), &reply)
		assert.Equal(t, good, err == nil, "%.60q: %v", request, err)
		assert.Equal(t, good, strings.HasPrefix(reply.String(), ok), "%.60q", request)
		if !good {
			assert.Empty(t, reply.String())
			assert.NotContains(t, err.Error(), key)
		}
	}
	broken := errors.New("broken")
	err = kekhelper.Serve(t.Context(), kek, iotest.ErrReader(broken), io.Discard)
	require.ErrorIs(t, err, broken)
	err = kekhelper.Serve(t.Context(), kek, strings.NewReader(v+"wrap\n"+key+"\n"), brokenWriter{broken})
	require.ErrorIs(t, err, broken)
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// A KEK that no reply has room for is an error of the helper.
func TestServeUnfitKEK(t *testing.T) {
	const v = "chattoken-kek-1\n"
	for name, kek := range map[string]unfit{
		"ID with a space": {id: "a b", data: []byte("w")},
		"no ID":           {data: []byte("w")},
		"nothing wrapped": {id: "id"},
		"too much":        {id: "id", data: make([]byte, 65536)},
	} {
		assert.Error(t, kekhelper.Serve(t.Context(), kek, strings.NewReader(v+"wrap\n"+encoded(secret(1))+"\n"), io.Discard), name)
	}
	err := kekhelper.Serve(t.Context(), unfit{data: []byte("short")}, strings.NewReader(v+"unwrap\nid\n"+encoded([]byte("w"))+"\n"), io.Discard)
	require.ErrorContains(t, err, "not 32 bytes")
}

type unfit struct {
	id   string
	data []byte
}

func (k unfit) Wrap(context.Context, []byte) (string, []byte, error)   { return k.id, k.data, nil }
func (k unfit) Unwrap(context.Context, string, []byte) ([]byte, error) { return k.data, nil }

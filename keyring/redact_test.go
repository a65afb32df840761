package keyring_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// needles returns the forms in which a printer could show the first bytes of b.
func needles(b []byte) []string {
	b = b[:6]
	quoted, escaped := strconv.Quote(string(b)), strconv.QuoteToASCII(string(b))
	decimal := strings.Trim(fmt.Sprint(b), "[]")
	return []string{
		string(b),
		quoted[1 : len(quoted)-1],
		escaped[1 : len(escaped)-1],
		strings.Trim(fmt.Sprintf("%#v", b), "[]byte{}")[:len("0x0, 0x0, 0x0, ")],
		hex.EncodeToString(b),
		strings.ToUpper(hex.EncodeToString(b)),
		fmt.Sprintf("% x", b),
		fmt.Sprintf("% X", b),
		decimal,
		strings.ReplaceAll(decimal, " ", ", "),
		strings.ReplaceAll(decimal, " ", ","),
		base64.StdEncoding.EncodeToString(b),
		base64.URLEncoding.EncodeToString(b),
	}
}

// hidden returns a ring, a KEK, and every form of their secrets.
func hidden(t *testing.T) (*keyring.Ring, *keyring.LocalKEK, []string) {
	t.Helper()
	r := load(t, good(), keyring.Config{Context: "production"})
	kek, err := keyring.ParseKEK("chattoken-kek1_" + base64.RawURLEncoding.EncodeToString(secret(5)))
	require.NoError(t, err)
	forms := needles(secret(5))
	for _, n := range []int{0, 1, 2, 9} {
		key, _, err := keyring.Derive(secret(n), "production")
		require.NoError(t, err)
		forms = append(append(forms, needles(secret(n))...), needles(key)...)
	}
	return r, kek, forms
}

func TestNeedles(t *testing.T) {
	type holder struct{ secret []byte }
	h := holder{secret(5)}
	dump, err := json.Marshal(h.secret)
	require.NoError(t, err)
	for _, shown := range []string{
		fmt.Sprint(h), fmt.Sprintf("%#v", h), fmt.Sprintf("%x", h), fmt.Sprintf("%X", h), fmt.Sprintf("%q", h), fmt.Sprintf("%s", h), string(dump),
	} {
		require.True(t, contains(shown, needles(h.secret)), shown)
	}
}

func contains(shown string, forms []string) bool {
	for _, form := range forms {
		if strings.Contains(shown, form) {
			return true
		}
	}
	return false
}

// embedder is a caller's struct. Its unexported fields hide their methods from
// fmt.
type embedder struct {
	ring *keyring.Ring
	kek  *keyring.LocalKEK
	any  any
	Ring *keyring.Ring
	KEK  keyring.KEK
}

func TestPrinters(t *testing.T) {
	r, kek, forms := hidden(t)
	e := embedder{r, kek, []any{r, kek}, r, kek}
	file := keyring.File{Name: filepath.Join(t.TempDir(), "ring"), KEK: keyring.KEKs{kek}, Config: keyring.Config{Context: "production"}}
	require.NoError(t, file.Save(t.Context(), r))
	follower, err := file.Follow(t.Context(), start)
	require.NoError(t, err)
	values := map[string]any{
		"ring": r, "KEK": kek, "KEK value": *kek, "embedder": e, "pointer": &e, "slice": []any{r, kek, e},
		"map": map[string]any{"ring": r, "kek": kek, "e": e}, "pointer to pointer": &r,
		"KEKs": keyring.KEKs{kek}, "file": file, "follower": follower,
		"functions": []any{r.SealBox, r.OpenBox, kek.Wrap, kek.InsecureText},
	}
	for name, v := range values {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "20", ".3", "+#20.3"} {
				format := "%" + flags + string(verb)
				shown := fmt.Sprintf(format, v)
				require.False(t, contains(shown, forms), "%s of %s: %s", format, name, shown)
			}
		}
	}
	require.Equal(t, "keyring(serial 7, keys", r.String()[:22])
	require.Equal(t, kek.ID(), fmt.Sprintf("%#v", kek))
	require.Equal(t, kek.ID(), kek.String())
}

func TestLogs(t *testing.T) {
	r, kek, forms := hidden(t)
	var out bytes.Buffer
	e := embedder{r, kek, r, r, kek}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("message", "ring", r, "kek", kek, "e", e, "pointer", &e, "any", []any{r, kek})
	}
	require.Contains(t, out.String(), "ring.serial=7")
	require.Contains(t, out.String(), kek.ID())
	require.False(t, contains(out.String(), forms), out.String())
}

func TestEncoders(t *testing.T) {
	r, kek, _ := hidden(t)
	for _, v := range []any{r, kek, &embedder{Ring: r}, &embedder{KEK: kek}, map[string]any{"r": r}, []any{kek}} {
		_, err := json.Marshal(v)
		require.ErrorContains(t, err, "marshalled")
	}
	for _, v := range []any{r, kek} {
		_, err := v.(interface{ MarshalText() ([]byte, error) }).MarshalText()
		require.ErrorContains(t, err, "marshalled")
		var out bytes.Buffer
		require.ErrorContains(t, gob.NewEncoder(&out).Encode(v), "marshalled")
	}
}

// recorder is a failing test that keeps its messages.
type recorder struct{ bytes.Buffer }

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(r, format, args...) }

// testify's dumper follows pointers into unexported fields.
func TestDumpers(t *testing.T) {
	r, kek, forms := hidden(t)
	var out recorder
	assert.Equal(&out, r, newRing(t, start))
	assert.Equal(&out, kek, newKEK(t))
	assert.Equal(&out, embedder{r, kek, r, r, kek}, embedder{})
	assert.Contains(&out, []any{r, kek}, 1)
	assert.Nil(&out, r)
	assert.Empty(&out, kek)
	require.Greater(t, out.Len(), 1000)
	require.False(t, contains(out.String(), forms), out.String())

	// Today only an atomic pointer keeps dumpers out of here.
	out.Reset()
	assert.Nil(&out, r.Snapshot())
	assert.Equal(&out, r.Snapshot(), newRing(t, start).Snapshot())
	require.Contains(t, out.String(), "serial", "the dumper did not get here")
	require.False(t, contains(out.String(), forms), out.String())
}

// A goroutine that derives a key shows in tracebacks: of a crash, on SIGQUIT,
// and in net/http/pprof. They print values, so secrets are passed by pointer.
func TestTracebacks(t *testing.T) {
	r, kek, forms := hidden(t)
	sealed, err := r.Marshal(t.Context(), kek)
	require.NoError(t, err)
	text := kek.InsecureText()
	var done atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer done.Store(true)
	again := func(f func() error) {
		wg.Go(func() {
			for !done.Load() {
				assert.NoError(t, f())
			}
		})
	}
	again(func() error {
		_, err := keyring.Load(context.Background(), kek, sealed, keyring.Config{Context: "production"})
		return err
	})
	again(func() error { _, err := keyring.ParseKEK(text); return err })
	trace := make([]byte, 1<<20)
	var loading, parsing int
	for deadline := time.Now().Add(time.Minute); loading < 5 || parsing < 5; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "seen loading %d times, parsing %d times", loading, parsing)
		shown := string(trace[:runtime.Stack(trace, true)])
		loading += strings.Count(shown, "keyring.newKey(")
		parsing += strings.Count(shown, "keyring.newLocalKEK(")
		require.False(t, contains(shown, forms), shown)
	}
}

func TestPanic(t *testing.T) {
	r, kek, forms := hidden(t)
	if inChild() {
		panic(fmt.Errorf("%v %+v %#v %w", r, kek, embedder{ring: r, kek: kek}, panicValue{r, kek}))
	}
	out, err := runChild(t)
	require.Error(t, err)
	require.Contains(t, string(out), "panic: ")
	require.False(t, contains(string(out), forms), "%s", out)
}

type panicValue struct {
	*keyring.Ring
	kek *keyring.LocalKEK
}

func (panicValue) Error() string { return "panic value" }

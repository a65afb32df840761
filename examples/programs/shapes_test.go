package programs_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// standIn is the import in the root's examples, because the root depends on no
// WebSocket library.
const standIn = "github.com/seed17cb2b26/chattoken/internal/websocket"

// libraries have the names of standIn, with real connections.
var libraries = map[string]string{
	"coder":   "github.com/coder/websocket",
	"gorilla": "github.com/seed17cb2b26/chattoken/examples/programs/gorillaconn",
}

// program makes a program of a documented example: its body becomes main's, on
// another library, and more follows.
func program(t testing.TB, file, example, library, more string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", file))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(data), "import (\n")
	require.True(t, ok)
	imports, rest, ok := strings.Cut(rest, "\n)\n")
	require.True(t, ok)
	_, rest, ok = strings.Cut(rest, "func "+example+"() {\n")
	require.True(t, ok)
	body, _, ok := strings.Cut(rest, "\n}\n")
	require.True(t, ok)
	body += more
	require.Contains(t, imports, standIn)
	imports = strings.Replace(used(imports, body), `"`+standIn+`"`, `websocket "`+library+`"`, 1)
	return "package main\n\nimport (\n" + imports + ")\n\nfunc main() {\n" + body + "\n}\n"
}

// used returns the imports that a body needs.
func used(imports, body string) string {
	var kept strings.Builder
	for line := range strings.Lines(imports) {
		path := strings.Trim(strings.TrimSpace(line), `"`)
		name := path[strings.LastIndex(path, "/")+1:]
		if path != "" && strings.Contains(body, strings.Trim(name, `"`)+".") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// The documented examples work on both libraries: they echo the subprotocol, or
// clients would close the connection at once.
func TestShapes(t *testing.T) {
	for library := range libraries {
		t.Run(library, func(t *testing.T) {
			t.Parallel()
			t.Run("gateway.Example", func(t *testing.T) { testGatewayExample(t, library) })
			t.Run("token.ExampleOpener_Open", func(t *testing.T) { testOpenExample(t, library) })
		})
	}
}

// run builds a program and starts it in a directory.
func run(t testing.TB, source, dir, address string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	return start(t, filepath.Join(build(t, file), "main"), dir, address)
}

// enter connects by the client of the other library.
func enter(t testing.TB, library, url, origin, text string) gatewaytest.Conn {
	t.Helper()
	dial := gatewaytest.Gorilla
	if library == "gorilla" {
		dial = gatewaytest.Coder
	}
	conn, status := dial(t, url, http.Header{"Origin": {origin}}, text)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	require.Equal(t, "hello", conn.Say(t, "hello"))
	return conn
}

// status is the answer to the upgrade.
func status(t testing.TB, url, origin, text string) int {
	t.Helper()
	_, status := gatewaytest.Gorilla(t, url, http.Header{"Origin": {origin}}, text)
	return status
}

func testGatewayExample(t *testing.T, library string) {
	address, dir := freeAddress(t), host(t)
	kek, err := keyring.KEKFile{Name: filepath.Join(dir, "kek")}.Read()
	require.NoError(t, err)
	ring, err := keyring.File{Name: filepath.Join(dir, "keyring"), KEK: kek}.Load(t.Context())
	require.NoError(t, err)
	source := program(t, "gateway/example_test.go", "Example", libraries[library], "")
	require.Contains(t, source, "127.0.0.1:8080")
	p := run(t, strings.Replace(source, "127.0.0.1:8080", address, 1), dir, address)
	mint := func() string {
		minted, err := (&token.Sealer{Ring: ring}).Create(tokentest.Claims())
		require.NoError(t, err)
		return minted.Token
	}
	chat := p.url + "/chat"
	listening(t, address)
	// The guard is not ready at once, and this gateway has no /health.
	require.Eventually(t, func() bool {
		return status(t, chat, p.url, mint()) == http.StatusSwitchingProtocols
	}, time.Minute, 100*time.Millisecond)

	spent := mint()
	conn := enter(t, library, chat, p.url, spent)
	require.Equal(t, http.StatusUnauthorized, status(t, chat, p.url, spent))
	require.Equal(t, http.StatusForbidden, status(t, chat, "https://other.example", mint()))
	require.Equal(t, "hello again", conn.Say(t, "hello again"))
}

func testOpenExample(t *testing.T, library string) {
	address := freeAddress(t)
	p := run(t, program(t, "token/example_test.go", "ExampleOpener_Open", libraries[library], `
	http.HandleFunc("/mint", func(w http.ResponseWriter, r *http.Request) {
		minted, _ := (&token.Sealer{Ring: ring}).Create(tokentest.Claims())
		fmt.Fprint(w, minted.Token)
	})
	log.Fatal(http.ListenAndServe("`+address+`", nil))`), t.TempDir(), address)
	listening(t, address)
	mint := func() string {
		resp, err := http.Get(p.url + "/mint")
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text)
	}
	chat := p.url + "/chat/" + url.PathEscape(tokentest.Room)
	spent := mint()
	conn := enter(t, library, chat, p.url, spent)
	require.Equal(t, http.StatusUnauthorized, status(t, chat, p.url, spent))
	require.Equal(t, http.StatusForbidden, status(t, p.url+"/chat/another", p.url, mint()))
	require.Equal(t, "hello again", conn.Say(t, "hello again"))
}

// listening waits until something listens at an address.
func listening(t testing.TB, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}, time.Minute, 10*time.Millisecond)
}

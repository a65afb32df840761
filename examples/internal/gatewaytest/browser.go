package gatewaytest

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/gateway"
)

const chromium = "/usr/bin/chromium"

// Report is what a page reports of a connection.
type Report struct {
	Name   string // which connection
	Event  string
	Code   int
	Reason string
}

// Browser is Chromium with a page of the gateway's own origin.
type Browser struct {
	orders  chan Order
	reports chan Report
}

// Order tells the page what to open, under which name.
type Order struct{ Name, URL, Token string }

// page opens what /orders says, and reports what happens.
const page = `<!doctype html><title>test</title><script>
const report = (name, event, code, reason) =>
	fetch("/reports", {method: "POST", body: JSON.stringify({name, event, code, reason})});
function open({Name, URL, Token}) {
	if (!Token) {
		const source = new EventSource(URL);
		let last;
		source.addEventListener("time", () => { if (!last) report(Name, "open"); last = "time"; });
		source.addEventListener("end", (e) => { const {code, reason} = JSON.parse(e.data); report(Name, "end", code, reason); });
		source.onerror = () => { if (source.readyState === EventSource.CLOSED) report(Name, "closed"); };
		return;
	}
	const socket = new WebSocket(URL, Token);
	socket.onopen = () => socket.send("hello");
	socket.onmessage = (e) => report(Name, e.data);
	socket.onclose = (e) => report(Name, "close", e.code, e.reason);
}
(async () => {
	for (;;) open(await (await fetch("/orders")).json());
})().catch(() => {});
</script>`

// InBrowser has a program also serve a page, and a Browser go there. Without
// Chromium it skips the test.
func InBrowser(t testing.TB, program Make) (Make, *Browser) {
	t.Helper()
	skipShort(t)
	if _, err := os.Stat(chromium); err != nil {
		if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
			t.Fatalf("required, but: %s is missing: install chromium", chromium)
		}
		t.Skipf("SKIPPED: %s is missing: install chromium", chromium)
	}
	b := &Browser{make(chan Order), make(chan Report, 100)}
	return func(keys gateway.Keys, guard gateway.Guard) (*gateway.Gateway, http.Handler) {
		g, handler := program(keys, guard)
		mux := http.NewServeMux()
		mux.Handle("/", handler)
		mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(page))
		})
		mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
			select {
			case order := <-b.orders:
				_ = json.NewEncoder(w).Encode(order)
			case <-r.Context().Done():
			}
		})
		mux.HandleFunc("POST /reports", func(_ http.ResponseWriter, r *http.Request) {
			var report Report
			if json.NewDecoder(r.Body).Decode(&report) == nil {
				b.reports <- report
			}
		})
		return g, mux
	}, b
}

// Visit starts the browser.
func (b *Browser) Visit(t testing.TB, h *House) {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium")
	require.NoError(t, err)
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
		"--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
		"--user-data-dir="+dir, h.URL+"/page")
	// A killed Chromium leaves files in the directory for temporary files.
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	DieWithParent(cmd)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// Its children write for a moment longer.
		assert.Eventually(t, func() bool { return os.RemoveAll(dir) == nil }, patience, 10*time.Millisecond)
	})
}

// Open has the page open a connection.
func (b *Browser) Open(t testing.TB, order Order) {
	t.Helper()
	select {
	case b.orders <- order:
	case <-time.After(patience):
		t.Fatal("the browser does not ask for more")
	}
}

// Next returns the page's next report.
func (b *Browser) Next(t testing.TB) Report {
	t.Helper()
	select {
	case report := <-b.reports:
		return report
	case <-time.After(patience):
		t.Fatal("the browser reports nothing")
	}
	return Report{}
}

package ivschat

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/seed17cb2b26/chattoken/gateway"
)

//go:embed page
var page embed.FS

// routes returns all routes. The gateway and the page share a path, because a
// WebSocket client connects to the root of its address.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.serveOperation)
	mux.HandleFunc("GET /healthz", s.healthz)
	if s.config.Vars {
		mux.HandleFunc("GET /debug/vars", s.ServeVars)
	}
	var other http.Handler = http.HandlerFunc(s.connect) // which says what the handshake lacks
	if s.config.Join {
		mux.HandleFunc("GET /join", s.listJoin)
		mux.HandleFunc("POST /join", s.join)
		files, _ := fs.Sub(page, "page") // no error: the name is a valid path
		other = withPageHeaders(http.FileServerFS(files))
		for _, name := range []string{"chat.js", "connection.js", "style.css"} {
			mux.Handle("GET /"+name, other)
		}
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			s.connect(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
	return mux
}

// withPageHeaders keeps the page from loading anything from elsewhere, whatever
// a message contains, and from being shown in a frame.
func withPageHeaders(h http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
		"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP answers a request. If there's nothing at the path, the answer is an
// error that the API's clients can read.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path.Clean(r.URL.Path) != r.URL.Path { // the mux would redirect
		s.serveOperation(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// healthz says whether a load balancer should send users here. ServeVars tells
// the operator why not.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	switch s.gateway.Ready(s.now()) {
	case nil:
		w.Write([]byte("ok\n"))
	case gateway.ErrDraining:
		http.Error(w, "draining", http.StatusServiceUnavailable)
	default:
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	}
}

package gateway

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// checkHandshake judges a WebSocket handshake (RFC 6455, section 4.2.1), so
// that no token is spent on a request that a library will not upgrade.
func checkHandshake(w http.ResponseWriter, r *http.Request, extendedConnect bool) error {
	if extendedConnect && r.Method == http.MethodConnect && r.ProtoMajor >= 2 {
		if protocol := r.Header[":protocol"]; len(protocol) != 1 || protocol[0] != "websocket" {
			return errHandshake
		}
		return checkVersion(r)
	}
	switch {
	case r.Method != http.MethodGet, r.ProtoMajor < 1, r.ProtoMajor == 1 && r.ProtoMinor < 1, r.Host == "":
		return errHandshake
	case !hasToken(r.Header["Connection"], "upgrade"), !hasToken(r.Header["Upgrade"], "websocket"):
		return errHandshake
	case !validKey(r.Header["Sec-Websocket-Key"]), r.ContentLength != 0: // a body would be taken for frames
		return errHandshake
	case r.ProtoMajor > 1 || hijacker(w) == nil:
		return errHijack
	}
	return checkVersion(r)
}

func checkVersion(r *http.Request) error {
	if v := r.Header["Sec-Websocket-Version"]; len(v) != 1 || v[0] != "13" {
		return errVersion
	}
	return nil
}

// hasToken reports whether a comma-separated list has a token, in any case.
func hasToken(header []string, want string) bool {
	for _, line := range header {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(part), want) {
				return true
			}
		}
	}
	return false
}

// validKey reports whether there is one key, of 16 bytes in base64.
func validKey(header []string) bool {
	const keySize = 16
	if len(header) != 1 || len(header[0]) != base64.StdEncoding.EncodedLen(keySize) {
		return false
	}
	var key [keySize + 2]byte
	n, err := base64.StdEncoding.Decode(key[:], []byte(header[0]))
	return err == nil && n == keySize
}

// hijacker returns what http.ResponseController.Hijack calls, or nil.
func hijacker(w http.ResponseWriter) http.Hijacker {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return t
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return nil
		}
	}
}

// hijackable returns w as an http.Hijacker itself, if it wraps one: not every
// library unwraps it, as gorilla/websocket does not.
func hijackable(w http.ResponseWriter) http.ResponseWriter {
	h := hijacker(w)
	if _, ok := w.(http.Hijacker); ok || h == nil {
		return w
	}
	return unwrapped{w, h}
}

type unwrapped struct {
	http.ResponseWriter
	http.Hijacker
}

// Unwrap is for http.ResponseController.
func (u unwrapped) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// origin is a scheme, a host in lower case, and a port (RFC 6454, section 4).
type origin struct{ scheme, host, port string }

func (o origin) String() string { return o.scheme + "://" + net.JoinHostPort(o.host, o.port) }

// makeOrigin fills in the scheme's default port.
func makeOrigin(scheme, hostport string) (o origin, ok bool) {
	scheme = strings.ToLower(scheme)
	u := url.URL{Host: hostport}
	o = origin{scheme, strings.ToLower(u.Hostname()), u.Port()}
	if o.port == "" && !strings.HasSuffix(hostport, ":") {
		switch scheme {
		case "http", "ws":
			o.port = "80"
		case "https", "wss":
			o.port = "443"
		}
	}
	return o, o.host != "" && o.port != ""
}

// parseOrigin reads what a browser writes into the header Origin.
func parseOrigin(s string) (o origin, ok bool) {
	scheme, hostport, found := strings.Cut(s, "://")
	if !found || strings.ContainsAny(hostport, "/?#@\\ \t*,") || !validScheme(scheme) {
		return origin{}, false
	}
	return makeOrigin(scheme, hostport)
}

func validScheme(s string) bool {
	return strings.EqualFold(s, "http") || strings.EqualFold(s, "https")
}

// parseOrigins reads Config.Origins, and refuses what no Origin can match.
func parseOrigins(list []string) ([]origin, error) {
	var origins []origin
	for _, s := range list {
		o, ok := parseOrigin(s)
		if !ok {
			return nil, fmt.Errorf("gateway: Config.Origins: %q is no origin such as https://chat.example.com: scheme, host, and a port if it is not the scheme's own", s)
		}
		origins = append(origins, o)
	}
	return origins, nil
}

// checkOrigin judges the page from which a browser connects. Whoever sends no
// Origin is no page.
func (g *Gateway) checkOrigin(r *http.Request) error {
	header := r.Header["Origin"]
	if len(header) == 0 {
		return nil
	}
	o, ok := parseOrigin(header[0])
	if len(header) > 1 || !ok {
		return errOrigin // "null", too, is an opaque page's
	}
	if g.config.Origins == nil {
		if own, ok := makeOrigin(g.scheme(r), r.Host); ok && own == o {
			return nil
		}
		return errOrigin
	}
	for _, allowed := range g.origins {
		if allowed == o {
			return nil
		}
	}
	return errOrigin
}

// scheme is that by which the request came.
func (g *Gateway) scheme(r *http.Request) string {
	if h := g.config.ForwardedProto; h != "" {
		if v := r.Header.Values(h); len(v) == 1 {
			return v[0]
		}
		return ""
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// checkStream judges a request for server-sent events.
func checkStream(w http.ResponseWriter, r *http.Request, _ bool) error {
	if r.Method != http.MethodGet {
		return errMethod
	}
	if !canFlush(w) {
		return errFlush
	}
	return nil
}

// canFlush reports whether http.ResponseController.Flush can.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

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
	case !hasElement(r.Header["Connection"], "upgrade"), !hasElement(r.Header["Upgrade"], "websocket"):
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

// hasElement reports whether a comma-separated list has an element, in any
// case, and all its elements are tokens. Libraries disagree on other lists, and
// some refuse the upgrade.
func hasElement(header []string, want string) (found bool) {
	for _, line := range header {
		for more := true; more; {
			var element string
			element, line, more = cutElement(line)
			if equalFold(element, want) {
				found = true
			} else if !validToken(element) {
				return false
			}
		}
	}
	return found
}

// cutElement splits the first element off a comma-separated list.
func cutElement(list string) (element, rest string, more bool) {
	if i := strings.IndexByte(list, ','); i >= 0 {
		list, rest, more = list[:i], list[i+1:], true
	}
	return textproto.TrimString(list), rest, more
}

// validToken reports whether s is a token (RFC 9110, section 5.6.2).
func validToken(s string) bool { return s != "" && all(s, tokenChar) }

// equalFold reports whether s is letters in any case; letters are lower-case
// ASCII.
func equalFold(s, letters string) bool {
	if len(s) != len(letters) {
		return false
	}
	for i := range len(s) {
		if s[i]|0x20 != letters[i] {
			return false
		}
	}
	return true
}

// validKey reports whether there is one key, of 16 bytes in base64.
func validKey(header []string) bool {
	if len(header) != 1 {
		return false
	}
	key, ok := strings.CutSuffix(header[0], "==")
	return ok && len(key) == 22 && all(key, base64Char)
}

// What a byte may be part of.
const (
	tokenChar = 1 << iota
	base64Char
	hostChar // no port, no address of IPv6
)

var chars = func() (t [256]uint8) {
	for c := range t {
		switch c := byte(c); {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			t[c] = tokenChar | base64Char | hostChar
		case c >= 'A' && c <= 'Z', c == '+':
			t[c] = tokenChar | base64Char
		case c == '.', c == '-':
			t[c] = tokenChar | hostChar
		case c == '/':
			t[c] = base64Char
		case strings.IndexByte("!#$%&'*^_`|~", c) >= 0:
			t[c] = tokenChar
		}
	}
	return t
}()

// all reports whether of has every byte of s.
func all(s string, of uint8) bool {
	for i := range len(s) {
		of &= chars[s[i]]
	}
	return of != 0
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

// taker is a ResponseWriter that remembers the connection that a WebSocket
// library takes over. It is an http.Hijacker itself, because gorilla/websocket
// doesn't unwrap one.
type taker struct {
	http.ResponseWriter
	taken func(net.Conn)
}

// Hijack implements http.Hijacker.
func (t taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err == nil {
		t.taken(conn)
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (t taker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// take returns w with a Hijack that calls taken, unless w has none.
func take(w http.ResponseWriter, taken func(net.Conn)) http.ResponseWriter {
	if hijacker(w) == nil {
		return w
	}
	return taker{w, taken}
}

// grace is how long a connection may outlast its participant.
const grace = 10 * time.Second

// cutOff closes a connection when the grace is over. Otherwise a client that
// stops within a frame would block some libraries' Close, and so a drain,
// forever.
func cutOff(conn net.Conn) { time.AfterFunc(grace, func() { conn.Close() }) }

// origin is a scheme, a host in lower case, and a port (RFC 6454, section 4).
type origin struct{ scheme, host, port string }

// makeOrigin fills in the scheme's default port.
func makeOrigin(scheme, hostport string) (o origin, ok bool) {
	u := url.URL{Host: hostport}
	o = origin{strings.ToLower(scheme), strings.ToLower(u.Hostname()), u.Port()}
	if o.port == "" && !strings.HasSuffix(hostport, ":") {
		switch o.scheme {
		case "http":
			o.port = "80"
		case "https":
			o.port = "443"
		}
	}
	return o, o.host != "" && o.port != ""
}

// parseOrigin reads what a browser writes into the header Origin.
func parseOrigin(s string) (o origin, ok bool) {
	scheme, hostport, _ := strings.Cut(s, "://")
	if !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return origin{}, false
	}
	o, ok = makeOrigin(scheme, hostport)
	if !ok || strings.ContainsFunc(hostport, func(r rune) bool { return r > unicode.MaxASCII }) {
		return origin{}, false
	}
	whole, hostport := net.JoinHostPort(o.host, o.port), strings.ToLower(hostport)
	return o, hostport == whole || hostport+":"+o.port == whole
}

// valid reports whether a browser can have written host and port. The host is
// an address, or a name whose last part is no number (URL Standard, section
// 3.5).
func (o origin) valid() bool {
	port, err := strconv.ParseUint(o.port, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != o.port {
		return false
	}
	if address, err := netip.ParseAddr(o.host); err == nil {
		return address.String() == o.host && !address.Is4In6() && address.Zone() == ""
	}
	last := ""
	for label := range strings.SplitSeq(strings.TrimSuffix(o.host, "."), ".") {
		if !validLabel(label) {
			return false
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

// validLabel reports whether s is a part of a host name. Browsers allow
// underscores.
func validLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// parseOrigins reads Config.Origins. It refuses what no browser sends.
func parseOrigins(list []string) ([]origin, error) {
	var origins []origin
	for _, s := range list {
		o, ok := parseOrigin(s)
		if !ok || !o.valid() {
			return nil, fmt.Errorf("gateway: Config.Origins: %q is no origin such as https://chat.example.com: scheme, host, and a port if it is not the scheme's own", s)
		}
		origins = append(origins, o)
	}
	return origins, nil
}

// checkOrigin checks the page from which a browser connects. Without an Origin
// there is no page.
func (g *Gateway) checkOrigin(r *http.Request) error {
	header := r.Header["Origin"]
	switch {
	case len(header) == 0:
		return nil
	case len(header) > 1:
		return errOrigin
	case g.expected(r, header[0]):
		return nil
	}
	o, ok := parseOrigin(header[0])
	if !ok {
		return errOrigin // also for "null", an opaque origin
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

// expected is the fast path, for an Origin that equals a listed one, or r's
// own, byte by byte. Nearly all do. Parsing them costs a fifth of Enter.
func (g *Gateway) expected(r *http.Request, header string) bool {
	if g.config.Origins != nil {
		return slices.Contains(g.config.Origins, header)
	}
	scheme, host, _ := strings.Cut(header, "://")
	return (scheme == "https" || scheme == "http") && scheme == g.scheme(r) &&
		host == r.Host && host != "" && all(host, hostChar)
}

// originError says which origin r has, and which it should have.
func (g *Gateway) originError(r *http.Request) error {
	want := g.config.Origins
	if want == nil {
		want = []string{g.scheme(r) + "://" + r.Host}
	}
	got := r.Header["Origin"]
	return &originError{slices.Clone(got[:min(2, len(got))]), want}
}

// scheme is http or https. Some proxies say ws or wss instead.
func (g *Gateway) scheme(r *http.Request) string {
	h := g.config.ForwardedProto
	switch {
	case h == "" && r.TLS != nil:
		return "https"
	case h == "":
		return "http"
	}
	v := r.Header.Values(h)
	if len(v) != 1 {
		return ""
	}
	switch {
	case equalFold(v[0], "wss"):
		return "https"
	case equalFold(v[0], "ws"):
		return "http"
	}
	return v[0]
}

package ivschat

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// isUpgrade reports whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// isHandshake reports whether an upgrade is one that RFC 6455, section 4.2.1, allows.
// websocket.Accept checks that as well, but only after the token has been spent.
func isHandshake(r *http.Request) bool {
	keys := r.Header.Values("Sec-WebSocket-Key")
	if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || len(keys) != 1 ||
		r.Header.Get("Sec-WebSocket-Version") != "13" {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(keys[0])
	return err == nil && len(key) == 16 && hasToken(r.Header.Values("Connection"), "upgrade")
}

// hasToken reports whether one of the comma-separated lists has the token, in
// whatever case.
func hasToken(lists []string, token string) bool {
	for text := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if strings.EqualFold(strings.TrimSpace(text), token) {
			return true
		}
	}
	return false
}

// isOriginAllowed reports whether the web page that the request comes from, if it is
// one, is of this host or of Config.Origins.
func (s *Server) isOriginAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(s.config.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin) // "null" has no host, like a request that names none
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

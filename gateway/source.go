package gateway

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/seed17cb2b26/chattoken/token"
)

// Source is a place in a request where a token may be. [Subprotocol], [Bearer],
// [Query] and [Cookie] make one. [New] refuses the zero Source.
type Source struct {
	place place
	name  string
}

type place uint8

const (
	_ place = iota
	inSubprotocol
	inBearer
	inQuery
	inCookie
)

// Subprotocol is the header Sec-WebSocket-Protocol, in which a browser can send
// a token. With the name "" the token is the only subprotocol, and the response
// echoes it. With a name, the client offers that name and the token, in any
// order, and the response echoes only the name.
func Subprotocol(name string) Source { return Source{inSubprotocol, name} }

// Bearer is the header Authorization (RFC 6750). A browser can't send it with a
// WebSocket.
func Bearer() Source { return Source{place: inBearer} }

// Query is a parameter of the request's URL. URLs end up in logs, so use it
// only for clients that can send nothing else, such as an EventSource.
func Query(name string) Source { return Source{inQuery, name} }

// Cookie is a cookie of that name. Browsers also send it with requests from
// other sites' pages, so Config.Origins must be right.
func Cookie(name string) Source { return Source{inCookie, name} }

var errSource = errors.New("gateway: Config.Sources has a zero Source, one twice, one without the name that it needs, or with one that it cannot have")

func checkSources(sources []Source) error {
	seen := map[Source]bool{}
	for _, s := range sources {
		if !s.valid() || seen[s] {
			return errSource
		}
		seen[s] = true
	}
	return nil
}

// valid reports whether a request can have s.
func (s Source) valid() bool {
	switch s.place {
	case inSubprotocol: // not even like a token of ours
		return s.name == "" || validToken(s.name) && !strings.HasPrefix(s.name, token.Prefix)
	case inCookie:
		return validToken(s.name)
	case inQuery:
		return s.name != ""
	}
	return s.place == inBearer
}

// found is the token of a request.
type found struct {
	text string
	echo string // the subprotocol to answer with, or ""
}

// find looks for a token in every source. It fails if there is none, more than
// one, or only a cookie that another site's page may have sent.
func find(sources []Source, r *http.Request) (f found, err error) {
	n, offered, usable, cookie := 0, 0, false, false
	for _, s := range sources {
		text, echo, count := s.look(r)
		if s.place == inSubprotocol {
			offered = count // the same for all of these
		} else {
			n += count
		}
		if count > 0 && (s.place != inSubprotocol || echo != "") {
			f, usable, cookie = found{text, echo}, true, s.place == inCookie
		}
	}
	switch n += offered; {
	case n > 1:
		return found{}, errTwoTokens
	case !usable:
		return found{}, errNoToken
	case cookie && fromAnywhere(r):
		return found{}, errSite
	}
	return f, nil
}

// fromAnywhere reports whether r may come from any site's page.
func fromAnywhere(r *http.Request) bool {
	return len(r.Header["Origin"]) == 0 && r.Header.Get("Sec-Fetch-Site") != "same-origin"
}

// look returns the token in the source, what to echo, and how many there are,
// whatever they look like.
func (s Source) look(r *http.Request) (text, echo string, count int) {
	switch s.place {
	case inSubprotocol:
		return s.lookAtSubprotocols(r.Header["Sec-Websocket-Protocol"])
	case inBearer:
		for _, v := range r.Header["Authorization"] {
			if scheme, rest, ok := strings.Cut(v, " "); ok && equalFold(scheme, "bearer") {
				text, count = textproto.TrimString(rest), count+1
			}
		}
	case inQuery:
		for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if name, err := url.QueryUnescape(name); err == nil && name == s.name {
				text, _ = url.QueryUnescape(value)
				count++
			}
		}
	case inCookie:
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				if name, value, _ := strings.Cut(textproto.TrimString(pair), "="); name == s.name {
					text, count = strings.Trim(value, `"`), count+1
				}
			}
		}
	}
	return text, "", count
}

// lookAtSubprotocols takes whatever begins like a token for one. The echo is ""
// if the client didn't offer what s asks for.
func (s Source) lookAtSubprotocols(header []string) (text, echo string, count int) {
	offered, named := 0, false
	for _, line := range header {
		for more := true; more; {
			var protocol string
			protocol, line, more = cutElement(line)
			if protocol == "" {
				continue
			}
			offered++
			if strings.HasPrefix(protocol, token.Prefix) {
				text, count = protocol, count+1
			} else if protocol == s.name {
				named = true
			}
		}
	}
	switch {
	case count != 1:
		return "", "", count
	case s.name == "" && offered == 1:
		return text, text, 1
	case s.name != "" && named:
		return text, s.name, 1
	}
	return "", "", 1
}

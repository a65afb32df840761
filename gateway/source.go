package gateway

import (
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/seed17cb2b26/chattoken/token"
)

// Source is a place in a request where a token may be. It is made by
// [Subprotocol], [Bearer], [Query] or [Cookie]; the zero Source is none, and an
// error of [New].
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
// a token. With the name "" the token is the only subprotocol, which the
// response has to echo. With a name, the client offers that name and the token,
// in any order, and the name alone is echoed.
func Subprotocol(name string) Source { return Source{inSubprotocol, name} }

// Bearer is the header Authorization (RFC 6750), which a browser cannot send
// with a WebSocket.
func Bearer() Source { return Source{place: inBearer} }

// Query is a parameter of the request's URL. URLs are written into logs, so it
// is for clients that can send nothing else, such as an EventSource.
func Query(name string) Source { return Source{inQuery, name} }

// Cookie is a cookie of that name. A browser sends it with requests from other
// sites' pages, too, so Config.Origins must be right.
func Cookie(name string) Source { return Source{inCookie, name} }

var errSource = errors.New("gateway: Config.Sources has a zero Source, one twice, or one without the name that it needs")

func checkSources(sources []Source) error {
	seen := map[Source]bool{}
	for _, s := range sources {
		named := s.place == inQuery || s.place == inCookie
		if s.place == 0 || named && s.name == "" || seen[s] {
			return errSource
		}
		seen[s] = true
	}
	return nil
}

// found is the token of a request.
type found struct {
	text     string
	echo     string // the subprotocol to answer with, or ""
	byCookie bool
}

// find looks for a token in every source. That there is none, or more than one,
// is an error.
func find(sources []Source, r *http.Request) (f found, err error) {
	n := 0
	for _, s := range sources {
		text, echo, count := s.look(r)
		if count > 0 {
			f = found{text, echo, s.place == inCookie}
		}
		n += count
	}
	switch n {
	case 0:
		return found{}, errNoToken
	case 1:
		return f, nil
	}
	return found{}, errTwoTokens
}

// look returns the token in the source, what to echo, and how many there are.
func (s Source) look(r *http.Request) (text, echo string, count int) {
	switch s.place {
	case inSubprotocol:
		return s.lookAtSubprotocols(r.Header["Sec-Websocket-Protocol"])
	case inBearer:
		for _, v := range r.Header["Authorization"] {
			if scheme, rest, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
				text, count = textproto.TrimString(rest), count+1
			}
		}
	case inQuery:
		for _, v := range r.URL.Query()[s.name] {
			text, count = v, count+1
		}
	case inCookie:
		for _, c := range r.CookiesNamed(s.name) {
			text, count = c.Value, count+1
		}
	}
	return text, "", count
}

// lookAtSubprotocols takes for a token what begins like one.
func (s Source) lookAtSubprotocols(header []string) (text, echo string, count int) {
	offered, named := 0, false
	for _, line := range header {
		for protocol := range strings.SplitSeq(line, ",") {
			protocol = textproto.TrimString(protocol)
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
	case count > 1:
		return "", "", count
	case s.name == "" && offered == 1:
		return text, text, count
	case s.name != "" && named:
		return text, s.name, count
	}
	return "", "", 0 // offered in another way, which may be another Source's
}

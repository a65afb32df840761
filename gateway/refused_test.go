package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// The gateway refuses lists on which libraries disagree, before it spends the
// token.
func TestHandshakeLists(t *testing.T) {
	h := newHouse(t)
	for _, bad := range [][2]string{
		{"Upgrade", "web\u017focket"}, {"Upgrade", "websoc\u212Aet"}, {"Upgrade", "websocket/13, websocket"},
		{"Connection", ",Upgrade"}, {"Connection", "keep-alive,,Upgrade"}, {"Connection", "a;b, Upgrade"},
		{"Connection", "keep alive, Upgrade"}, {"Connection", `"a, Upgrade, b"`}, {"Connection", ""},
	} {
		minted := h.Mint()
		h.requireRefused(t, handshake(minted.Token, set(bad[0], bad[1])), minted, 400, 1008, "handshake")
	}
	for _, good := range [][2]string{
		{"Upgrade", "WebSocket"}, {"Upgrade", "h2c, websocket"}, {"Connection", "UPGRADE"}, {"Connection", "keep-alive , Upgrade"},
	} {
		_, err := h.Enter(newWriter(), handshake(h.Mint().Token, set(good[0], good[1])))
		require.NoError(t, err, good)
	}
}

// Every byte, as an element of a list and in the key.
func TestHandshakeBytes(t *testing.T) {
	h := newStillHouse(t)
	judge := func(header, value string) bool {
		return h.Decide(newWriter(), handshake("", set(header, value))).Reason != "handshake"
	}
	const (
		alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		blanks       = " \t\r\n" // around an element
	)
	for c := range 256 {
		b := string([]byte{byte(c)})
		token := strings.Contains("!#$%&'*+-.^_`|~"+alphanumeric+blanks+",", b)
		assert.Equal(t, token && b != ",", judge("Connection", "a"+b+",Upgrade") || judge("Connection", "a,"+b+"a,Upgrade"), "%q", b)
		assert.Equal(t, strings.Contains("+/"+alphanumeric, b), judge("Sec-WebSocket-Key", b+"GhlIHNhbXBsZSBub25jZQ=="), "%q", b)
		upgrade := []byte("websocket")
		for i := range upgrade {
			other := string(upgrade[:i]) + b + string(upgrade[i+1:])
			assert.Equal(t, strings.EqualFold(other, "websocket"), judge("Upgrade", other), "%q", other)
		}
	}
}

// New refuses what no browser writes into Origin.
func TestOriginsThatCannotBe(t *testing.T) {
	env := tokentest.New(t)
	try := func(origin string) error {
		_, err := gateway.New(gateway.Config{Keys: &keys{ring: env.Ring}, Guard: env.Guard, Origins: []string{origin}})
		return err
	}
	for _, origin := range []string{
		"https://m\u00fcnchen.example", "https://chat.example.com:0", "https://chat.example.com:65536", "https://chat.example.com:08080",
		"https://chat.example.com:abc", "https://chat.example.com:443:443", "https://::1", "https://[::1", "https://[::1]x",
		"https://[0:0:0:0:0:0:0:1]", "https://[chat.example.com]", "https://a\x00b", "https://%63hat.example.com", "https://chat..example.com",
		"https://.", "http\u017f://a:1", "https://a;b", "https://a'b", "https://a\nb", "https://127.1", "https://0x7f.0x1", "https://[::ffff:1.2.3.4]",
		"https://[fe80::1%25eth0]", "https://\u212Aelvin.example", "https:chat.example.com", "https://chat.example.com:443 ",
	} {
		assert.ErrorContains(t, try(origin), "Config.Origins", "%q", origin)
	}
	for _, origin := range []string{
		"https://chat.example.com", "HTTPS://Chat.Example.com:8443", "http://localhost:3000", "http://127.0.0.1", "http://[::1]", "https://[2001:db8::1]:8443",
		"https://xn--mnchen-3ya.example", "https://chat.example.com.", "https://a_b.example", "https://chat.example.com:443", "https://1.example",
	} {
		assert.NoError(t, try(origin), "%q", origin)
	}
}

// Some proxies say ws or wss.
func TestForwardedProto(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.ForwardedProto = "X-Forwarded-Proto" })
	for proto, in := range map[string]bool{"https": true, "HTTPS": true, "wss": true, "ws": false, "http": false, "https, http": false} {
		minted := h.Mint()
		_, err := h.Enter(newWriter(), handshake(minted.Token, set("X-Forwarded-Proto", proto), set("Origin", "https://chat.example.com")))
		require.Equal(t, in, err == nil, proto)
	}
}

// The log says which Origin came and which was expected. Strangers learn
// neither.
func TestOriginError(t *testing.T) {
	for want, origins := range map[string][]string{"http://chat.example.com": nil, "https://listed.example": {"https://listed.example"}} {
		h := newHouse(t, func(c *gateway.Config) { c.Origins = origins })
		w := newWriter()
		_, err := h.Enter(w, handshake(h.Mint().Token, set("Origin", "https://evil.example")))
		require.NotContains(t, err.Error(), "example")
		require.NotContains(t, w.Body.String(), "example")
		require.ErrorContains(t, errors.Unwrap(err), "https://evil.example")
		require.ErrorContains(t, errors.Unwrap(err), want)
		require.Equal(t, 4403, closeCode(err))
		_, err = h.Arrive(newWriter(), handshake(h.Mint().Token, set("Origin", "https://evil.example")))
		require.ErrorContains(t, errors.Unwrap(err), want)

		_, err = h.Enter(w, handshake(h.Mint().Token, func(r *http.Request) {
			r.Header["Origin"] = slices.Repeat([]string{strings.Repeat("x", 10_000)}, 100)
			r.Host = strings.Repeat("y", 10_000)
		}))
		require.Less(t, len(errors.Unwrap(err).Error()), 1000, "whatever a stranger sends")
	}
}

// Two tokens are two, whatever they look like.
func TestTwoTokens(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) {
		c.Sources = []gateway.Source{gateway.Subprotocol("chat"), gateway.Bearer(), gateway.Query("t"), gateway.Cookie("t")}
	})
	query := func(s string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = s } }
	bearer := func(s string) func(*http.Request) { return set("Authorization", "Bearer "+s) }
	a := h.Mint().Token
	for name, r := range map[string]*http.Request{
		"alone, where a name is needed": handshake(a, bearer(a)),
		"beside another name":           handshake("x, "+a, bearer(a)),
		"a query with a semicolon":      handshake("", query("t="+a+"&t="+a+";x")),
		"a query that is badly escaped": handshake("", query("t="+a+"&t=%zz")),
		"a name that is escaped":        handshake("", query("t="+a+"&%74="+a)),
		"a cookie that cannot be":       handshake("", set("Cookie", "t="+a+"; t=\x01"), set("Origin", "http://chat.example.com")),
		"an empty bearer":               handshake("", query("t="+a), bearer("")),
	} {
		_, err := h.Enter(newWriter(), r)
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok, name)
		require.Equal(t, "two-tokens", refusal.Reason, name)
	}
	p, err := h.Enter(newWriter(), handshake("", set("Cookie", `t="`+a+`"`), set("Origin", "http://chat.example.com")))
	require.NoError(t, err)
	p.Leave()
}

func TestSourcesThatCannotBe(t *testing.T) {
	env := tokentest.New(t)
	for _, s := range []gateway.Source{
		gateway.Subprotocol("my chat"), gateway.Subprotocol("a,b"), gateway.Subprotocol(token.Prefix + "x"), gateway.Subprotocol("a\r\nb"),
		gateway.Cookie("a;b"), gateway.Cookie("a=b"), gateway.Cookie(""),
	} {
		_, err := gateway.New(gateway.Config{Keys: &keys{ring: env.Ring}, Guard: env.Guard, Sources: []gateway.Source{s}})
		assert.ErrorContains(t, err, "Config.Sources")
	}
}

// The caller may change the Config after New.
func TestConfigIsCopied(t *testing.T) {
	sources := []gateway.Source{gateway.Bearer()}
	h := newHouse(t, func(c *gateway.Config) { c.Sources = sources })
	sources[0] = gateway.Query("t")
	_, err := h.Enter(newWriter(), handshake("", set("Authorization", "Bearer "+h.Mint().Token)))
	require.NoError(t, err)
}

// A Refusal is the caller's own.
func TestRefusalIsNotShared(t *testing.T) {
	h := newHouse(t)
	for range 2 {
		w := newWriter()
		_, err := h.Enter(w, handshake(""))
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok)
		require.Equal(t, 401, w.Code)
		require.Equal(t, "no-token", refusal.Reason)
		*refusal = gateway.Refusal{Status: 200, Err: errors.New("changed")}
	}
}

// Admit may return a Refusal. The gateway fills in zero fields.
func TestAdmitRefuses(t *testing.T) {
	cause := errors.New("a secret")
	for _, test := range []struct {
		admit, want gateway.Refusal
	}{
		{gateway.Refusal{Status: 402, CloseCode: 4402, Reason: "pay", RetryAfter: time.Minute, Err: cause}, gateway.Refusal{Status: 402, CloseCode: 4402, Reason: "pay", RetryAfter: time.Minute, Err: cause}},
		{gateway.Refusal{Status: 200, Err: cause}, gateway.Refusal{Status: 403, CloseCode: 4403, Reason: "refused", Err: cause}},
	} {
		h := newHouse(t, func(c *gateway.Config) {
			c.Admit = func(context.Context, time.Time, token.Summary) error { return fmt.Errorf("admit: %w", &test.admit) }
		})
		w := newWriter()
		_, err := h.Enter(w, handshake(h.Mint().Token))
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok)
		require.Equal(t, test.want, *refusal)
		require.Equal(t, test.want.Status, w.Code)
		code, reason := gateway.CloseFrame(&test.admit)
		require.Equal(t, test.want.CloseCode, code)
		require.Equal(t, test.want.Reason, reason)
	}
	code, _ := gateway.CloseFrame(&gateway.Refusal{})
	require.Equal(t, 4403, code)
}

// Whatever Admit returns, Reasons has its word.
func TestReasonsAreComplete(t *testing.T) {
	for _, admit := range []error{
		token.ErrNotPermitted, token.ErrInvalid, token.ErrSessionExpired, gateway.ErrLeft, errors.New("own"), context.Canceled,
		token.ErrAllRevoked, token.ErrPayload, token.ErrRevokedKey, fmt.Errorf("wrapped: %w", gateway.ErrDraining),
	} {
		h := newHouse(t, func(c *gateway.Config) {
			c.Admit = func(context.Context, time.Time, token.Summary) error { return admit }
		})
		_, err := h.Enter(newWriter(), handshake(h.Mint().Token))
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		require.True(t, ok)
		require.Contains(t, gateway.Reasons(), refusal.Reason)
	}
}

// An error that wraps ours counts as ours.
func TestWrappedCauses(t *testing.T) {
	for want, cause := range map[int]error{1012: gateway.ErrDraining, 1000: gateway.ErrLeft, 4401: token.ErrSessionExpired} {
		code, _ := gateway.CloseFrame(fmt.Errorf("chat: %w", cause))
		require.Equal(t, want, code)
	}
}

// A stream that can't be flushed costs no token.
func TestStreamNeedsAFlusher(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) { c.Sources = []gateway.Source{gateway.Query("token")} })
	minted := h.Mint()
	request := httptest.NewRequest(http.MethodGet, "http://chat.example.com/?token="+minted.Token, nil)
	recorder := httptest.NewRecorder()
	_, err := h.EnterStream(struct{ http.ResponseWriter }{recorder}, request)
	require.Error(t, err)
	require.Equal(t, 500, recorder.Code)
	_, err = h.EnterStream(wrapped{newWriter()}, request)
	require.NoError(t, err)
}

// If a guard panics, Accept closes the upgraded connection.
func TestAcceptPanics(t *testing.T) {
	h := newHouse(t)
	h.guard.spending = func() { panic("a guard") }
	c := conn{make(chan error, 1), nil}
	handler := h.Accept(func(http.ResponseWriter, *http.Request) (gateway.Conn, error) { return c, nil })
	require.PanicsWithValue(t, "a guard", func() { handler.ServeHTTP(newWriter(), handshake(h.Mint().Token)) })
	require.Equal(t, 1013, closeCode(<-c.ends))
	require.Zero(t, h.Stats().Present)
}

// limited passes on the limits of the guard that it wraps.
type limited struct {
	gateway.Guard
	limits func() keyring.Limits
}

func (g limited) Limits() keyring.Limits { return g.limits() }

// Ready notices a policy raised above the guard's limits.
func TestReadyLimits(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config) {
		c.Guard = limited{c.Guard, func() keyring.Limits { return keyring.Limits{MaxTTL: time.Minute, ClockSkew: 5 * time.Second} }}
	})
	require.NoError(t, h.Ready(h.Now()))
	require.NoError(t, h.Ring.SetPolicy(h.Now(), keyring.Policy{MaxTTL: 2 * time.Minute}))
	require.ErrorContains(t, h.Ready(h.Now()), "limits")
}

// A library would take a body for frames. net/http must announce both kinds.
func TestBodiesOfRealRequests(t *testing.T) {
	h := newHouse(t)
	server := httptest.NewServer(h.Handler(func(http.ResponseWriter, *http.Request, *gateway.Participant) {}))
	defer server.Close()
	for _, body := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		minted := h.Mint()
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n%s", minted.Token, body)
		status, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, status, " 400 ")
		h.requireUnspent(t, minted)
		c.Close()
	}
}

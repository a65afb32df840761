package ivschat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

const (
	lobby = tokentest.Room
	other = "arn:aws:ivschat:us-west-2:123456789012:room/B2b2B2b2B2b2"

	everything = claims.SendMessage | claims.DeleteMessage | claims.DisconnectUser
)

// pipes is a listener with connections in memory, which work in a synctest
// bubble. A write waits until it is read, so a slow reader is felt at once.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// chat is a server under test, in a synctest bubble.
type chat struct {
	testing.TB
	*ivschat.Server
	pipes *pipes
	http  *http.Client
}

// start starts a server. The end of the test shuts it down. If connections may
// send more messages than usual, so may the lobby.
func start(t testing.TB, config ivschat.Config) *chat {
	t.Helper()
	server, err := ivschat.New(config)
	require.NoError(t, err)
	if config.MessageRate > 10 {
		server.SetRate(lobby, config.MessageRate)
	}
	l := newPipes()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{DialContext: l.dial}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		transport.CloseIdleConnections()
		assert.NoError(t, server.Shutdown(ctx, 0, 0))
		assert.Equal(t, http.ErrServerClosed, <-served)
	})
	return &chat{TB: t, Server: server, pipes: l, http: &http.Client{Transport: transport}}
}

// mint mints a token with the server's keys.
func (c *chat) mint(claim claims.Claims) string {
	c.Helper()
	sealer := c.Sealer()
	minted, err := sealer.Create(claim)
	require.NoError(c, err)
	return minted.Token
}

// user returns the claims of someone in the lobby.
func user(name string, may claims.Capabilities) claims.Claims {
	return claims.Claims{RoomIdentifier: lobby, UserID: name, Capabilities: may,
		Attributes: map[string]string{"displayName": strings.ToUpper(name)}}
}

// frame is a message as a client receives it.
type frame struct {
	Type, ID, RequestID, EventName, Content, SendTime string
	Sender                                            struct {
		UserID     string
		Attributes map[string]string
	}
	Attributes   map[string]string
	ErrorCode    int
	ErrorMessage string
}

// peer is a client that reads everything.
type peer struct {
	chat   *chat
	conn   *websocket.Conn
	frames chan frame // closed at the end of the connection
	err    error      // after that
}

// try presents a token. If the upgrade is refused, it returns the reply and its
// body.
func (c *chat) try(token string, header http.Header) (*peer, *http.Response, string) {
	c.Helper()
	conn, resp, err := c.dial(token, header)
	if err != nil {
		require.NotNil(c, resp, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(c, err)
		return nil, resp, string(body)
	}
	p := &peer{chat: c, conn: conn, frames: make(chan frame, 10_000)}
	go p.read()
	c.Cleanup(func() { conn.CloseNow() })
	return p, resp, ""
}

func (c *chat) dial(token string, header http.Header) (*websocket.Conn, *http.Response, error) {
	o := &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header}
	if token != "" {
		o.Subprotocols = []string{token}
	}
	return websocket.Dial(context.Background(), "ws://chat/", o)
}

// enter mints a token and connects with it.
func (c *chat) enter(claim claims.Claims) *peer {
	c.Helper()
	p, _, refused := c.try(c.mint(claim), nil)
	require.Empty(c, refused)
	return p
}

// entering is enter for a guard that doesn't answer yet. When it does, the
// channel gets the peer, or nil after a refusal.
func (c *chat) entering(claim claims.Claims) <-chan *peer {
	c.Helper()
	text, opened := c.mint(claim), make(chan *peer)
	go func() {
		p, _, _ := c.try(text, nil)
		opened <- p
	}()
	return opened
}

func (p *peer) read() {
	defer close(p.frames)
	p.conn.SetReadLimit(1 << 20)
	for {
		_, data, err := p.conn.Read(context.Background())
		if err != nil {
			p.err = err
			return
		}
		var f frame
		if err := json.Unmarshal(data, &f); err != nil {
			p.err = err
			return
		}
		p.frames <- f
	}
}

// send sends a message in JSON.
func (p *peer) send(message any) {
	p.chat.Helper()
	data, err := json.Marshal(message)
	require.NoError(p.chat, err)
	p.sendText(data)
}

func (p *peer) sendText(data []byte) {
	p.chat.Helper()
	require.NoError(p.chat, p.conn.Write(context.Background(), websocket.MessageText, data))
}

// say sends a message with a text.
func (p *peer) say(text string) {
	p.chat.Helper()
	p.send(map[string]any{"Action": "SEND_MESSAGE", "RequestId": "say " + text, "Content": text})
}

// next returns the next frame. In a bubble, the time-out comes only when
// nothing else can happen.
func (p *peer) next() frame {
	p.chat.Helper()
	select {
	case f, ok := <-p.frames:
		if !ok {
			require.NoError(p.chat, p.err, "the connection ended")
		}
		return f
	case <-time.After(time.Minute):
		require.Fail(p.chat, "no frame came")
		return frame{}
	}
}

// closed waits for the end of the connection and returns its status, or -1
// without a close frame. A frame before it is an error.
func (p *peer) closed() websocket.StatusCode {
	p.chat.Helper()
	select {
	case f, ok := <-p.frames:
		require.False(p.chat, ok, "a frame came: %+v", f)
	case <-time.After(10 * time.Minute):
		require.Fail(p.chat, "the connection did not end")
	}
	return websocket.CloseStatus(p.err)
}

// post sends a request and returns the reply with its body.
func (c *chat) post(path string, body []byte) (*http.Response, []byte) {
	c.Helper()
	return c.request(http.MethodPost, path, body)
}

func (c *chat) get(path string) (*http.Response, []byte) {
	c.Helper()
	return c.request(http.MethodGet, path, nil)
}

func (c *chat) request(method, path string, body []byte) (*http.Response, []byte) {
	c.Helper()
	r, err := http.NewRequest(method, "http://chat"+path, bytes.NewReader(body))
	require.NoError(c, err)
	resp, err := c.http.Do(r)
	require.NoError(c, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(c, err)
	return resp, data
}

// vars returns what the operator sees.
func (c *chat) vars() (v struct {
	Minted, Opened, Messages, Errors int
	Refused, Ended, Exceptions       map[string]int
	Rooms                            map[string]int
	Synced                           time.Time
	Ready, Sync                      string
	Gateway                          struct{ Live, Present int }
	Guard                            struct{ Revocations struct{ Entries int } }
	Ring                             struct {
		Serial  int
		Refresh string
		Keys    []struct{ ID, State string }
	}
}) {
	c.Helper()
	var all struct{ Chattoken json.RawMessage }
	require.NoError(c, json.Unmarshal([]byte(c.varsText()), &all))
	require.NoError(c, json.Unmarshal(all.Chattoken, &v))
	return v
}

// varsText is vars in JSON.
func (c *chat) varsText() string {
	reply := httptest.NewRecorder()
	c.ServeVars(reply, nil)
	return reply.Body.String()
}

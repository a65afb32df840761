package gatewaytest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// patience is for a busy machine. Only a failure waits so long.
const patience = time.Minute

// Conn is a client's WebSocket.
type Conn interface {
	// Say sends a message and returns the next one it reads.
	Say(t testing.TB, text string) string

	// End reads until the connection ends. Without a close frame code is
	// 1006.
	End(t testing.TB) (code int, reason string)
}

// Dial connects with the client of a library. The second result is the status
// of the upgrade, 101 if it succeeds.
type Dial func(t testing.TB, url string, header http.Header, protocols ...string) (Conn, int)

// Coder dials with github.com/coder/websocket.
func Coder(t testing.TB, url string, header http.Header, protocols ...string) (Conn, int) {
	t.Helper()
	conn, resp, err := coder.Dial(t.Context(), url, &coder.DialOptions{HTTPHeader: header, Subprotocols: protocols})
	if resp == nil || resp.StatusCode != http.StatusSwitchingProtocols {
		require.NotNil(t, resp, "%v", err)
		return nil, resp.StatusCode
	}
	require.NoError(t, err)
	require.Equal(t, protocols, []string{conn.Subprotocol()})
	t.Cleanup(func() { conn.CloseNow() })
	return coderConn{conn}, resp.StatusCode
}

type coderConn struct{ *coder.Conn }

func (c coderConn) Say(t testing.TB, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, c.Write(ctx, coder.MessageText, []byte(text)))
	_, message, err := c.Read(ctx)
	require.NoError(t, err)
	return string(message)
}

func (c coderConn) End(t testing.TB) (code int, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, message, err := c.Read(ctx)
	require.NoError(t, ctx.Err(), "not closed")
	require.Error(t, err, "%s", message)
	var end coder.CloseError
	if !errors.As(err, &end) {
		return 1006, ""
	}
	return int(end.Code), end.Reason
}

// Gorilla dials with github.com/gorilla/websocket.
func Gorilla(t testing.TB, url string, header http.Header, protocols ...string) (Conn, int) {
	t.Helper()
	dialer := gorilla.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	conn, resp, err := dialer.DialContext(t.Context(), strings.Replace(url, "http", "ws", 1), header)
	if resp == nil || resp.StatusCode != http.StatusSwitchingProtocols {
		require.NotNil(t, resp, "%v", err)
		return nil, resp.StatusCode
	}
	require.NoError(t, err)
	require.Equal(t, protocols, []string{conn.Subprotocol()})
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*patience)))
	return gorillaConn{conn}, resp.StatusCode
}

type gorillaConn struct{ *gorilla.Conn }

func (c gorillaConn) Say(t testing.TB, text string) string {
	t.Helper()
	require.NoError(t, c.WriteMessage(gorilla.TextMessage, []byte(text)))
	_, message, err := c.ReadMessage()
	require.NoError(t, err)
	return string(message)
}

func (c gorillaConn) End(t testing.TB) (code int, reason string) {
	t.Helper()
	_, message, err := c.ReadMessage()
	require.Error(t, err, "%s", message)
	var end *gorilla.CloseError
	if !errors.As(err, &end) {
		require.NotContains(t, err.Error(), "timeout", "not closed")
		return 1006, ""
	}
	return end.Code, end.Text
}

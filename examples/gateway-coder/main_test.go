package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
)

var program = gatewaytest.Program{Make: newGateway, Dial: gatewaytest.Gorilla, Accepts: true}

func TestGateway(t *testing.T) { program.Test(t) }

// A client that stops within a frame doesn't hold up a drain.
func TestStopsWithinAFrame(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	h := gatewaytest.Start(t, newGateway)
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /chat/lobby HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Protocol: %s\r\n\r\n", h.MintFor("ann").Token)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	// The close begins between two reads of what comes, and finds half a
	// frame.
	_, err = conn.Write([]byte{0x81, 0x80 | 126, 0x70, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	go func() {
		for range 50 {
			conn.Write(make([]byte, 100))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	require.Eventually(t, func() bool { return h.Stats().Live == 1 }, time.Minute, time.Millisecond)
	drained := make(chan error, 1)
	go func() { drained <- h.Drain(t.Context(), 0, 0) }()
	select {
	case err := <-drained:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "it doesn't end")
	}
}

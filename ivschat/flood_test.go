package ivschat_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
)

// A frame's first byte: whether the frame is its message's last, and its type.
const (
	first   = 0x01 // of a text in several frames
	middle  = 0x00
	last    = 0x80
	whole   = 0x81
	blob    = 0x82 // not text
	ping    = 0x89
	closing = 0x88
)

// frameOf returns a client's frame, with a mask of zero.
func frameOf(begin byte, payload string) []byte {
	f := []byte{begin}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	f = append(f, 0, 0, 0, 0)
	return append(f, payload...)
}

// FuzzFrames looks for a way to cut a stream so that scan finds other frames
// than were written.
func FuzzFrames(f *testing.F) {
	f.Add(uint32(0), uint32(125), uint32(126), uint16(1))
	f.Add(uint32(65535), uint32(65536), uint32(70000), uint16(4096))
	f.Add(uint32(1), uint32(0), uint32(0), uint16(3))
	f.Fuzz(func(t *testing.T, a, b, c uint32, cut uint16) {
		var stream []byte
		var begins []int
		for _, n := range []uint32{a, b, c} {
			begins = append(begins, len(stream))
			stream = append(stream, frameOf(whole, strings.Repeat("x", int(n%100_000)))...)
		}
		stream = append(stream, whole, 5) // as a server writes, without a mask
		begins = append(begins, len(stream)-2)
		scan := ivschat.NewFrameScanner()
		for at := 0; at < len(stream); {
			next := min(at+int(cut)%5000+1, len(stream))
			want := 0
			for _, begin := range begins {
				if at <= begin && begin < next {
					want++
				}
			}
			require.Equal(t, want, scan(stream[at:next]))
			at = next
		}
	})
}

// raw connects without a WebSocket library.
func (c *chat) raw(may claims.Capabilities) (net.Conn, *bufio.Reader) {
	c.Helper()
	conn := c.upgrade(handshake, c.mint(user("raw", may)))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(c, err)
	require.Equal(c, http.StatusSwitchingProtocols, resp.StatusCode)
	return conn, r
}

// closeStatus reads the server's frames to the close frame and returns its
// status, or -1 if the connection breaks off before.
func closeStatus(r *bufio.Reader) int {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return -1
		}
		payload := make([]byte, head[1])
		if head[1] > 125 {
			return -1 // none of these tests provokes such a frame
		}
		if _, err := io.ReadFull(r, payload); err != nil {
			return -1
		}
		if head[0] == closing {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

// A few thousand frames that never make a message, or a very slow one, end the
// connection. The server doesn't read more.
func TestFloodOfFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"empty":    frameOf(middle, ""),
		"a byte":   frameOf(middle, "x"),
		"oversize": frameOf(whole, strings.Repeat("x", ivschat.MaxDiscard)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, ivschat.Config{})
				conn, r := c.raw(claims.SendMessage)
				var written atomic.Int64
				flood := bytes.Repeat(frame, max(1, 4096/len(frame))) // many in one segment
				go func() {
					conn.Write(frameOf(first, ""))
					if len(frame) > 4096 {
						conn.Write(frameOf(last, ""))
					}
					for {
						if _, err := conn.Write(flood); err != nil {
							return
						}
						written.Add(int64(len(flood)))
					}
				}()
				assert.Equal(t, 1008, closeStatus(r))
				synctest.Wait()
				before := written.Load()
				time.Sleep(time.Minute)
				assert.Zero(t, c.Live())
				assert.Equal(t, map[string]int{"flooding": 1}, c.vars().Ended)
				assert.Less(t, before, int64(1<<20))
				assert.Less(t, written.Load()-before, int64(1<<20), "while it was closed")
			})
		})
	}
}

// Messages of the greatest length and rate are within the budget.
func TestNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 5})
		ann := c.enter(user("ann", 0))
		longest := []byte(`{"Action":"SEND_MESSAGE"}` + strings.Repeat(" ", ivschat.MaxFrame-25))
		for range 100 {
			for range 5 {
				ann.sendText(longest)
				assert.Contains(t, []int{400, 429}, ann.next().ErrorCode) // a pong counts, too
			}
			time.Sleep(time.Second)
		}
	})
}

// A message that never ends holds a buffer, so it ends the connection.
func TestStalledMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		conn, r := c.raw(claims.SendMessage)
		_, err := conn.Write(frameOf(first, "{"))
		require.NoError(t, err)
		began := time.Now()
		var alive sync.WaitGroup
		alive.Go(func() {
			for {
				if _, err := conn.Write(frameOf(ping, "")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		assert.Equal(t, -1, closeStatus(r))
		assert.Equal(t, 10*time.Second, time.Since(began))
		alive.Wait()
		synctest.Wait()
		assert.Zero(t, c.Live())
		assert.Equal(t, map[string]int{"stalled": 1}, c.vars().Ended)
	})
}

// A message that comes with the handshake is like any other.
func TestMessageWithTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		bob := c.enter(user("bob", 0))
		message := `{"Action":"SEND_MESSAGE","Content":"early"}`
		conn, err := c.pipes.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		request := append([]byte(handshake+c.mint(user("ann", claims.SendMessage))+"\r\n\r\n"), frameOf(whole, message)...)
		go conn.Write(append(request, frameOf(whole, message)...))
		_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, "early", bob.next().Content)
		assert.Equal(t, "early", bob.next().Content)
	})
}

// A client that stops within a frame after the end is soon gone.
func TestStopsWithinAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		conn, r := c.raw(claims.SendMessage)
		frame := frameOf(blob, strings.Repeat("x", ivschat.MaxDiscard-1))
		go func() {
			for rest := frame[:len(frame)/2]; len(rest) > 0; rest = rest[min(500, len(rest)):] {
				if _, err := conn.Write(rest[:min(500, len(rest))]); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		assert.Equal(t, 1003, closeStatus(r))
		time.Sleep(time.Minute)
		assert.Zero(t, c.Live())
		conn.Close()
	})
}

// Broken frames end the connection for good, in whatever way they are broken.
func TestBrokenFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"no mask":                 {whole, 0},
		"a reserved bit":          {whole | 0x40, 0x80, 0, 0, 0, 0},
		"unknown":                 {0x83, 0x80, 0, 0, 0, 0},
		"a ping in two":           {0x09, 0x80, 0, 0, 0, 0},
		"no beginning":            {middle, 0x80, 0, 0, 0, 0},
		"negative length":         {whole, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"no mask, within message": {first, 0x80, 0, 0, 0, 0, last, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, ivschat.Config{})
				conn, r := c.raw(claims.SendMessage)
				go conn.Write(frame)
				assert.Equal(t, 1002, closeStatus(r))
				time.Sleep(time.Minute)
				assert.Zero(t, c.Live())
				conn.Close()
			})
		})
	}
}

package ivschat

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// A message may come in any number of frames, even empty ones, and the limit on
// messages sees only the whole. So each connection also has a budget of bytes,
// and each frame costs frameCost more. The budget is enough for the messages
// that a client may send, each of the full length.
const (
	frameCost = 256

	// maxMessageRate keeps a budget within 32 bits.
	maxMessageRate = 10_000

	// maxPause is the longest wait after a read for a connection that has
	// used up its budget.
	maxPause = time.Second

	// maxRead bounds what one read can cost.
	maxRead = 4 << 10
)

// newBudget makes the budget of a connection.
func newBudget(messageRate int) *rate.Limiter {
	perSecond := messageRate * (maxFrame + frameCost)
	return rate.NewLimiter(rate.Limit(perSecond), max(2*perSecond, 4*maxDiscard))
}

// metered is a connection that reads as fast as its budget allows.
type metered struct {
	net.Conn
	ahead   []byte // read before the connection was taken over
	frames  frames
	budget  *rate.Limiter
	onFlood func() // called when the budget is used up
}

func (m *metered) Read(p []byte) (n int, err error) {
	p = p[:min(len(p), maxRead)]
	if len(m.ahead) > 0 {
		n = copy(p, m.ahead)
		m.ahead = m.ahead[n:]
	} else {
		n, err = m.Conn.Read(p)
	}
	cost := min(n+frameCost*m.frames.scan(p[:n]), m.budget.Burst())
	if pause := m.budget.ReserveN(time.Now(), cost).Delay(); pause > 0 {
		m.onFlood()
		time.Sleep(min(pause, maxPause))
	}
	return n, err
}

// meteredWriter hands out its connection metered.
type meteredWriter struct {
	http.ResponseWriter
	m *metered
}

// Hijack is for the WebSocket library.
func (w meteredWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.m.Conn = conn
	ahead, _ := buf.Peek(buf.Reader.Buffered())
	w.m.ahead = slices.Clone(ahead)
	buf.Reader.Reset(w.m)
	return w.m, buf, nil
}

// frames finds the frames in a stream of bytes (RFC 6455, section 5.2). The
// zero value is at the stream's beginning.
type frames struct {
	header [14]byte
	have   int    // bytes of a header that is not complete
	left   uint64 // bytes of the payload
}

// scan returns how many frames begin in the next bytes of the stream.
func (f *frames) scan(p []byte) (n int) {
	for len(p) > 0 {
		if f.left > 0 {
			skip := min(f.left, uint64(len(p)))
			f.left -= skip
			p = p[skip:]
			continue
		}
		if f.have == 0 {
			n++
		}
		f.header[f.have] = p[0]
		f.have++
		p = p[1:]
		if payload, ok := parseHeader(f.header[:f.have]); ok {
			f.have, f.left = 0, payload
		}
	}
	return n
}

// parseHeader returns the length of the payload, if the header is complete.
func parseHeader(h []byte) (payload uint64, ok bool) {
	if len(h) < 2 {
		return 0, false
	}
	size, extended := 2, 0
	switch payload = uint64(h[1] & 0x7f); payload {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	size += extended
	if h[1]&0x80 != 0 {
		size += 4 // the mask
	}
	if len(h) < size {
		return 0, false
	}
	if extended > 0 {
		payload = 0
		for _, b := range h[2 : 2+extended] {
			payload = payload<<8 | uint64(b)
		}
	}
	return payload, true
}

package valkey

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This package has its own client for version 2 of the protocol. Rule 2 needs
// to know which connection answered, that a pipeline was written at once and
// not sent again, and that a failed connection is not silently replaced. Client
// libraries hide just that: they pool, multiplex, reconnect and retry.

// pipeline is commands for a server, in its protocol.
type pipeline struct {
	buf      []byte
	commands int
}

// add adds a command.
func (p *pipeline) add(args ...string) {
	p.commands++
	p.buf = append(strconv.AppendInt(append(p.buf, '*'), int64(len(args)), 10), "\r\n"...)
	for _, arg := range args {
		p.buf = append(strconv.AppendInt(append(p.buf, '$'), int64(len(arg)), 10), "\r\n"...)
		p.buf = append(append(p.buf, arg...), "\r\n"...)
	}
}

// A reply of a server.
type reply struct {
	kind  byte    // '+', '-', ':', '$', '*', or 0 for null
	text  string  // of all but '*'
	array []reply // of '*'
}

// Limits of replies. The longest are pages of revocations.
const (
	maxText     = 1<<16 - 2
	maxElements = 1 << 18 // in all arrays; CLUSTER SLOTS is the longest
	maxDepth    = 4
)

// readReply reads a reply of version 2 of the protocol. Anything else is
// errReply.
func readReply(r *bufio.Reader) (reply, error) {
	left := maxElements
	return readPart(r, maxDepth, &left)
}

// readPart reads a reply, or a part of one, with at most depth nested arrays
// and left elements.
func readPart(r *bufio.Reader, depth int, left *int) (v reply, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull {
		return v, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || err != nil {
		return v, errReply
	}
	v.kind, line = line[0], line[1:len(line)-2]
	switch v.kind {
	case '+', '-', ':':
		v.text = string(line)
		return v, nil
	case '$', '*':
	default:
		return v, errReply
	}
	n, err := strconv.Atoi(string(line))
	switch {
	case err == nil && n == -1:
		return reply{}, nil
	case err != nil || n < 0:
		return v, errReply
	case v.kind == '*' && n <= *left && depth > 0:
		*left -= n
		v.array = make([]reply, 0, min(n, 8))
		for range n {
			element, err := readPart(r, depth-1, left)
			if err != nil {
				return v, err
			}
			v.array = append(v.array, element)
		}
		return v, nil
	case v.kind == '$' && n <= maxText:
		text, err := r.Peek(n + 2)
		if err != nil {
			return v, err
		}
		if v.text = string(text[:n]); string(text[n:]) != "\r\n" {
			return v, errReply
		}
		_, err = r.Discard(n + 2)
		return v, err
	}
	return v, errReply
}

// string returns the text of a string, or "" for null.
func (v reply) string() (string, error) {
	if v.kind == '$' || v.kind == 0 {
		return v.text, nil
	}
	return "", v.odd()
}

// odd returns the error for a reply of an unexpected kind.
func (v reply) odd() error {
	if v.kind == '-' {
		return refusal(v.text)
	}
	return errReply
}

// link is one connection to a server, and so leads to one process. Any failure
// ends it. It is safe for concurrent use.
type link struct {
	id   uint64 // unique in a guard; never 0
	conn net.Conn
	in   *bufio.Reader
	dead atomic.Pointer[error] // why, once it has ended

	// A writer takes reading before it releases writing. So replies are
	// read in the order of their commands, while others write.
	writing, reading sync.Mutex
}

// dial connects to a server, by a moment, and within half of Timeout, because
// others may wait for the connection.
func (c *Config) dial(until time.Time, address string) (*link, error) {
	if most := time.Now().Add(c.Timeout / 2); most.Before(until) {
		until = most
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	conn, err := c.Dialer(ctx, "tcp", address)
	if err != nil {
		return nil, &dialFault{broken(err), err}
	}
	if c.TLS != nil {
		config := c.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, &dialFault{broken(err), err}
		}
		conn = secure
	}
	_ = conn.SetDeadline(until)
	l := &link{conn: conn, in: bufio.NewReaderSize(conn, maxText+2)}
	if err := c.greet(until, l); err != nil {
		return nil, l.close(err)
	}
	return l, nil
}

// greet authenticates and selects the database.
func (c *Config) greet(until time.Time, l *link) error {
	user, password := c.Username, c.Password
	if c.Credentials != nil {
		var err error
		if user, password, err = c.Credentials(); err != nil {
			return &causedFault{errCredentials, err}
		}
	}
	var p pipeline
	switch {
	case password == "":
	case user == "":
		p.add("AUTH", password)
	default:
		p.add("AUTH", user, password)
	}
	if c.Database != 0 {
		p.add("SELECT", strconv.Itoa(c.Database))
	}
	replies, err := l.roundTrip(until, &p, nil)
	for _, r := range replies {
		if r.kind != '+' {
			return r.odd()
		}
	}
	return err
}

// close ends the link, and returns why it ended: err, unless it has before.
func (l *link) close(err error) error {
	l.dead.CompareAndSwap(nil, &err)
	_ = l.conn.Close()
	return *l.dead.Load()
}

// roundTrip sends a pipeline, and appends the replies to replies. If the time
// is up first, the link ends, because its next reply would answer something
// else.
func (l *link) roundTrip(until time.Time, p *pipeline, replies []reply) ([]reply, error) {
	l.writing.Lock()
	_ = l.conn.SetWriteDeadline(until)
	_, err := l.conn.Write(p.buf)
	l.reading.Lock()
	l.writing.Unlock()
	defer l.reading.Unlock()
	if dead := l.dead.Load(); dead != nil && err == nil {
		// The rest of the buffer answers something else.
		err = errConnection
	}
	_ = l.conn.SetReadDeadline(until)
	for i := 0; i < p.commands && err == nil; i++ {
		var r reply
		r, err = readReply(l.in)
		replies = append(replies, r)
	}
	if err != nil {
		return replies, l.close(broken(err))
	}
	return replies, nil
}

// broken returns the guard's own error for that of a connection.
func broken(err error) error {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	}
	return errConnection
}

// refusal returns the guard's own error for that of a server.
func refusal(text string) error {
	switch word, _, _ := strings.Cut(text, " "); word {
	case "OOM":
		return errOutOfMemory
	case "LOADING", "BUSY":
		return errLoading
	case "READONLY", "MASTERDOWN":
		return errReadOnly
	case "NOREPLICAS":
		return errReplicas
	case "MISCONF":
		return errPersistence
	case "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT":
		return errCluster
	}
	if strings.HasPrefix(text, "ERR max number of clients") {
		return errConnection
	}
	// Versions differ in what they say if a password is missing, wrong or
	// not expected, or if a script uses a command that its user may not.
	for _, part := range [...]string{"AUTH", "NOPERM", "WRONGPASS", "password", "can't run this command", "ACL failure"} {
		if strings.Contains(text, part) {
			return ErrAuth
		}
	}
	return errReply
}

// transient reports whether another attempt may help after err.
func transient(err error) bool {
	return err == errConnection || err == errTimeout || err == errChanged || err == errCluster || err == errReadOnly
}

// infoField returns the value of a field in the reply to INFO, or "".
func infoField(info, name string) string {
	for {
		i := strings.Index(info, name)
		if i < 0 {
			return ""
		}
		begins := i == 0 || info[i-1] == '\n'
		info = info[i+len(name):]
		if begins && strings.HasPrefix(info, ":") {
			value, _, _ := strings.Cut(info[1:], "\r\n")
			return value
		}
	}
}

// readTime reads the reply to TIME.
func readTime(v reply) (clock, error) {
	if v.kind != '*' || len(v.array) != 2 {
		return 0, v.odd()
	}
	seconds, err := strconv.ParseInt(v.array[0].text, 10, 64)
	micros, err2 := strconv.ParseInt(v.array[1].text, 10, 64)
	if err != nil || err2 != nil {
		return 0, errReply
	}
	return clock(seconds*1000 + micros/1000), nil
}

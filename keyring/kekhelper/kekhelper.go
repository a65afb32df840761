// Package kekhelper reaches a key-encryption key (KEK) through another program,
// the helper. So a program needs neither the client nor the credentials of a
// key management service. [Command] asks a helper, as the command line's flag
// --kek-command does. [Serve] makes a helper in Go. Module kms has one for AWS
// and Google.
//
// # Protocol
//
// Each Wrap or Unwrap runs the helper once, with the user's arguments. The
// helper reads one request from standard input up to its end, writes one reply
// to standard output, and ends with status 0. Both are lines of ASCII, and each
// line ends with a line feed. A word in capitals stands for something else:
//
//	request              reply
//
//	chattoken-kek-1      chattoken-kek-1 ok
//	wrap                 KEK-ID
//	DATA-KEY             WRAPPED
//
//	chattoken-kek-1      chattoken-kek-1 ok
//	unwrap               DATA-KEY
//	KEK-ID
//	WRAPPED
//
// KEK-ID has 1 to 255 characters from "!" to "~", so no space. DATA-KEY and
// WRAPPED are standard base64, padded, of 32 bytes and of 1 to 65,535 bytes.
//
// A helper that fails or refuses ends with another status. Command then ignores
// the reply. The helper says why on standard error. The operator may see that,
// so it contains no secret.
//
// A helper must keep the contract of [keyring.KEK.Unwrap]: it refuses a KEK-ID
// that is none of its own, and every WRAPPED that its key did not make. It does
// not ask a service to find the key. Unless the caller says otherwise, it has
// [Timeout] to answer, and is then killed. The programs that it started are not
// killed, so it gives those a shorter time.
//
// The first line has the version. A helper must fail if it does not know that.
// Later versions of this package run helpers of version 1.
//
// DATA-KEY is a secret. Neither side puts it into an argument, environment
// variable, file, log or error. It stays in the memory of both processes until
// that is reused.
package kekhelper

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// Timeout is how long a helper may take by default.
const Timeout = 15 * time.Second

const (
	version     = "chattoken-kek-1"
	granted     = version + " ok"
	dataKeySize = 32
	maxWrapped  = 65535
	// maxMessage is more than the longest request or reply.
	maxMessage = 96 << 10
)

var (
	errNoCommand = errors.New("kekhelper: no command given")
	errKEKID     = errors.New("kekhelper: the KEK's ID is not 1 to 255 printable characters without a space, so it is none of a helper's")
	errWrapped   = errors.New("kekhelper: the wrapped data key is empty or longer than 65,535 bytes")
	errDataKey   = errors.New("kekhelper: the data key is not 32 bytes long")
	errReply     = errors.New("kekhelper: not a reply of this version")
	errRequest   = errors.New("kekhelper: not a request of this version")
	errTooLong   = errors.New("kekhelper: longer than any message")
	errMarshal   = errors.New("kekhelper: a Command is not encoded")
)

// Command is a [keyring.KEK] behind a helper. Do not change it while it is in
// use. Errors contain nothing of what the helper wrote.
type Command struct {
	// Args are the program and its arguments. The PATH is searched unless
	// the program's name has a slash. Other users of the machine can see
	// them.
	Args []string

	// Env is the helper's environment, as key=value. Nil means this
	// process's.
	Env []string

	// Stderr gets the helper's standard error, which tells the operator why
	// it failed. Nil discards that. If the Command is used concurrently,
	// Stderr must be safe for that.
	Stderr io.Writer

	// Timeout is how long the helper may take, if the context does not end
	// earlier. Zero means [Timeout].
	Timeout time.Duration
}

// Wrap implements [keyring.KEK].
func (c Command) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	if len(dataKey) != dataKeySize {
		return "", nil, errDataKey
	}
	reply, err := c.run(ctx, message{version, "wrap", encode(dataKey)})
	if err != nil {
		return "", nil, err
	}
	if len(reply) != 3 {
		return "", nil, errReply
	}
	kekID = reply[1]
	if wrapped, err = decode(reply[2]); err != nil {
		return "", nil, errReply
	}
	if err := checkWrapped(kekID, wrapped); err != nil {
		return "", nil, err
	}
	return kekID, wrapped, nil
}

// Unwrap implements [keyring.KEK]. If no helper can have that ID, it runs none.
func (c Command) Unwrap(ctx context.Context, kekID string, wrapped []byte) (dataKey []byte, err error) {
	if err := checkWrapped(kekID, wrapped); err != nil {
		return nil, err
	}
	reply, err := c.run(ctx, message{version, "unwrap", kekID, encode(wrapped)})
	if err != nil {
		return nil, err
	}
	if len(reply) != 2 {
		return nil, errReply
	}
	if dataKey, err = decode(reply[1]); err != nil || len(dataKey) != dataKeySize {
		clear(dataKey)
		return nil, errReply
	}
	return dataKey, nil
}

// String returns the program's name.
func (c Command) String() string {
	if len(c.Args) == 0 {
		return ""
	}
	return c.Args[0]
}

// Format writes the program's name, whatever the verb: Env may hold a service's
// credentials.
func (c Command) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue returns the program's name.
func (c Command) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText returns the program's name, for JSON as well.
func (c Command) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// GobEncode returns an error: Env may hold a service's credentials.
func (c Command) GobEncode() ([]byte, error) { return nil, errMarshal }

// run runs the helper for one request, and returns its reply.
func (c Command) run(ctx context.Context, m message) (message, error) {
	if len(c.Args) == 0 {
		return nil, errNoCommand
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	var reply bounded
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	// A process that the helper left behind may hold its standard output.
	cmd.WaitDelay = time.Second
	cmd.Env = c.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(m.bytes()), &reply, c.Stderr
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("kekhelper: running %s: %w", c, err)
	}
	answer, ok := parse(reply.data)
	if !ok || answer[0] != granted {
		return nil, errReply
	}
	return answer, nil
}

// Serve reads one request from r, up to its end, and writes kek's reply to w.
// After an error it has written nothing, or not all. Then print the error to
// standard error, and end with status 1. The error contains no secret unless
// kek's does.
func Serve(ctx context.Context, kek keyring.KEK, r io.Reader, w io.Writer) error {
	request, err := io.ReadAll(io.LimitReader(r, maxMessage))
	if err != nil {
		return fmt.Errorf("kekhelper: reading the request: %w", err)
	}
	m, ok := parse(request)
	if !ok || m[0] != version {
		return errRequest
	}
	reply, err := answer(ctx, kek, m[1:])
	if err != nil {
		return err
	}
	if _, err := w.Write(append(message{granted}, reply...).bytes()); err != nil {
		return fmt.Errorf("kekhelper: writing the reply: %w", err)
	}
	return nil
}

// answer does what a request asks, and returns what follows "ok".
func answer(ctx context.Context, kek keyring.KEK, request message) (message, error) {
	switch {
	case len(request) == 2 && request[0] == "wrap":
		return wrap(ctx, kek, request[1])
	case len(request) == 3 && request[0] == "unwrap":
		return unwrap(ctx, kek, request[1], request[2])
	}
	return nil, errRequest
}

func wrap(ctx context.Context, kek keyring.KEK, text string) (message, error) {
	dataKey, err := decode(text)
	defer clear(dataKey)
	if err != nil || len(dataKey) != dataKeySize {
		return nil, errDataKey
	}
	kekID, wrapped, err := kek.Wrap(ctx, dataKey)
	if err == nil {
		err = checkWrapped(kekID, wrapped)
	}
	if err != nil {
		return nil, err
	}
	return message{kekID, encode(wrapped)}, nil
}

func unwrap(ctx context.Context, kek keyring.KEK, kekID, text string) (message, error) {
	wrapped, err := decode(text)
	if err != nil {
		return nil, errRequest
	}
	if err := checkWrapped(kekID, wrapped); err != nil {
		return nil, err
	}
	dataKey, err := kek.Unwrap(ctx, kekID, wrapped)
	defer clear(dataKey)
	if err == nil && len(dataKey) != dataKeySize {
		err = errDataKey
	}
	if err != nil {
		return nil, err
	}
	return message{encode(dataKey)}, nil
}

// message is the lines of a request or a reply.
type message []string

func (m message) bytes() []byte { return []byte(strings.Join(m, "\n") + "\n") }

// parse returns the lines of data, one at least.
func parse(data []byte) (message, bool) {
	text, ended := strings.CutSuffix(string(data), "\n")
	return strings.Split(text, "\n"), ended
}

var base64Strict = base64.StdEncoding.Strict()

func encode(b []byte) string { return base64Strict.EncodeToString(b) }

// decode refuses what Go's decoder skips: line ends.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return base64Strict.DecodeString(text)
}

// checkWrapped refuses what is not one line of the protocol. Anybody may have
// written the file that it comes from.
func checkWrapped(kekID string, wrapped []byte) error {
	outside := func(r rune) bool { return r < '!' || r > '~' }
	switch {
	case len(kekID) < 1 || len(kekID) > 255 || strings.ContainsFunc(kekID, outside):
		return errKEKID
	case len(wrapped) < 1 || len(wrapped) > maxWrapped:
		return errWrapped
	}
	return nil
}

// bounded keeps up to maxMessage bytes, and refuses more.
type bounded struct{ data []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > maxMessage {
		return 0, errTooLong
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

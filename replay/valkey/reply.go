package valkey

import (
	"context"
	"errors"
	"os"
	"strings"

	client "github.com/valkey-io/valkey-go"
)

// refusals has the errors of a server, by how their text begins.
var refusals = [...]struct {
	begin string
	err   error
}{
	{"OOM", ErrOutOfMemory},
	{"LOADING", ErrLoading},
	{"BUSY", ErrLoading},
	{"READONLY", ErrReadOnly},
	{"MASTERDOWN", ErrReadOnly},
	{"NOREPLICAS", ErrReplicas},
	{"MISCONF", ErrPersistence},
	{"NOAUTH", ErrAuth},
	{"WRONGPASS", ErrAuth},
	{"NOPERM", ErrAuth},
	{"MOVED", ErrCluster},
	{"ASK", ErrCluster},
	{"TRYAGAIN", ErrCluster},
	{"CLUSTERDOWN", ErrCluster},
	{"CROSSSLOT", ErrCluster},
	{"max number of clients", ErrConnection},
}

// reason returns the exported error for err, which is one of the client's or of the
// server's.
func reason(err error) error {
	if e, ok := client.IsValkeyErr(err); ok {
		return refusal(e.Error())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	case errors.Is(err, client.ErrClosing), errors.Is(err, errNotYet): // which a client keeps until it is closed
		return ErrClosed
	case client.IsValkeyNil(err), client.IsParseErr(err):
		return ErrReply
	}
	return ErrConnection
}

func refusal(text string) error {
	for _, r := range refusals {
		if strings.HasPrefix(text, r.begin) {
			return r.err
		}
	}
	// Versions word it differently that a password is missing, wrong or not expected.
	if strings.Contains(text, "AUTH") || strings.Contains(text, "password") {
		return ErrAuth
	}
	return ErrReply
}

// misrouted reports whether err, from reason, may be over as soon as the guard knows
// which server has the slot now.
func misrouted(err error) bool { return err == ErrCluster || err == ErrReadOnly }

// transient reports whether another attempt is worth while after one that ended with
// err, from reason. Calls wait together for a connection that one of them makes: so
// ErrCanceled need not be about a context of this one.
func transient(err error) bool {
	return err == ErrCanceled || err == ErrConnection || err == ErrTimeout || err == errChanged || misrouted(err)
}

// verdictOf judges the reply to the SET of a call whose value is own. The token is
// fresh if the reply is nil or own, and spent if it is the value of another call.
// Anything else is an error.
func verdictOf(reply client.ValkeyResult, own string) (fresh bool, err error) {
	m, err := reply.ToMessage()
	if m.IsNil() {
		return true, nil
	}
	if err != nil {
		return false, reason(err)
	}
	got, err := m.ToString()
	switch {
	case err != nil || len(got) != len(own):
		return false, ErrReply
	case got == own:
		return true, nil
	}
	return false, nil
}

// milliseconds reads the reply to TIME as Unix milliseconds.
func milliseconds(reply client.ValkeyResult) (int64, error) {
	values, err := reply.ToArray() // AsIntSlice would allocate
	if err != nil {
		if _, ok := client.IsValkeyErr(err); ok || reply.NonValkeyError() != nil {
			return 0, reason(err)
		}
		return 0, ErrReply
	}
	if len(values) != 2 {
		return 0, ErrReply
	}
	seconds, err := values[0].AsInt64()
	micros, err2 := values[1].AsInt64()
	if err != nil || err2 != nil {
		return 0, ErrReply
	}
	return seconds*1000 + micros/1000, nil
}

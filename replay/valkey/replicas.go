package valkey

import client "github.com/valkey-io/valkey-go"

// wait returns WAIT for Config.Replicas and half of Timeout. The client's builder for
// WAIT would have it sent over another connection, where it waits for other writes.
func (c *Config) wait(b client.Builder) client.Completed {
	return b.Arbitrary("WAIT", itoa(c.Replicas), itoa(int(c.Timeout.Milliseconds()/2))).Build()
}

// confirmed judges the replies to a write and to WAIT: nil means that enough replicas
// have the write, and all before it.
func (c *Config) confirmed(write, wait client.ValkeyResult) error {
	if err := write.Error(); err != nil {
		return reason(err)
	}
	n, err := wait.ToInt64()
	switch {
	case err != nil:
		return reason(err)
	case n < int64(c.Replicas):
		return ErrReplicas
	}
	return nil
}

package main

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that can't be read at present, as one on a server that is away, holds
// up the new rooms and not the stop. Signals that come meanwhile are not lost.
func TestStopWhileReloading(t *testing.T) {
	config := writeFile(t, oneRoom)
	c := quiet(t, "-config", config)
	require.NoError(t, os.Remove(config))
	require.NoError(t, syscall.Mkfifo(config, 0o600))
	for range 2 { // the second waits
		c.hangups <- syscall.SIGHUP
	}
	c.signals <- os.Interrupt
	require.NoError(t, c.await(t))
	writer, err := os.OpenFile(config, os.O_RDWR, 0) // ends the read
	require.NoError(t, err)
	require.NoError(t, writer.Close())
}

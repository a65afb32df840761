package main

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that stalls, such as one on a server that is down, delays the new
// rooms but not the stop. It loses no signals.
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

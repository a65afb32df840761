package conformance_test

import (
	"errors"
	"os/exec"
	"syscall"
)

// dieWithParent makes a command end with the tests, even if a panic or a
// time-out ends these. Call it before Start. Only Linux has it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// useSmallBuffers is for a socket before it connects. The peer's buffer is a
// multiple of the segment, 64 KiB on loopback.
func useSmallBuffers(fd uintptr) error {
	return errors.Join(
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536),
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10))
}

package valkeytest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes a command that is not yet started end with the tests,
// even if they end by a panic or a timeout. Only Linux can do that.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

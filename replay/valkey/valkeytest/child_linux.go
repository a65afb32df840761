package valkeytest

import (
	"os/exec"
	"syscall"
)

// dieWithParent has a command that is yet to be started end with the tests, if
// they end without having stopped it: by a panic or a time-out. Only Linux has
// it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

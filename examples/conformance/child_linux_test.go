package conformance_test

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the command when the tests end without having stopped it,
// by a panic or a time-out.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

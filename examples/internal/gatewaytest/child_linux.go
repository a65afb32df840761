package gatewaytest

import (
	"os/exec"
	"syscall"
)

// DieWithParent has a command that is yet to be started end with the tests,
// even if a panic or a time-out ends these. Only Linux has it.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

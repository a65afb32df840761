package gatewaytest

import (
	"os/exec"
	"syscall"
)

// DieWithParent makes a command end with the tests, even if a panic or a
// time-out ends these. Call it before Start. Only Linux has it.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

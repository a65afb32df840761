package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent has a command that is yet to be started end with the tests,
// also when a panic or a time-out ends these. Only Linux has it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes a command end with the tests, even if a panic or a
// time-out ends these. Call it before Start. Only Linux has it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

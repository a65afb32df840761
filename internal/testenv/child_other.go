//go:build !linux

package testenv

import "os/exec"

// DieWithParent does nothing here: only Linux has it.
func DieWithParent(*exec.Cmd) {}

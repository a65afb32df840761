//go:build !linux

package conformance_test

import "os/exec"

// dieWithParent is of Linux.
func dieWithParent(*exec.Cmd) {}

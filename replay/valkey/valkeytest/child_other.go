//go:build unix && !linux

package valkeytest

import "os/exec"

func dieWithParent(*exec.Cmd) {}

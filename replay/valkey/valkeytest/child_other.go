//go:build !linux

package valkeytest

import "os/exec"

func dieWithParent(*exec.Cmd) {}

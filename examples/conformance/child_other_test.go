//go:build !linux

package conformance_test

import "os/exec"

func dieWithParent(*exec.Cmd) {}

func useSmallBuffers(uintptr) error { return nil }

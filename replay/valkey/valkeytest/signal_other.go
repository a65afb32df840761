//go:build !unix

package valkeytest

import "syscall"

// These signals do not exist here; a process that gets one says so.
const sigstop, sigcont = syscall.Signal(-1), syscall.Signal(-2)

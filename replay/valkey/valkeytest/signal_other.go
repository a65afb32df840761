//go:build !unix

package valkeytest

import "syscall"

// No such signals exist here, and a process that gets one says so.
const sigstop, sigcont = syscall.Signal(-1), syscall.Signal(-2)

//go:build unix

package valkeytest

import "syscall"

const sigstop, sigcont = syscall.SIGSTOP, syscall.SIGCONT

// Package testenv tells tests how they were built and what they may skip.
package testenv

import (
	"os"
	"testing"
)

// Skip skips the test because something outside the Go toolchain is missing.
// With CHATTOKEN_REQUIRE=1, as in CI, it fails instead.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// NotAllowed skips the test because the kernel, hypervisor or container refused
// something that the test tried. Nothing that can be installed changes that, so
// CHATTOKEN_REQUIRE=1 makes no difference.
func NotAllowed(t testing.TB, reason string) {
	t.Helper()
	t.Skipf("NOT ALLOWED HERE: %s", reason)
}

// SkipAllocs skips a test that counts allocations if the build changes the
// count: the race detector adds some, and x/crypto's generic code has one.
func SkipAllocs(t testing.TB) {
	t.Helper()
	if Race || PureGo {
		t.Skip("allocation counts differ under -race and purego")
	}
}

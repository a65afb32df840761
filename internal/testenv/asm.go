//go:build !purego

package testenv

// PureGo reports whether assembly is left out.
const PureGo = false

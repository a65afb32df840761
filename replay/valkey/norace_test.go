//go:build !race

package valkey_test

const race = false

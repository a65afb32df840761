// Package fuzz has a fuzz target for every input that someone outside can
// choose: the text of a token, a payload under the right key, claims, a
// keyring's file, the command line, and the order in which gateways see tokens
// and clocks. Run them with "make fuzz", or one of them with
//
//	go test -fuzz='^FuzzOpen$' ./fuzz
//
// Each target compares with an oracle: a second, plain implementation of
// SPEC.md, a codec of the standard library, or a map of what has happened. The
// seed corpora in testdata are part of the ordinary tests. README.md says which
// target has which oracle, and how far the targets have come.
package fuzz

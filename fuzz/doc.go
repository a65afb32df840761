// Package fuzz holds fuzz targets for every input that someone outside can
// choose: the text of a token, a payload under the right key, claims, a
// keyring's file, the command line, and the order in which gateways see tokens
// and clocks. Run them with "make fuzz", or one of them with
//
//	go test -fuzz='^FuzzOpen$' ./fuzz
//
// No target looks for crashes only. Each compares with an oracle: a second
// implementation written from SPEC.md for clearness and not for speed, a codec
// of the standard library, or a map of what happened so far. The seed corpora
// in testdata are part of the ordinary tests. README.md says which target has
// which oracle, and how far they have come.
package fuzz

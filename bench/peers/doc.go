// Package peers does with other libraries what chattoken does, to compare them.
// It is a module of its own, so that nobody who imports chattoken gets any of
// them, and has nothing but tests and benchmarks:
//
//	go test -bench . -benchtime 100ms -short
//
// "make bench" runs them together with those of the root module, several times
// in turn, and writes bench/RESULTS.md.
//
// A peer is one file that implements the interface peer and one line in the
// list of peer_test.go. Each peer carries the same claims, in the fastest form
// that is still what one would write: schemes without claims of their own get a
// compact CBOR array, codecs and parsers are made once. Each checks the
// expiration and the limits of what it returns. A cache that would remember
// spent tokens is a type with one method, spend, in guards_test.go; what keeps
// connections is a hub, in gateways_test.go.
//
//	Mint            claims in, text out
//	Verify          text in, checked claims out
//	VerifyParallel  the same on all processors
//	Forged          text of which one character was changed
//	Junk            a mebibyte that never was a token
//	Faults          counts how many other texts pass for a token, and how many of
//	                its beginnings panic
//	Bytes           opening by bytes of attributes, against the bare AEAD
//	Guard           spending tokens in a cache with a million or eight million
//	GuardFlood      counts the tokens that a full cache lets be spent again
//	Fleet           spending tokens on a server, against its bare client
//	Gateway         letting users in, finding and ending them
package peers

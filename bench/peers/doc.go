// Package peers compares chattoken with other libraries. It has only tests and
// benchmarks, and is a module of its own, so that chattoken's users don't get
// those libraries:
//
//	go test -bench . -benchtime 100ms -short
//
// "make bench" runs them with those of the root module, several times in turn,
// and writes bench/RESULTS.md.
//
// A peer is one file that implements the interface peer, and one line in the
// list of peer_test.go. Each carries the same claims, in the fastest form that
// one would still write: schemes without claims of their own get a compact CBOR
// array, and codecs and parsers are made once. Each checks the expiration and
// the limits of what it returns. A cache that remembers spent tokens is a type
// with the one method spend, in guards_test.go. A registry of connections is a
// hub, in gateways_test.go.
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

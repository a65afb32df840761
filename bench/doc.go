// Package bench holds the benchmarks of chattoken. They exist to be run by
// those who tune it, with
//
//	go test -bench . ./bench
//
// and by "make bench", which puts the medians of several interleaved runs, and
// their ratios, into RESULTS.md.
//
// Names subtract: Floor is the bare AEAD on the same bytes, which no
// implementation can go below; Standard is the floor and encoding/base64,
// which is what one would write first; Open and Seal are this library, without
// a guard. OpenSpend adds the guard in memory, OpenFresh a new Session for each
// token; OpenPart and SealPart are steps of Open and Seal by themselves, and
// Parallel is all processors at once. Times on a shared machine mean nothing by
// themselves: compare within one run.
//
// Each of them runs with the claims small (the example of the service's
// documentation), medium (3 attributes, about 300 bytes of payload) and large
// (3 capabilities, 8 attributes of about 1,000 bytes together). chars
// is the length of the token. It is valid for ten minutes, which takes a byte
// more than a minute does.
package bench

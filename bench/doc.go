// Package bench has the benchmarks of chattoken, for tuning it:
//
//	go test -bench . -short ./bench
//
// Names are in the key=value form of benchstat. README.md says what each
// benchmark isolates, how to profile it, and how to compare two commits; "make
// bench" runs them all in turn and writes RESULTS.md.
//
// Most run with three sizes of claims: small, the example of the service's
// documentation; medium, 3 attributes and about 300 bytes of payload; and
// large, 3 capabilities and 8 attributes of about 1,000 bytes together. Tokens
// live for four minutes, which takes as many bytes as the usual minute.
//
// Times on a shared machine mean nothing by themselves: compare within one run.
package bench

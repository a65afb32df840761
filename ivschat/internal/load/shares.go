package main

import (
	"os"
	"strings"

	"github.com/google/pprof/profile"
)

// shares counts the samples of a CPU profile by place. Background work, above
// all the garbage collector's, is only in all.
type shares struct {
	all, connecting, minting samples
}

// samples are those of a part of the server. Some are in the token library or
// its callees: in reading a request's JSON, or in the rest, sealing, opening
// and spending tokens.
type samples struct{ total, tokens, json int64 }

const module = "github.com/seed17cb2b26/chattoken/"

// library is the packages of chattoken, without the server's own.
var library = []string{
	module + "token.", module + "keyring.", module + "claims.", module + "replay.",
	module + "internal/base64url.",
}

func readShares(name string) (s shares, err error) {
	file, err := os.Open(name)
	if err != nil {
		return s, err
	}
	defer file.Close()
	p, err := profile.Parse(file)
	if err != nil {
		return s, err
	}
	for _, sample := range p.Sample {
		s.add(sample)
	}
	return s, nil
}

func (s *shares) add(sample *profile.Sample) {
	const server = module + "ivschat.(*Server)."
	s.all.add(sample)
	if isIn(sample, server+"connect") {
		s.connecting.add(sample)
	}
	if isIn(sample, server+"serveOperation") {
		s.minting.add(sample)
	}
}

func (s *samples) add(sample *profile.Sample) {
	count := sample.Value[0]
	s.total += count
	switch {
	case isIn(sample, module+"claims.ParseJSON"):
		s.json += count
	case isIn(sample, library...):
		s.tokens += count
	}
}

// isIn reports whether a function was running whose name begins with one of the
// prefixes.
func isIn(sample *profile.Sample, prefixes ...string) bool {
	for _, location := range sample.Location {
		for _, line := range location.Line {
			for _, prefix := range prefixes {
				if strings.HasPrefix(line.Function.Name, prefix) {
					return true
				}
			}
		}
	}
	return false
}

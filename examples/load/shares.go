package main

import (
	"os"
	"strings"

	"github.com/google/pprof/profile"
)

// shares says where the samples of a CPU profile were taken. Work that runs in
// the background, the collector of garbage above all, is in all only.
type shares struct {
	all, connecting, minting samples
}

// samples are those of some part of the server, and how many of them were in
// the token library or in what it called.
type samples struct{ total, library int64 }

func (s samples) share() float64 { return float64(s.library) / float64(max(s.total, 1)) }

const module = "github.com/seed17cb2b26/chattoken/"

// library is the packages of chattoken. The server's own are not.
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
	const server = module + "examples/internal/chatserver.(*Server)."
	count := sample.Value[0]
	inLibrary := isIn(sample, library...)
	s.all.add(count, inLibrary)
	if isIn(sample, server+"connect") {
		s.connecting.add(count, inLibrary)
	}
	if isIn(sample, server+"createChatToken") {
		s.minting.add(count, inLibrary)
	}
}

func (s *samples) add(count int64, inLibrary bool) {
	s.total += count
	if inLibrary {
		s.library += count
	}
}

// isIn reports whether a function of which the name begins with one of the
// prefixes was running.
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

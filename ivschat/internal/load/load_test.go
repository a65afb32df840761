package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A small load, from beginning to end: every request succeeds, and the table is
// in its place.
func TestLoad(t *testing.T) {
	p := plan{connections: 40, rounds: 2, rooms: 4, messages: 3, every: 20 * time.Millisecond}
	m, err := measure(t.Context(), p)
	require.NoError(t, err)
	assert.Len(t, m.connecting, p.connections*p.rounds)
	assert.Len(t, m.fanout, p.connections*p.messages)
	assert.Positive(t, m.fanout.quantile(0))
	assert.Positive(t, m.perSecond)
	assert.LessOrEqual(t, m.cpu.all.tokens+m.cpu.all.json, m.cpu.all.total)

	name := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(name, []byte("before\n<!-- load: begin -->\nold\n<!-- load: end -->\nafter\n"), 0o600))
	for range 2 {
		require.NoError(t, replaceTable(name, m.table()))
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(data), "before\n<!-- load: begin -->\n40 connections in 4 rooms"))
		assert.True(t, strings.HasSuffix(string(data), "|\n<!-- load: end -->\nafter\n"))
		assert.NotContains(t, string(data), "old")
	}
	require.NoError(t, os.WriteFile(name, []byte("nothing"), 0o600))
	assert.ErrorIs(t, replaceTable(name, "x"), errNoMarkers)
}

func TestShares(t *testing.T) {
	sample := func(n int64, functions ...string) *profile.Sample {
		s := &profile.Sample{Value: []int64{n, 0}}
		for _, f := range functions {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: f}}}})
		}
		return s
	}
	const server = module + "ivschat.(*Server)."
	var s shares
	s.add(sample(1, "runtime.gcBgMarkWorker"))
	s.add(sample(2, "golang.org/x/crypto/chacha20poly1305.Open", module+"keyring.(*Ring).Open", module+"token.(*Opener).Open", server+"accept", server+"connect"))
	s.add(sample(4, "syscall.Write", server+"accept", server+"connect"))
	s.add(sample(8, module+"claims.ParseJSON", server+"serveOperation"))
	s.add(sample(16, module+"ivschat/token.Fake"))
	s.add(sample(32, module+"token.(*Sealer).Create", server+"serveOperation"))
	assert.Equal(t, shares{all: samples{63, 34, 8}, connecting: samples{6, 2, 0}, minting: samples{40, 32, 8}}, s)
	assert.Equal(t, "33.3 % (2 of 6 samples)", share(s.connecting.tokens, s.connecting.total))
	assert.Equal(t, "0.0 % (0 of 0 samples)", share(0, 0))
}

func TestQuantile(t *testing.T) {
	var l latencies
	assert.Zero(t, l.quantile(0.5))
	for i := range 100 {
		l = append(l, time.Duration((i*37)%100))
	}
	assert.EqualValues(t, 0, l.quantile(0))
	assert.EqualValues(t, 49, l.quantile(0.5))
	assert.EqualValues(t, 98, l.quantile(0.99))
	assert.EqualValues(t, 99, l.quantile(1))
}

//go:build !race

package valkey

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The model does not use these: its tokens live long enough, and it has no
// ReadyAt.

func TestReadyAt(t *testing.T) {
	skew := 5 * time.Second
	for _, mark := range []clock{base, base + 1, base + 999, base + 1000} {
		at := readyAt(mark, skew)
		ready := &mToken{issuedAt: clockOf(at), skew: 5000}
		before := &mToken{issuedAt: clockOf(at) - 1000, skew: 5000}
		assert.False(t, ready.IssuedBefore(mark.time()), "%d", mark)
		assert.True(t, before.IssuedBefore(mark.time()), "%d", mark)
	}
}

func TestNonceOfAnotherIdentity(t *testing.T) {
	id := identity{"run", "rep"}
	for nonce, want := range map[string]bool{
		id.newNonce("x"):                     true,
		"":                                   false,
		id.newNonce(""):                      false,
		"run rep":                            false,
		identity{"run", "per"}.newNonce("x"): false,
		identity{"nur", "rep"}.newNonce("x"): false,
	} {
		assert.Equal(t, want, id.wrote(nonce), "%q", nonce)
	}
}

// A call begins a second before the token expires, with a margin of a minute.
func TestTimely(t *testing.T) {
	const expiration, margin = base + 1000, time.Minute
	for _, c := range []struct {
		name       string
		server     clock
		since      time.Duration
		lessOfLife int64
		want       bool
	}{
		{"clocks agree", base, 0, 0, true},
		{"a late reply", base + 2000, 2 * time.Second, 0, true},
		{"the server is behind, but not by half of margin", base - 29_999, 0, 0, true},
		{"the server is behind by half of margin", base - 30_000, 0, 0, false},
		{"the server is ahead, but not by half of margin", base + 30_999, 0, 0, true},
		{"the server is ahead by half of margin", base + 31_000, 0, 0, false},
		{"an attempt with half the margin less", base, 0, 30_000, false},
	} {
		px := life(expiration, base, 0, margin) - c.lessOfLife
		assert.Equal(t, c.want, timely(expiration, c.server, c.since, margin, px), c.name)
	}
	assert.EqualValues(t, 60_500, life(expiration, base, 500*time.Millisecond, margin))
	assert.EqualValues(t, 60_000, life(expiration, base, time.Hour, margin), "never less than the margin")
}

// What was fetched over another connection, or from another pair, is not known.
func TestCaughtUp(t *testing.T) {
	id := identity{"run", "rep"}
	b := belief{conn: 7, identity: id, nonce: "nonce", revision: 3}
	a := answer{conn: 7, primary: true, identity: id, nonce: "nonce", revision: 30, time: base}
	for _, c := range []struct {
		name     string
		edit     func(b *belief, a *answer)
		want     trust
		revision int64
	}{
		{"the pair", func(*belief, *answer) {}, believe, 20},
		{"the pair, and nothing new", func(b *belief, _ *answer) { b.revision = 20 }, believe, 20},
		{"another connection", func(_ *belief, a *answer) { a.conn = 8 }, verifyAnew, 3},
		{"a belief that is not sure", func(b *belief, _ *answer) { *b = b.unsure() }, verifyAnew, 3},
		{"another nonce", func(_ *belief, a *answer) { a.nonce = "other" }, verifyAnew, 0},
		{"another history", func(_ *belief, a *answer) { a.replID = "per" }, verifyAnew, 0},
		{"no primary", func(_ *belief, a *answer) { a.primary = false }, verifyAnew, 0},
	} {
		b, a := b, a
		c.edit(&b, &a)
		next, t1 := b.caughtUp(a, 20, base)
		assert.Equal(t, c.want, t1, c.name)
		assert.Equal(t, c.revision, next.revision, c.name)
	}
}

func TestFirst(t *testing.T) {
	for _, c := range []struct {
		reply     string
		null      bool
		fresh, ok bool
	}{
		{"", true, true, true},
		{"mine", false, true, true},
		{"else", false, false, true},
		{"odd", false, false, false},
		{"", false, false, false},
	} {
		fresh, ok := first(c.reply, c.null, "mine")
		assert.Equal(t, []bool{c.fresh, c.ok}, []bool{fresh, ok}, "%q", c.reply)
	}
}

func TestWriteBack(t *testing.T) {
	assert.True(t, writeBack(time.Minute))
	assert.False(t, writeBack(time.Minute+1))
}

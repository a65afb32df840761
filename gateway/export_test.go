package gateway

import (
	"net/http"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

// Due ends, as a tick does, whoever's time is over at now, and reports how
// many.
func (g *Gateway) Due(now time.Time) (n int) {
	for i := range g.reg.shards {
		for _, p := range g.reg.shards[i].due(nil, now.Unix()) {
			if g.end(p, token.ErrSessionExpired, func(s *token.Session) bool { return s.Expired(now) }) {
				n++
			}
		}
	}
	return n
}

// Size counts what the indexes hold, and the credits that are not in use.
func (g *Gateway) Size() (entries [4]int, credits int) {
	credits = int(g.reg.credits.left.Load())
	for i := range g.reg.shards {
		s := &g.reg.shards[i]
		s.mu.Lock()
		credits += s.spare
		for k := range s.heads {
			for _, p := range s.heads[k] {
				for ; p != nil; p = p.links[k].next {
					entries[k]++
				}
			}
		}
		s.mu.Unlock()
	}
	return entries, credits
}

// Decide refuses a request as Enter does, but does not answer it.
func (g *Gateway) Decide(w http.ResponseWriter, r *http.Request) *Refusal {
	err := checkHandshake(w, r, false)
	if err == nil {
		err = g.checkOrigin(r)
	}
	if err == nil {
		_, err = find(g.config.Sources, r)
	}
	if err == nil {
		panic("not refused")
	}
	return g.refused(err, g.began())
}

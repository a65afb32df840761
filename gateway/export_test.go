package gateway

import (
	"net/http"
	"time"
)

// Due ends, as a tick does, the sessions expired at now. It returns how many.
func (g *Gateway) Due(now time.Time) (n int) { return g.endDue(now) }

// Share is share.
func Share(n int, i, steps int64) int { return share(n, i, steps) }

// Size counts what the indexes hold, and the credits that are not in use.
func (g *Gateway) Size() (entries [4]int, credits int) {
	credits = int(g.reg.credits.left.Load())
	for i := range g.reg.shards {
		s := &g.reg.shards[i]
		s.mu.Lock()
		credits += s.spare
		for _, heads := range s.heads {
			for k, p := range heads {
				for ; p != nil; p = p.links[k].next {
					entries[k]++
				}
			}
		}
		s.mu.Unlock()
	}
	return entries, credits
}

// Decide refuses a request as Enter does, without answering it.
func (g *Gateway) Decide(w http.ResponseWriter, r *http.Request) *Refusal {
	v := g.visit()
	defer v.end()
	err := g.check(w, r, false)
	if err == nil {
		_, err = find(g.config.Sources, r)
	}
	if err == nil {
		panic("not refused")
	}
	return v.judge(err)
}

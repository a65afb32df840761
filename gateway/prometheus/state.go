package prometheus

import (
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
)

const prefix = "chattoken_gateway_"

var (
	participants   = describe("participants", "Live participants.")
	limit          = describe("participants_limit", "How many participants there may be.")
	ready          = describe("ready", "1 if load balancers should send users here, else 0.")
	draining       = describe("draining", "1 if the gateway is about to stop, else 0.")
	unsent         = describe("revocations_unsent", "Revocations that the fleet was not told yet.")
	revocationsAge = describe("revocations_age_seconds", "How old the knowledge of others' revocations is.")
	keysAge        = describe("keys_age_seconds", "How long ago the keys were last read.")
	keysOverdue    = describe("keys_overdue_seconds", "How late the next key is; 0 if it is there or not due.")
	tokens         = describe("guard_tokens", "Spent tokens that the guard remembers.")
	tokensLimit    = describe("guard_tokens_limit", "How many spent tokens the guard can remember.")
)

func describe(name, help string) *prom.Desc { return prom.NewDesc(prefix+name, help, nil, nil) }

// state asks a gateway at each scrape.
type state struct {
	room    func() (tokens, limit int)
	gateway Gateway
}

// Describe implements prometheus.Collector.
func (s state) Describe(out chan<- *prom.Desc) {
	for _, d := range []*prom.Desc{participants, limit, ready, draining, unsent, revocationsAge, keysAge, keysOverdue} {
		out <- d
	}
	if s.room != nil {
		out <- tokens
		out <- tokensLimit
	}
}

// Collect implements prometheus.Collector.
func (s state) Collect(out chan<- prom.Metric) {
	gauge := func(d *prom.Desc, v float64) { out <- prom.MustNewConstMetric(d, prom.GaugeValue, v) }
	st := s.gateway.Stats()
	gauge(participants, float64(st.Live))
	gauge(limit, float64(st.MaxLive))
	gauge(ready, truth(s.gateway.Ready(st.Now) == nil))
	gauge(draining, truth(st.Draining))
	gauge(unsent, float64(st.Unsent))
	gauge(revocationsAge, age(st.Now, st.Synced))
	gauge(keysAge, age(st.Now, st.Refreshed))
	gauge(keysOverdue, st.Overdue.Seconds())
	if s.room != nil {
		n, max := s.room()
		gauge(tokens, float64(n))
		gauge(tokensLimit, float64(max))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// age is never negative, even after the clock was set back.
func age(now, then time.Time) float64 { return max(now.Sub(then).Seconds(), 0) }

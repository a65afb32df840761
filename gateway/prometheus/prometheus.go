// Package prometheus exports the metrics of a chat gateway. Call [New], set
// [Metrics.Observe] as Config.Observe, and call [Metrics.Register]:
//
//	m := prometheus.New()
//	g, err := gateway.New(gateway.Config{Keys: keys, Guard: guard, Observe: m.Observe})
//	...
//	err = m.Register(nil, g)
//	http.Handle("/metrics", promhttp.Handler())
//
// It exports these. A series exists, at zero, before anything happens.
//
//	chattoken_gateway_entries_total                      participants let in
//	chattoken_gateway_refusals_total{reason}             not let in, or not renewed
//	chattoken_gateway_renewals_total                     sessions replaced
//	chattoken_gateway_ends_total{cause}                  participants ended, other than by Leave
//	chattoken_gateway_entry_duration_seconds             how long an entry took
//	chattoken_gateway_participants                       live now
//	chattoken_gateway_participants_limit                 Config.MaxLive
//	chattoken_gateway_ready                              1 if Gateway.Ready is nil
//	chattoken_gateway_draining                           1 from Drain on
//	chattoken_gateway_revocations_unsent                 unknown to the fleet yet
//	chattoken_gateway_revocations_age_seconds            since others' revocations were known
//	chattoken_gateway_keys_age_seconds                   since the keys were last read
//	chattoken_gateway_keys_overdue_seconds               how late the next key is
//	chattoken_gateway_guard_tokens                       remembered by the guard in memory
//	chattoken_gateway_guard_tokens_limit                 as many as it can remember
//
// The reasons are [gateway.Reasons], the causes [gateway.Causes]. A reason of
// Config.Admit's own counts as "other" unless New knows it, so that a stranger
// can't make series.
//
// The last two exist if [Metrics.GuardTokens] is set. A fleet's guard keeps its
// tokens in a server: watch that server's memory, as the guard's SIZING page
// says.
//
// The file alerts.yml has three alerts on these metrics, and what to do.
package prometheus

import (
	"time"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/seed17cb2b26/chattoken/gateway"
)

// other is the label for undeclared reasons.
const other = "other"

// Gateway is what [Metrics.Register] watches: a [*gateway.Gateway].
type Gateway interface {
	Stats() gateway.Stats
	Ready(now time.Time) error
}

// Metrics counts what one gateway decides. [New] makes it. It is safe for
// concurrent use once GuardTokens is set.
type Metrics struct {
	// GuardTokens returns how many tokens the guard remembers and how many
	// it can. Each scrape calls it. Set it before Register. Nil leaves both
	// metrics out. For a *replay.Guard:
	//
	//	func() (tokens, limit int) {
	//		st := guard.Stats(time.Now())
	//		return st.Live, st.Capacity
	//	}
	GuardTokens func() (tokens, limit int)

	entries, renewals prom.Counter
	refusals, ends    map[string]prom.Counter // by their label; not changed after New
	durations         prom.Histogram
	counters          []prom.Collector // all of the above
}

// New returns metrics with all counters at zero. The reasons are those of
// Config.Admit's own Refusals, if it has any.
func New(reasons ...string) *Metrics {
	m := &Metrics{
		entries:  prom.NewCounter(prom.CounterOpts{Name: prefix + "entries_total", Help: "Participants let in."}),
		renewals: prom.NewCounter(prom.CounterOpts{Name: prefix + "renewals_total", Help: "Sessions replaced by another token's."}),
		durations: prom.NewHistogram(prom.HistogramOpts{
			Name: prefix + "entry_duration_seconds", Help: "How long it took to let a participant in.",
			Buckets: prom.ExponentialBuckets(4e-6, 4, 10), // 4 µs to 1 s
		}),
	}
	refusals := prom.NewCounterVec(prom.CounterOpts{Name: prefix + "refusals_total", Help: "Tokens and requests refused."}, []string{"reason"})
	ends := prom.NewCounterVec(prom.CounterOpts{Name: prefix + "ends_total", Help: "Stays that ended other than by leaving."}, []string{"cause"})
	m.refusals = declare(refusals, gateway.Reasons(), reasons)
	m.ends = declare(ends, gateway.Causes())
	m.counters = []prom.Collector{m.entries, m.renewals, m.durations, refusals, ends}
	return m
}

// declare makes a counter for each word, and one for all others.
func declare(v *prom.CounterVec, lists ...[]string) map[string]prom.Counter {
	counters := map[string]prom.Counter{other: v.WithLabelValues(other)}
	for _, words := range lists {
		for _, w := range words {
			counters[w] = v.WithLabelValues(w)
		}
	}
	return counters
}

// Observe counts an event. Set it as Config.Observe. It allocates nothing.
func (m *Metrics) Observe(e gateway.Event) {
	switch e.Kind {
	case gateway.Entered:
		m.entries.Inc()
		m.durations.Observe(e.Took.Seconds())
	case gateway.Renewed:
		m.renewals.Inc()
	case gateway.Refused:
		count(m.refusals, e.Reason)
	case gateway.Ended:
		count(m.ends, e.Reason)
	}
}

func count(counters map[string]prom.Counter, word string) {
	c, ok := counters[word]
	if !ok {
		c = counters[other]
	}
	c.Inc()
}

// Register adds the metrics to r. Each scrape asks g. A nil r is the one that
// promhttp.Handler serves. If a process has several gateways, give each a
// registerer with a label of its own: see [prom.WrapRegistererWith].
func (m *Metrics) Register(r prom.Registerer, g Gateway) error {
	if r == nil {
		r = prom.DefaultRegisterer
	}
	for _, c := range append(m.counters, state{m.GuardTokens, g}) {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"net/http"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed17cb2b26/chattoken/gateway/prometheus"
	"github.com/seed17cb2b26/chattoken/ivschat"
)

// metrics are the metrics of the gateway, of Go, and of the process.
type metrics struct {
	registry *prom.Registry
	gateway  *prometheus.Metrics
}

func newMetrics() metrics {
	m := metrics{prom.NewRegistry(), prometheus.New()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m metrics) watch(s *ivschat.Server) error { return m.gateway.Register(m.registry, s) }

func (m metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

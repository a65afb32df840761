// Package otel_test shows a gateway's events as OpenTelemetry metrics. For
// Prometheus there is package gateway/prometheus.
package otel_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed17cb2b26/chattoken/gateway"
)

// observer returns a function for gateway.Config.Observe. Reasons of
// Config.Admit become attributes, so keep them few.
func observer(meter metric.Meter) (func(gateway.Event), error) {
	events, err := meter.Int64Counter("chattoken.gateway.events",
		metric.WithDescription("Decisions of the gateway, and stays that ended."))
	if err != nil {
		return nil, err
	}
	entry, err := meter.Float64Histogram("chattoken.gateway.entry.duration", metric.WithUnit("s"),
		metric.WithDescription("How long it took to let a participant in."))
	if err != nil {
		return nil, err
	}
	return func(e gateway.Event) {
		ctx := context.Background()
		events.Add(ctx, 1, metric.WithAttributes(
			attribute.Stringer("kind", e.Kind), attribute.String("reason", e.Reason)))
		if e.Kind == gateway.Entered {
			entry.Record(ctx, e.Took.Seconds())
		}
	}, nil
}

func Example() {
	reader := sdk.NewManualReader() // or an exporter's
	observe, err := observer(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("chat"))
	if err != nil {
		log.Fatal(err)
	}
	observe(gateway.Event{Kind: gateway.Refused, Reason: "spent"}) // Config.Observe: observe

	var got metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &got); err != nil {
		log.Fatal(err)
	}
	for _, m := range got.ScopeMetrics[0].Metrics {
		for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
			fmt.Println(m.Name, point.Attributes.Encoded(attribute.DefaultEncoder()), point.Value)
		}
	}
	// Output: chattoken.gateway.events kind=refused,reason=spent 1
}

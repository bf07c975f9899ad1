package supervisor

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkEdgeGet is the round trip of one Get over the edge, client and daemon in one process.
func BenchmarkEdgeGet(b *testing.B) {
	must(getOffice())
	d := newDaemon(b)
	d.put(container(hexID(1), "web"))
	c := d.dial()
	ctx := context.Background()
	_, err := c.Get(ctx, "container", "web")
	require.NoError(b, err)
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := c.Get(ctx, "container", "web"); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkLocalGet is the same in process.
func BenchmarkLocalGet(b *testing.B) {
	w := newWorld(b, 1)
	w.put(container(hexID(1), "web"))
	for b.Loop() {
		if _, err := w.c.Get(context.Background(), "container", hexID(1)); err != nil {
			b.Fatal(err)
		}
	}
}

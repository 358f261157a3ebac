//go:build linux

package trial

import (
	"fmt"

	"github.com/realtime-go/realtime/bench/load"
)

// Metric is the number that a workload measures.
type Metric struct {
	Title string
	Unit  string
	Of    func(load.Result) float64
}

// MetricOf returns the metric of a workload.
func MetricOf(w load.Workload) Metric {
	switch {
	case w.Storm:
		return Metric{"CPU to open a connection", "µs",
			func(r load.Result) float64 { return r.AcceptCPU }}
	case w.Idle > 0:
		return Metric{"memory of a connection", "KiB",
			func(r load.Result) float64 { return r.ConnRSS / 1024 }}
	case w.Inbound > 0:
		return Metric{"CPU of an inbound message", "µs", cpu}
	}
	return Metric{"CPU of a delivery", "µs", cpu}
}

func cpu(r load.Result) float64 { return r.CPU }

// Median returns the median of sorted values, or zero if there are none.
func Median(vs []float64) float64 {
	n := len(vs)
	if n == 0 {
		return 0
	}
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// Spread formats the smallest and the largest of sorted values.
func Spread(vs []float64) string {
	if len(vs) == 0 {
		return ""
	}
	return Number(vs[0]) + "–" + Number(vs[len(vs)-1])
}

// Number formats a number with about three digits.
func Number(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// Ratio formats a divided by b.
func Ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

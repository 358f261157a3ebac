//go:build linux

package load

import (
	"slices"
	"time"
)

// Result is the result of a run. Numbers that the workload does not measure are zero.
type Result struct {
	Workload string            `json:"workload"`
	Versions map[string]string `json:"versions"`

	CPU        float64 `json:"cpu_us"` // µs of the server per delivery, or per inbound message
	Deliveries int     `json:"deliveries"`
	PerSecond  float64 `json:"per_second"`
	P50        float64 `json:"p50_us"` // from before the send until after the receiver's read
	P99        float64 `json:"p99_us"`

	AcceptCPU float64 `json:"accept_us"` // µs of the server to open one connection
	RSS       int     `json:"rss_bytes"` // of the server, at the end
	ConnRSS   float64 `json:"conn_rss_bytes"`

	Lost   int `json:"lost"`   // deliveries that did not arrive; negative: unexpected deliveries
	Closed int `json:"closed"` // connections that the server ended
}

// latencies collects samples up to a maximum number, and ignores later ones.
type latencies []time.Duration

// maxSamples is enough for a 99th percentile.
const maxSamples = 1 << 20

func (l *latencies) add(d time.Duration) {
	if len(*l) < maxSamples {
		*l = append(*l, d)
	}
}

// quantile returns the q-quantile of the samples in µs.
func (l latencies) quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return micros(l[int(q*float64(len(l)-1))])
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

//go:build linux

package load

import (
	"slices"
	"time"
)

// Result is what a run found out. What a workload does not measure is zero.
type Result struct {
	Workload string            `json:"workload"`
	Versions map[string]string `json:"versions"`

	CPU        float64 `json:"cpu_us"` // µs of the server's for each delivery, or inbound message
	Deliveries int     `json:"deliveries"`
	PerSecond  float64 `json:"per_second"`
	P50        float64 `json:"p50_us"` // from before the publisher's write to after the read
	P99        float64 `json:"p99_us"`

	AcceptCPU float64 `json:"accept_us"` // µs of the server's to open one connection
	RSS       int     `json:"rss_bytes"` // of the server, at the end
	ConnRSS   float64 `json:"conn_rss_bytes"`

	Lost   int `json:"lost"`   // deliveries that did not come; below zero: that nobody expected
	Closed int `json:"closed"` // connections that the server ended
}

// latencies collects samples and forgets those beyond its bound.
type latencies []time.Duration

// maxSamples is plenty for a 99th percentile.
const maxSamples = 1 << 20

func (l *latencies) add(d time.Duration) {
	if len(*l) < maxSamples {
		*l = append(*l, d)
	}
}

// quantile returns the q-th part of the samples in µs.
func (l latencies) quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return micros(l[int(q*float64(len(l)-1))])
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

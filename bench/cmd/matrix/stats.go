//go:build linux

package main

import (
	"fmt"
	"slices"

	"github.com/realtime-go/realtime/bench/load"
)

// measured is the number that a workload is there for.
type measured struct {
	title string
	unit  string
	of    func(load.Result) float64
}

func metric(w load.Workload) measured {
	switch {
	case w.Storm:
		return measured{"CPU to open a connection", "µs",
			func(r load.Result) float64 { return r.AcceptCPU }}
	case w.Idle > 0:
		return measured{"memory of a connection", "KiB",
			func(r load.Result) float64 { return r.ConnRSS / 1024 }}
	case w.Inbound > 0:
		return measured{"CPU of an inbound message", "µs", cpu}
	}
	return measured{"CPU of a delivery", "µs", cpu}
}

func cpu(r load.Result) float64 { return r.CPU }

// values collects one number of all runs of a cell, in order of size.
func (m *matrix) values(w load.Workload, name string, of func(load.Result) float64) []float64 {
	var vs []float64
	for _, r := range m.results[cell{w.Name, name}] {
		vs = append(vs, of(r))
	}
	slices.Sort(vs)
	return vs
}

// median of sorted values; zero if there are none.
func median(vs []float64) float64 {
	n := len(vs)
	if n == 0 {
		return 0
	}
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// spread writes the smallest and the largest of sorted values.
func spread(vs []float64) string {
	if len(vs) == 0 {
		return ""
	}
	return number(vs[0]) + "–" + number(vs[len(vs)-1])
}

// number writes about three digits.
func number(v float64) string {
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

// ratio writes how many times b is a.
func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

//go:build linux

package main

import (
	_ "embed" // for the notes
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

// notes say where the time goes and what did not pay. They are written by hand, after profiles.
//
//go:embed notes.md
var notes string

// report formats the report: the ratios, the method, and the details of each workload.
func (m *matrix) report() string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	if m.quick {
		b.WriteString("**This was a smoke test: the numbers mean nothing.**\n\n")
	}
	m.ratios(&b)
	m.setting(&b)
	b.WriteString(notes + "\n")
	for _, w := range m.workloads {
		m.details(&b, w)
	}
	if len(m.failures) > 0 {
		b.WriteString("## Failed runs\n\n")
		for _, f := range m.failures {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	return b.String()
}

// ratios writes the table that compares this library with the other servers.
func (m *matrix) ratios(b *strings.Builder) {
	var others []string
	for _, p := range m.peers {
		if p.name != ours && p.name != oursApp && p.missing == "" {
			others = append(others, p.name)
		}
	}
	fmt.Fprintf(b, "The cost of `%s`, divided by the cost of each other server: below 1, `%s` is "+
		"cheaper.\nMedians of %d runs; of %d for idle.\n\n", ours, ours, m.repeats, min(m.repeats, m.idleRuns))
	fmt.Fprintf(b, "| workload | measure | %s |\n", strings.Join(others, " | "))
	fmt.Fprintf(b, "|---|---|%s\n", strings.Repeat("--:|", len(others)))
	note := ""
	for _, w := range m.workloads {
		m.ratio(b, w, ours, w.Name, others)
		if len(m.results[cell{w.Name, oursApp}]) > 0 {
			m.ratio(b, w, oursApp, w.Name+", with an application", others)
			note = "With an application, `realtime` is `" + oursApp + "`: its clients speak " +
				"realtime.v1, each message\nneeds a permission from a map, and a handler decodes " +
				"it. The others are the same as without.\n\n"
		}
	}
	b.WriteString("\n" + note)
	m.multiple(b, "Median latency of 999 members with one more that does not read, divided "+
		"by the latency\nwithout it", "stalled-1", "stalled-0",
		func(r load.Result) float64 { return r.P50 })
	m.multiple(b, "CPU of a compressed delivery, divided by the CPU of an uncompressed one",
		"compressed", "burst-1k", func(r load.Result) float64 { return r.CPU })
}

// ratio writes one row: the cost of one of our servers, divided by that of each other one.
func (m *matrix) ratio(b *strings.Builder, w load.Workload, own, title string, others []string) {
	k := trial.MetricOf(w)
	cost := trial.Median(m.values(w, own, k.Of))
	fmt.Fprintf(b, "| %s | %s |", title, k.Title)
	for _, other := range others {
		fmt.Fprintf(b, " %s |", trial.Ratio(cost, trial.Median(m.values(w, other, k.Of))))
	}
	b.WriteString("\n")
}

// multiple writes, for each server, the number of one workload divided by that of another.
func (m *matrix) multiple(
	b *strings.Builder, title, with, without string, of func(load.Result) float64,
) {
	var parts []string
	for _, p := range m.peers {
		v := trial.Ratio(trial.Median(m.values(load.Workload{Name: with}, p.name, of)),
			trial.Median(m.values(load.Workload{Name: without}, p.name, of)))
		if v != "–" {
			parts = append(parts, p.name+" "+v)
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "%s: %s.\n\n", title, strings.Join(parts, ", "))
	}
}

// setting writes what was measured, and how.
func (m *matrix) setting(b *strings.Builder) {
	b.WriteString("## Method\n\n")
	fmt.Fprintf(b, "- Command: `%s`\n", strings.Join(commandLine(), " "))
	fmt.Fprintf(b, "- Date: %s, duration: %s\n", m.began.UTC().Format(time.DateOnly),
		m.took.Round(time.Second))
	for _, line := range machine() {
		fmt.Fprintf(b, "- %s\n", line)
	}
	fmt.Fprintf(b, "- %s\n", m.ground.Cores())
	versions := make(map[string]string)
	for _, rs := range m.results {
		maps.Copy(versions, rs[0].Versions)
	}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		fmt.Fprintf(b, "- %s %s\n", name, versions[name])
	}
	for _, p := range m.peers {
		if p.missing != "" {
			fmt.Fprintf(b, "- Not measured: %s (%s)\n", p.name, p.missing)
		}
	}
	b.WriteString("- To compare two commits, use " +
		"`go run ./bench/cmd/compare -base COMMIT`.\n")
	b.WriteString("\nCPU is the user and system time of the server process. Latency is the time from " +
		"before the\nsender's write until after the receiver's read. Lost is the number of " +
		"deliveries that did not\narrive. Ended is the number of connections that the server " +
		"closed.\n\n")
}

// commandLine returns the command to repeat the run. The executable of go run no longer exists
// after it.
func commandLine() []string {
	return append([]string{"go run ./bench/cmd/" + path.Base(os.Args[0])}, os.Args[1:]...)
}

// details writes the table of one workload.
func (m *matrix) details(b *strings.Builder, w load.Workload) {
	k := trial.MetricOf(w)
	fmt.Fprintf(b, "## %s\n\n%s, ", w.Name, describe(w))
	fmt.Fprintf(b, "%s in %s.\n\n", k.Title, k.Unit)
	fmt.Fprintf(b, "| server | median | spread | / %s | per second | p50 ms | p99 ms | "+
		"RSS MiB | lost | ended |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", centrifuge)
	base := trial.Median(m.values(w, centrifuge, k.Of))
	for _, p := range m.peers {
		vs := m.values(w, p.name, k.Of)
		if len(vs) == 0 {
			continue
		}
		mid := func(of func(load.Result) float64) float64 {
			return trial.Median(m.values(w, p.name, of))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %.0f | %s | %s | %.0f | %.0f | %.0f |\n",
			p.name, trial.Number(trial.Median(vs)), trial.Spread(vs), trial.Ratio(trial.Median(vs), base),
			mid(func(r load.Result) float64 { return r.PerSecond }),
			trial.Number(mid(func(r load.Result) float64 { return r.P50 / 1000 })),
			trial.Number(mid(func(r load.Result) float64 { return r.P99 / 1000 })),
			mid(func(r load.Result) float64 { return float64(r.RSS) / (1 << 20) }),
			mid(func(r load.Result) float64 { return float64(r.Lost) }),
			mid(func(r load.Result) float64 { return float64(r.Closed) }))
	}
	b.WriteString("\n")
}

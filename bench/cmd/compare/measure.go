//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

// workloads measures the workloads of the matrix, and those with the suffix -app with realtime-app.
func (t *table) workloads(ctx context.Context, g *trial.Ground, o options) error {
	for _, w := range load.Workloads() {
		err := t.workload(ctx, g, o, w, w.Name, func(s *side) string {
			if w.TLS {
				return s.secure
			}
			return s.server
		})
		if err == nil && w.App {
			err = t.workload(ctx, g, o, w, w.Name+"-app", func(s *side) string { return s.app })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// workload measures one workload with one server, under a name.
func (t *table) workload(ctx context.Context, g *trial.Ground, o options, w load.Workload,
	name string, server func(*side) string,
) error {
	if !trial.Listed(o.workloads, name) {
		return nil
	}
	for _, s := range t.sides {
		if server(s) == "" {
			fmt.Fprintf(os.Stderr, "%-16s %-12s has no server for it\n", name, s.name)
			return nil
		}
	}
	metric := trial.MetricOf(w)
	return t.turns(o.repeats, func(i int, s *side) error {
		res, err := g.Try(ctx, w, []string{server(s)})
		if err != nil {
			return fmt.Errorf("%s, %s: %w", name, s.name, err)
		}
		t.add(i, name+": "+metric.Title, metric.Unit, metric.Of(res))
		fmt.Fprintf(os.Stderr, "%-16s %-12s %8.2f %s\n", name, s.name, metric.Of(res), metric.Unit)
		return nil
	})
}

// turns measures both sides n times, in turns. The sides alternate in going first.
func (t *table) turns(n int, measure func(i int, s *side) error) error {
	for round := range n {
		for turn := range t.sides {
			i := (turn + round) % len(t.sides)
			if err := measure(i, t.sides[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// allocated matches a line of go test -bench -benchmem. It captures the name without the number of
// cores, and the allocations.
var allocated = regexp.MustCompile(`(?m)^(Benchmark\S*?)(?:-\d+)?\s.*\s(\d+) allocs/op$`)

// allocations measures the allocations of the benchmarks.
func (t *table) allocations(ctx context.Context, o options) error {
	if o.benchmarks == "" {
		return nil
	}
	times := "1000x"
	if o.quick {
		times = "10x"
	}
	return t.turns(o.repeats, func(i int, s *side) error {
		fmt.Fprintln(os.Stderr, "allocations", s.name)
		for _, one := range s.suites {
			out, err := output(ctx, one.dir, one.binary, "-test.run", "^$", "-test.short", "-test.benchmem",
				"-test.bench", o.benchmarks, "-test.benchtime", times)
			if err != nil {
				return err
			}
			for _, m := range allocated.FindAllStringSubmatch(out, -1) {
				top, _, _ := strings.Cut(m[1], "/")
				if n, err := strconv.ParseFloat(m[2], 64); err == nil && s.benches[top] == one {
					t.add(i, strings.TrimPrefix(m[1], "Benchmark"), "allocations", n)
				}
			}
		}
		return nil
	})
}

// instructions measures the instructions per iteration of each benchmark: the difference between n
// and 2n iterations, divided by n, so that instructions before the first iteration do not count.
func (t *table) instructions(ctx context.Context, o options) error {
	if o.counted == "" {
		return nil
	}
	count := counter(ctx)
	if count == nil {
		t.notes = append(t.notes,
			"Instructions are not compared: neither perf (with counters) nor valgrind is available.")
		return nil
	}
	turns := 10_000
	if o.quick {
		turns = 100
	}
	for name := range strings.SplitSeq(o.counted, ",") {
		top, _, _ := strings.Cut(name, "/")
		err := t.turns(o.repeats, func(i int, s *side) error {
			one, ok := s.benches["Benchmark"+top]
			if !ok {
				return nil
			}
			var counts [2]float64
			for k := range counts {
				var err error
				if counts[k], err = count(one, name, (k+1)*turns); errors.Is(err, errNoBenchmark) {
					return nil
				} else if err != nil {
					return fmt.Errorf("%s, %s: %w", name, s.name, err)
				}
			}
			each := (counts[1] - counts[0]) / float64(turns)
			t.add(i, name, "instructions", each)
			fmt.Fprintf(os.Stderr, "%-14s %-12s %8.0f instructions\n", name, s.name, each)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var errNoBenchmark = errors.New("no such benchmark")

// counter returns a function that counts the instructions of a process, or nil if no tool for it
// exists.
func counter(ctx context.Context) func(s suite, name string, turns int) (float64, error) {
	with := func(found *regexp.Regexp, command ...string) func(suite, string, int) (float64, error) {
		return func(s suite, name string, turns int) (float64, error) {
			args := append(command[1:len(command):len(command)], s.binary, "-test.run", "^$", "-test.short",
				"-test.bench", exactly(name), "-test.benchtime", fmt.Sprint(turns, "x"))
			cmd := exec.CommandContext(ctx, command[0], args...)
			cmd.Dir = s.dir
			// Garbage collections and preemptions depend on time and would be counted, and
			// callgrind fails on the signals of the latter.
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				return 0, fmt.Errorf("%w\n%s", err, out)
			}
			if !strings.Contains(string(out), "\nBenchmark") {
				return 0, errNoBenchmark
			}
			m := found.FindSubmatch(out)
			if m == nil {
				return 0, fmt.Errorf("no count in\n%s", out)
			}
			return strconv.ParseFloat(string(m[1]), 64)
		}
	}
	const event = "instructions:u"
	perf := []string{"perf", "stat", "-x", ",", "-e", event}
	counted := regexp.MustCompile(`(?m)^(\d+),[^,]*,` + event)
	out, err := exec.CommandContext(ctx, perf[0], append(perf[1:], "true")...).CombinedOutput()
	if err == nil && counted.Match(out) {
		return with(counted, perf...)
	}
	if valgrind, err := exec.LookPath("valgrind"); err == nil {
		return with(regexp.MustCompile(`Collected : (\d+)`), valgrind,
			"--tool=callgrind", "--callgrind-out-file=/dev/null")
	}
	return nil
}

// exactly returns the regular expression for one benchmark, or one of its parts.
func exactly(name string) string {
	return "^Benchmark" + strings.Join(strings.Split(name, "/"), "$/^") + "$"
}

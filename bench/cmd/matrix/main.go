//go:build linux

// Command matrix measures all servers under all workloads and writes a report:
//
//	go run ./bench/cmd/matrix -out docs/BENCHMARKS.md
//
// It builds the servers and the generator, and gives the generator a core of its own. It runs one
// peer after another, one workload after another, and repeats all of this until each pair has been
// measured -repeats times. So other load on the machine affects all of them. Each run has its own
// server process. If Node and npm are installed, it also installs and measures the servers of
// peers/js. All traffic stays on the loopback interface.
//
// With -journal FILE each result is recorded in a file, and an interrupted matrix continues from
// it.
//
// With -quick everything is small: this tests the command, and the numbers mean nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

// options are the values of the flags.
type options struct {
	out       string
	journal   string
	repeats   int
	idleRuns  int
	quick     bool
	workloads string
	peers     string
	idle      time.Duration
	span      time.Duration
	cores     *trial.Cores
	skipJS    bool
}

func flags() options {
	var o options
	flag.StringVar(&o.out, "out", "", "file for the report (default standard output)")
	flag.StringVar(&o.journal, "journal", "",
		"file that records each result, so that an interrupted matrix can continue")
	flag.IntVar(&o.repeats, "repeats", 5, "runs of each peer under each workload")
	flag.IntVar(&o.idleRuns, "idle-repeats", 2, "runs of workload idle")
	flag.BoolVar(&o.quick, "quick", false, "one run each, with few connections and a short time")
	flag.StringVar(&o.workloads, "workloads", "", "names, separated by commas (default all)")
	flag.StringVar(&o.peers, "peers", "", "names, separated by commas (default all)")
	flag.DurationVar(&o.idle, "idle", time.Minute, "wait before idle memory is measured")
	flag.DurationVar(&o.span, "for", 0, "measured interval (default the workload's)")
	o.cores = trial.Flags()
	flag.BoolVar(&o.skipJS, "skip-js", false, "skip the servers of peers/js")
	flag.Parse()
	if o.quick {
		o.repeats, o.idleRuns = 1, 1
	}
	return o
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flags()); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	var known []string
	for _, w := range load.Workloads() {
		known = append(known, w.Name)
	}
	if err := trial.CheckList(o.workloads, known); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	peers, err := build(ctx, dir, o)
	if err != nil {
		return err
	}
	m := newMatrix(dir, peers, o)
	noted, entries, err := openJournal(o.journal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, noted.close()) }()
	for _, e := range entries {
		m.add(e)
	}
	if err := m.measure(ctx, noted); err != nil {
		return err
	}
	report := m.report()
	if o.out == "" {
		fmt.Print(report)
	} else if err := os.WriteFile(o.out, []byte(report), 0o644); err != nil {
		return err
	}
	if len(m.failures) > 0 {
		return fmt.Errorf("%d runs failed, see the report", len(m.failures))
	}
	return nil
}

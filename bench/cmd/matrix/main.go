//go:build linux

// Command matrix measures all servers under all workloads and writes a report:
//
//	go run ./bench/cmd/matrix -out docs/BENCHMARKS.md
//
// It builds the servers and the generator, gives each of the two one core, and runs peer
// after peer, workload after workload, and all of that again until each pair was measured
// -repeats times: so whatever the machine does meanwhile, it does to all. Each run has a
// server process of its own. With Node and npm there it installs and measures the servers
// of peers/js too. Traffic stays on loopback.
//
// With -journal FILE each result is noted there, and a matrix that was cut off goes on from it.
//
// With -quick everything is tiny: that shows that it works, and no numbers to go by.
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
)

// options are what the flags say.
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
	serverCPU string
	loadCPU   string
	skipJS    bool
}

func flags() options {
	var o options
	flag.StringVar(&o.out, "out", "", "file for the report (default standard output)")
	flag.StringVar(&o.journal, "journal", "",
		"file that notes each result, from which a matrix that was cut off goes on")
	flag.IntVar(&o.repeats, "repeats", 5, "runs of each peer under each workload")
	flag.IntVar(&o.idleRuns, "idle-repeats", 2, "runs of workload idle")
	flag.BoolVar(&o.quick, "quick", false, "once, with few connections and a short time")
	flag.StringVar(&o.workloads, "workloads", "", "names, with commas (default all)")
	flag.StringVar(&o.peers, "peers", "", "names, with commas (default all)")
	flag.DurationVar(&o.idle, "idle", time.Minute, "wait before idle memory is measured")
	flag.DurationVar(&o.span, "for", 0, "measured interval (default the workload's)")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "core for the server")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "core for the generator")
	flag.BoolVar(&o.skipJS, "skip-js", false, "leave out the servers of peers/js")
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

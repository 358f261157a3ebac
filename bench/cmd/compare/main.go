//go:build linux

// Command compare measures two commits against each other in one interleaved run:
//
//	go run ./bench/cmd/compare -base v0.1.0 -limit 1.05
//
// It clones both into a temporary directory, builds each once, and measures them in turns: the
// workloads of the matrix with the generator of this tree, the allocations of the benchmarks, and
// the instructions of some of them. So other load on the machine affects both. It prints the
// medians of each, and the median of the ratios of head to base within the pairs. A row that only
// one of them has is listed, but not compared. Benchmarks are identified by name, in whatever
// package they are.
//
// Workloads with the suffix -app run with the server realtime-app. A commit from before that server
// gets the servers of this tree for these and for the workloads over TLS, if they suit its library.
//
// Instructions are counted by perf, or else by callgrind. Of all numbers, other load on the machine
// changes them the least.
//
// With -limit the command fails if a ratio is larger. With -quick everything is small: this tests
// the command, and the numbers mean nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

// options are the values of the flags.
type options struct {
	base, head string
	workloads  string
	benchmarks string
	counted    string
	repeats    int
	limit      float64
	quick      bool
	idle       time.Duration
	span       time.Duration
	cores      *trial.Cores
}

// The defaults of what is compared: deliver, push, join, and the code that leads to them.
const (
	allocationRows = "^Benchmark(SendToRoom|Route|History|Dispatch|JoinLeave|Decode|Encode|Push|" +
		"Flush|Scanner)$"
	instructionRows = "SendToRoom/10,Route/room/10,Dispatch/room,JoinLeave,Push/16,Decode,Encode"
)

func flags() options {
	var o options
	flag.StringVar(&o.base, "base", "", "commit to compare with")
	flag.StringVar(&o.head, "head", worktree,
		"commit to compare; worktree means this tree with its changes")
	flag.StringVar(&o.workloads, "workloads", "", "names, with commas, or none (default all)")
	flag.StringVar(&o.benchmarks, "bench", allocationRows, "benchmarks whose allocations are compared")
	flag.StringVar(&o.counted, "instructions", instructionRows,
		"benchmarks or parts whose instructions are compared, separated by commas")
	flag.IntVar(&o.repeats, "repeats", 5, "runs of each")
	flag.Float64Var(&o.limit, "limit", 0, "fail if a ratio is larger (default: never)")
	flag.BoolVar(&o.quick, "quick", false, "one run each, with few connections and a short time")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "wait before idle memory is measured")
	flag.DurationVar(&o.span, "for", 0, "measured interval (default the workload's)")
	o.cores = trial.Flags()
	flag.Parse()
	if o.quick {
		o.repeats = 1
	}
	return o
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flags()); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.base == "" {
		return errors.New("-base names the commit to compare with")
	}
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	known := []string{"none"}
	for _, w := range load.Workloads() {
		if known = append(known, w.Name); w.App {
			known = append(known, w.Name+"-app")
		}
	}
	if err := trial.CheckList(o.workloads, known); err != nil {
		return err
	}
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	generator := filepath.Join(dir, "load")
	if _, err := output(ctx, root, "go", "build", "-o", generator, "./bench/cmd/load"); err != nil {
		return err
	}
	var sides [2]*side
	for i, commit := range []string{o.base, o.head} {
		sides[i], err = newSide(ctx, root, filepath.Join(dir, fmt.Sprint(i)), commit, o)
		if err != nil {
			return err
		}
	}
	t := &table{sides: sides, rows: map[string]*row{}}
	g := trial.NewGround(generator, *o.cores)
	g.Small, g.Idle, g.Span = o.quick, o.idle, o.span
	for _, measure := range []func() error{
		func() error { return t.workloads(ctx, g, o) },
		func() error { return t.allocations(ctx, o) },
		func() error { return t.instructions(ctx, o) },
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	fmt.Print(t.report(o.limit))
	if over := t.over(o.limit); over > 0 {
		return fmt.Errorf("%d ratios above %g", over, o.limit)
	}
	return ctx.Err()
}

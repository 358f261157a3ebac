//go:build linux

// Command compare measures two commits against each other in one interleaved run:
//
//	go run ./bench/cmd/compare -base v0.1.0 -limit 1.05
//
// It clones both into a temporary folder, builds each once, and measures them in turns: the
// workloads of the matrix with one generator, which is that of this tree, allocations of the
// benchmarks, and the instructions of some of them. So whatever the machine does meanwhile, it does
// to both. It prints the medians of each, and the median of the ratios of head to base within the
// pairs. A row that only one of them has is listed and not compared; benchmarks are found by their
// names, in whatever package they are.
//
// Instructions are counted by perf or else by callgrind. They are the number that a loaded machine
// changes the least.
//
// With -limit it fails if a ratio is larger. With -quick everything is tiny: that shows that it
// works, and no numbers to go by.
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

	"github.com/realtime-go/realtime/bench/trial"
)

// options are what the flags say.
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
	serverCPU  string
	loadCPU    string
}

// What is compared by default: deliver, push, join, and what leads to them.
const (
	allocationRows = "^Benchmark(SendToRoom|Route|History|Dispatch|JoinLeave|Decode|Encode|Push|" +
		"Flush|Scanner)$"
	instructionRows = "SendToRoom/10,Route/room/10,Dispatch/room,JoinLeave,Push/16,Decode,Encode"
)

func flags() options {
	var o options
	flag.StringVar(&o.base, "base", "", "commit to compare with")
	flag.StringVar(&o.head, "head", worktree,
		"commit that is compared; worktree is this tree as it is")
	flag.StringVar(&o.workloads, "workloads", "", "names, with commas (default all, none for none)")
	flag.StringVar(&o.benchmarks, "bench", allocationRows, "benchmarks whose allocations are compared")
	flag.StringVar(&o.counted, "instructions", instructionRows,
		"benchmarks and their parts whose instructions are compared, with commas")
	flag.IntVar(&o.repeats, "repeats", 5, "runs of each")
	flag.Float64Var(&o.limit, "limit", 0, "fail if a ratio is larger (default: never)")
	flag.BoolVar(&o.quick, "quick", false, "once, with few connections and a short time")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "wait before idle memory is measured")
	flag.DurationVar(&o.span, "for", 0, "measured interval (default the workload's)")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "core for the server")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "core for the generator")
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
	g := trial.NewGround(generator, o.serverCPU, o.loadCPU)
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

//go:build linux

// Command cluster measures some nodes of a server that share a Redis: this library and centrifuge, both
// with history and presence, in turns. It prints the median of each number, and the ratio of ours to
// that of centrifuge:
//
//	go run ./bench/cmd/cluster
//
// Each number of processor time is of all nodes together.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/realtime-go/realtime/bench/trial"
)

// sides are the servers. The first is ours.
var sides = []string{"realtime-node", "centrifuge-node"}

func main() {
	repeats := flag.Int("repeats", 3, "number of measurements of each server, in turns")
	nodes := flag.String("nodes", "1,2,3", "numbers of nodes")
	only := flag.String("only", "", "workloads, separated by commas: "+strings.Join(names(), ", ")+" (default all)")
	small := flag.Bool("quick", false, "do little, to see that it runs")
	flag.Parse()
	if err := run(*repeats, *nodes, *only, *small); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(repeats int, nodes, only string, small bool) error {
	if err := trial.CheckList(only, names()); err != nil {
		return err
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		fmt.Println("skipped: redis-server is not installed")
		return nil
	}
	if err := raiseFiles(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "github.com/realtime-go/realtime/bench/nodes/...")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	s := full
	if small {
		s = quick
	}
	for text := range strings.SplitSeq(nodes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("nodes: %q", text)
		}
		if err := compare(dir, n, repeats, only, s); err != nil {
			return err
		}
	}
	return nil
}

// compare measures both servers with n nodes, in turns, and prints the result.
func compare(dir string, n, repeats int, only string, s sizes) error {
	var values [2]map[string][]float64
	for range repeats {
		for i, side := range sides {
			out, err := measure(filepath.Join(dir, side), n, only, s)
			if err != nil {
				return fmt.Errorf("%s with %d nodes: %w", side, n, err)
			}
			if values[i] == nil {
				values[i] = map[string][]float64{}
			}
			for name, v := range out {
				values[i][name] = append(values[i][name], v)
			}
		}
	}
	fmt.Printf("\n| nodes: %d | %s | %s | ratio |\n|---|--:|--:|--:|\n", n, sides[0], sides[1])
	for _, name := range slices.Sorted(maps.Keys(values[0])) {
		var m [2]float64
		for i := range sides {
			m[i] = trial.Median(slices.Sorted(slices.Values(values[i][name])))
		}
		fmt.Printf("| %s | %s | %s | %s |\n", name, trial.Number(m[0]), trial.Number(m[1]), trial.Ratio(m[0], m[1]))
	}
	return nil
}

// workloads are run one after the other on the same nodes.
var workloads = []struct {
	name string
	run  func(*cluster, sizes, numbers) error
}{
	{"publish", (*cluster).publishing}, {"stream", (*cluster).streaming}, {"join", (*cluster).joining},
	{"churn", (*cluster).churning}, {"return", (*cluster).returning},
}

func names() (all []string) {
	for _, w := range workloads {
		all = append(all, w.name)
	}
	return all
}

// measure runs workloads on new nodes.
func measure(binary string, n int, only string, s sizes) (numbers, error) {
	c, err := start(binary, n)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	out := numbers{}
	for _, w := range workloads {
		if !trial.Listed(only, w.name) {
			continue
		}
		if err := w.run(c, s, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// raiseFiles raises the limit of open files to the maximum, also for the nodes.
func raiseFiles() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	lim.Cur = lim.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
}

//go:build linux

// Package trial is what the commands that measure servers share: one run of the generator against
// one server, each on a core of its own, and the numbers that come of many.
package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/realtime-go/realtime/bench/load"
)

// Ground is where servers are tried.
type Ground struct {
	Small bool          // with few connections and a short time
	Idle  time.Duration // wait before idle memory is measured
	Span  time.Duration // measured interval; zero is the workload's

	generator []string // the beginning of its command line
	pin       []string // what goes before a server's
}

// NewGround returns a ground with the generator in the file load. Where there is taskset and more
// than one core, server and generator run on the cores that are named.
func NewGround(load, serverCPU, loadCPU string) *Ground {
	g := &Ground{generator: []string{load}}
	if taskset, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		g.pin = []string{taskset, "-c", serverCPU}
		g.generator = []string{taskset, "-c", loadCPU, load}
	}
	return g
}

// Pinned reports whether server and generator have a core each.
func (g *Ground) Pinned() bool { return len(g.pin) > 0 }

// Try runs the generator with a server, which is a command line. Both end with it, however it ends.
func (g *Ground) Try(ctx context.Context, w load.Workload, server []string) (load.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute+g.Idle)
	defer cancel()
	args := append(g.generator[1:len(g.generator):len(g.generator)],
		"-workload", w.Name, "-idle", g.Idle.String(), "-for", g.Span.String())
	if g.Small {
		args = append(args, "-small")
	}
	if g.Pinned() && w.Idle == 0 {
		args = append(args, "-awake")
	}
	args = append(args, g.pin...)
	cmd := exec.CommandContext(ctx, g.generator[0], append(args, server...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var res load.Result
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return res, fmt.Errorf("%w: %.200s", err, failed.Stderr)
	}
	if err != nil {
		return res, err
	}
	return res, json.Unmarshal(out, &res)
}

// Listed reports whether name is in a list with commas. An empty list has everything.
func Listed(list, name string) bool {
	return list == "" || strings.Contains(","+list+",", ","+name+",")
}

//go:build linux

// Package trial is shared by the commands that measure servers. It runs the generator against one
// server, each on its own core, and formats the results.
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

// Ground is the configuration of trials.
type Ground struct {
	Small bool          // few connections and a short time
	Idle  time.Duration // wait before idle memory is measured
	Span  time.Duration // measured interval; zero: the workload's

	generator []string // beginning of the generator's command line
	pin       []string // prefix of a server's command line
}

// NewGround returns a Ground with the generator in the file load. If taskset exists and there is
// more than one core, server and generator run on the given cores.
func NewGround(load, serverCPU, loadCPU string) *Ground {
	g := &Ground{generator: []string{load}}
	if taskset, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		g.pin = []string{taskset, "-c", serverCPU}
		g.generator = []string{taskset, "-c", loadCPU, load}
	}
	return g
}

// Pinned reports whether server and generator have separate cores.
func (g *Ground) Pinned() bool { return len(g.pin) > 0 }

// Try runs the generator with a server, given by its command line. Both processes have ended when
// Try returns.
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

// Listed reports whether name is in a list separated by commas. The empty list contains every name.
func Listed(list, name string) bool {
	return list == "" || strings.Contains(","+list+",", ","+name+",")
}

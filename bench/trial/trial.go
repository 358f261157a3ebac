//go:build linux

// Package trial is shared by the commands that measure servers. It runs the generator against one
// server, each on its own core, and formats the results.
package trial

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/realtime-go/realtime/bench/load"
)

// Ground is the configuration of trials.
type Ground struct {
	Small bool          // few connections and a short time
	Idle  time.Duration // wait before idle memory is measured
	Span  time.Duration // measured interval; zero: the workload's

	cores     Cores
	generator []string // beginning of the generator's command line
	pin       []string // prefix of a server's command line
}

// Cores says how many cores a server uses, and where server and generator run.
type Cores struct {
	Procs  int    // GOMAXPROCS of the server
	Server string // cores of the server, as for taskset -c; empty: the first ones
	Load   string // core of the generator; empty: the next one
}

// Flags defines the flags for the cores, and returns their values.
func Flags() *Cores {
	var c Cores
	flag.IntVar(&c.Procs, "procs", 1, "GOMAXPROCS of the server")
	flag.StringVar(&c.Server, "server-cpu", "", "cores for the server (default the first -procs)")
	flag.StringVar(&c.Load, "load-cpu", "", "core for the generator (default the next)")
	return &c
}

// NewGround returns a Ground with the generator in the file load. If taskset exists and there are
// more cores than the server uses, server and generator run on separate ones.
func NewGround(load string, c Cores) *Ground {
	c.Procs = max(c.Procs, 1)
	first := "0"
	if c.Procs > 1 {
		first = fmt.Sprintf("0-%d", c.Procs-1)
	}
	c.Server = cmp.Or(c.Server, first)
	c.Load = cmp.Or(c.Load, strconv.Itoa(c.Procs))
	g := &Ground{cores: c, generator: []string{load}}
	if taskset, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > c.Procs {
		g.pin = []string{taskset, "-c", c.Server}
		g.generator = []string{taskset, "-c", c.Load, load}
	}
	return g
}

// Cores describes where server and generator run.
func (g *Ground) Cores() string {
	where := "Server and generator share the cores, because there is no `taskset`, or " +
		"no core is left\n  for the generator."
	if g.Pinned() {
		where = fmt.Sprintf("Server on core %s, generator on core %s. The generator never sleeps, "+
			"because the kernel\n  charges the sender for waking a receiver.", g.cores.Server, g.cores.Load)
	}
	return fmt.Sprintf("%s GOMAXPROCS=%d.", where, g.cores.Procs)
}

// Pinned reports whether server and generator have separate cores.
func (g *Ground) Pinned() bool { return len(g.pin) > 0 }

// Try runs the generator with a server, given by its command line. Both processes have ended when
// Try returns.
func (g *Ground) Try(ctx context.Context, w load.Workload, server []string) (load.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute+g.Idle)
	defer cancel()
	args := append(g.generator[1:len(g.generator):len(g.generator)],
		"-workload", w.Name, "-idle", g.Idle.String(), "-for", g.Span.String(),
		"-procs", strconv.Itoa(g.cores.Procs))
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

// CheckList returns an error if a list separated by commas contains a name that is not known.
func CheckList(list string, known []string) error {
	for name := range strings.SplitSeq(list, ",") {
		if list != "" && !slices.Contains(known, name) {
			return fmt.Errorf("unknown name %q, want some of %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/realtime-go/realtime/bench/load"
)

// matrix is all runs and what they found out.
type matrix struct {
	options
	peers     []peer
	workloads []load.Workload
	generator []string // the beginning of its command line
	pin       []string // what goes before a server's
	results   map[cell][]load.Result
	failures  []string
	began     time.Time     // the first run
	took      time.Duration // all runs together
}

// cell is a peer under a workload.
type cell struct{ workload, peer string }

func newMatrix(dir string, peers []peer, o options) *matrix {
	m := &matrix{
		options:   o,
		peers:     peers,
		generator: []string{filepath.Join(dir, "load")},
		results:   make(map[cell][]load.Result),
	}
	if taskset, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		m.pin = []string{taskset, "-c", o.serverCPU}
		m.generator = append([]string{taskset, "-c", o.loadCPU}, m.generator...)
	}
	for _, w := range load.Workloads() {
		if listed(o.workloads, w.Name) {
			m.workloads = append(m.workloads, w)
		}
	}
	return m
}

// measure runs everything that has no result yet, interleaved. A run that fails is noted
// and does not end it.
func (m *matrix) measure(ctx context.Context, noted journal) error {
	for round := range m.repeats {
		for _, w := range m.workloads {
			if w.Idle > 0 && round >= m.idleRuns {
				continue
			}
			for i := range m.peers {
				// Another one goes first each time.
				p := m.peers[(i+round)%len(m.peers)]
				if p.missing != "" || len(m.results[cell{w.Name, p.name}]) > round {
					continue
				}
				if err := m.one(ctx, w, p, noted); err != nil {
					return err
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
		}
	}
	return nil
}

// one does one run. The error is the journal's.
func (m *matrix) one(ctx context.Context, w load.Workload, p peer, noted journal) error {
	began := time.Now()
	res, err := m.generate(ctx, w, p)
	if err != nil {
		m.failures = append(m.failures, fmt.Sprintf("%s, %s: %v", w.Name, p.name, err))
		fmt.Fprintln(os.Stderr, w.Name, p.name, err)
		return nil
	}
	e := entry{Peer: p.name, Began: began, Took: time.Since(began), Result: res}
	m.add(e)
	fmt.Fprintf(os.Stderr, "%-14s %-12s %8.2f %s\n", w.Name, p.name, metric(w).of(res), metric(w).unit)
	return noted.note(e)
}

// add adds what a run found out.
func (m *matrix) add(e entry) {
	c := cell{e.Result.Workload, e.Peer}
	m.results[c] = append(m.results[c], e.Result)
	if m.began.IsZero() {
		m.began = e.Began
	}
	m.took += e.Took
}

// generate runs the generator. It and its server end with it, however it ends.
func (m *matrix) generate(ctx context.Context, w load.Workload, p peer) (load.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute+m.idle)
	defer cancel()
	args := append(m.generator[1:len(m.generator):len(m.generator)],
		"-workload", w.Name, "-idle", m.idle.String(), "-for", m.span.String())
	if m.quick {
		args = append(args, "-small")
	}
	if len(m.pin) > 0 && w.Idle == 0 {
		args = append(args, "-awake")
	}
	args = append(args, m.pin...)
	cmd := exec.CommandContext(ctx, m.generator[0], append(args, p.command...)...)
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

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

// matrix is all runs and what they found out.
type matrix struct {
	options
	peers     []peer
	workloads []load.Workload
	ground    *trial.Ground
	results   map[cell][]load.Result
	failures  []string
	began     time.Time     // the first run
	took      time.Duration // all runs together
}

// cell is a peer under a workload.
type cell struct{ workload, peer string }

func newMatrix(dir string, peers []peer, o options) *matrix {
	m := &matrix{
		options: o,
		peers:   peers,
		ground:  trial.NewGround(filepath.Join(dir, "load"), o.serverCPU, o.loadCPU),
		results: make(map[cell][]load.Result),
	}
	m.ground.Small, m.ground.Idle, m.ground.Span = o.quick, o.idle, o.span
	for _, w := range load.Workloads() {
		if trial.Listed(o.workloads, w.Name) {
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
	res, err := m.ground.Try(ctx, w, p.command)
	if err != nil {
		m.failures = append(m.failures, fmt.Sprintf("%s, %s: %v", w.Name, p.name, err))
		fmt.Fprintln(os.Stderr, w.Name, p.name, err)
		return nil
	}
	e := entry{Peer: p.name, Began: began, Took: time.Since(began), Result: res}
	m.add(e)
	k := trial.MetricOf(w)
	fmt.Fprintf(os.Stderr, "%-14s %-12s %8.2f %s\n", w.Name, p.name, k.Of(res), k.Unit)
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

// values collects one number of all runs of a cell, in order of size.
func (m *matrix) values(w load.Workload, name string, of func(load.Result) float64) []float64 {
	var vs []float64
	for _, r := range m.results[cell{w.Name, name}] {
		vs = append(vs, of(r))
	}
	slices.Sort(vs)
	return vs
}

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

// matrix holds all runs and their results.
type matrix struct {
	options
	peers     []peer
	workloads []load.Workload
	ground    *trial.Ground
	results   map[cell][]load.Result
	failures  []string
	began     time.Time     // start of the first run
	took      time.Duration // duration of all runs together
}

// cell is a pair of a workload and a peer.
type cell struct{ workload, peer string }

func newMatrix(dir string, peers []peer, o options) *matrix {
	m := &matrix{
		options: o,
		peers:   peers,
		ground:  trial.NewGround(filepath.Join(dir, "load"), *o.cores),
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

// measure performs all runs that have no result yet, interleaved. A run that fails is recorded, and
// the next one follows.
func (m *matrix) measure(ctx context.Context, noted journal) error {
	for round := range m.repeats {
		for _, w := range m.workloads {
			if w.Idle > 0 && round >= m.idleRuns {
				continue
			}
			for i := range m.peers {
				// The peers take turns in going first.
				p := m.peers[(i+round)%len(m.peers)]
				if !p.runs(w) || len(m.results[cell{w.Name, p.name}]) > round {
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

// one performs one run. It returns only errors of the journal.
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

// add adds a result.
func (m *matrix) add(e entry) {
	c := cell{e.Result.Workload, e.Peer}
	m.results[c] = append(m.results[c], e.Result)
	if m.began.IsZero() {
		m.began = e.Began
	}
	m.took += e.Took
}

// values returns one number of all runs of a cell, sorted.
func (m *matrix) values(w load.Workload, name string, of func(load.Result) float64) []float64 {
	var vs []float64
	for _, r := range m.results[cell{w.Name, name}] {
		vs = append(vs, of(r))
	}
	slices.Sort(vs)
	return vs
}

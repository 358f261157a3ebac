//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/realtime-go/realtime/bench/load"
)

// The server with an application has a row below that of the server without, and no column.
func TestRatiosWithApplication(t *testing.T) {
	m := &matrix{
		peers:     []peer{{name: ours}, {name: oursApp}, {name: centrifuge}, {name: "gws"}},
		workloads: []load.Workload{{Name: "direct", App: true}, {Name: "paced"}},
		results:   map[cell][]load.Result{},
	}
	for name, cost := range map[string]float64{ours: 2, oursApp: 4, centrifuge: 4, "gws": 1} {
		for _, w := range m.workloads {
			if (peer{name: name}).runs(w) {
				m.add(entry{Peer: name, Result: load.Result{Workload: w.Name, CPU: cost}})
			}
		}
	}
	const want = `| workload | measure | centrifuge | gws |
|---|---|--:|--:|
| direct | CPU of a delivery | 0.50 | 2.00 |
| direct, with an application | CPU of a delivery | 1.00 | 4.00 |
| paced | CPU of a delivery | 0.50 | 2.00 |
`
	var got strings.Builder
	m.ratios(&got)
	if !strings.Contains(got.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestPeerRuns(t *testing.T) {
	for _, test := range []struct {
		peer peer
		w    load.Workload
		runs bool
	}{
		{peer{name: ours}, load.Workload{TLS: true}, true},
		{peer{name: ours, missing: "why"}, load.Workload{}, false},
		{peer{name: oursApp}, load.Workload{}, false},
		{peer{name: oursApp}, load.Workload{App: true}, true},
		{peer{name: "ws", script: true}, load.Workload{}, true},
		{peer{name: "ws", script: true}, load.Workload{TLS: true}, false},
	} {
		if got := test.peer.runs(test.w); got != test.runs {
			t.Errorf("%+v, %+v: %v", test.peer, test.w, got)
		}
	}
}

//go:build linux

package load

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/realtime-go/realtime/internal/long"
)

// Each server delivers each message to each member of the room exactly once and to no other client,
// and a message to a user to that user alone. So all servers in the benchmark do the same work. The
// short form tests only the servers of this library.
func TestServersDeliverOnce(t *testing.T) {
	bin := t.TempDir()
	const own, all = "../peers/realtime...", "../peers/..."
	build := exec.Command("go", "build", "-o", bin+"/", long.Of(own, all, all))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	servers, err := filepath.Glob(bin + "/*")
	if err != nil || len(servers) == 0 {
		t.Fatal("no servers", err)
	}
	var commands [][]string
	if long.Enabled() {
		commands = installed()
	}
	for _, server := range servers {
		commands = append(commands, []string{server})
	}
	for _, command := range commands {
		for _, w := range sending() {
			if w.TLS && len(command) > 1 {
				continue // only the servers in Go have TLS
			}
			name := filepath.Base(command[len(command)-1]) + "/" + w.Name
			t.Run(name, func(t *testing.T) { requireOnce(t, command, w) })
		}
	}
}

// installed returns the servers of ../peers/js that can be started without a download.
func installed() [][]string {
	var commands [][]string
	const js = "../peers/js/"
	bun, _ := filepath.Glob(js + "node_modules/@oven/bun-*/bin/bun")
	if len(bun) > 0 {
		commands = append(commands, []string{bun[0], js + "uwebsockets.js"})
	}
	node, err := exec.LookPath("node")
	_, missing := os.Stat(js + "node_modules/ws")
	if err == nil && missing == nil {
		commands = append(commands, []string{node, js + "ws.js"}, []string{node, js + "socketio.js"})
	}
	return commands
}

// sending returns a workload for each way to send, with 10 connections each.
func sending() []Workload {
	const span = 200 * time.Millisecond
	return []Workload{
		{Name: "burst", Rooms: 2, Members: 5, Size: 128, Burst: 4, For: span},
		{Name: "compressed", Rooms: 2, Members: 5, Size: 1 << 10, Burst: 4, Deflate: true, For: span},
		{Name: "tls", Rooms: 2, Members: 5, Size: 16 << 10, Burst: 4, TLS: true, For: span},
		{Name: "window", Rooms: 2, Members: 5, Size: 1 << 10, Window: 4, For: span},
		{Name: "paced", Rooms: 2, Members: 5, Size: 16 << 10, Rate: 200, For: span},
		{Name: "direct", Rooms: 1, Members: 10, Direct: true, Burst: 2, Size: 128, For: span},
		{Name: "inbound", Rooms: 1, Members: 10, Direct: true, Inbound: 8, Size: 128, For: span},
	}
}

func requireOnce(t *testing.T, server []string, w Workload) {
	r, err := newRun(server, w)
	if err != nil {
		t.Fatal(err)
	}
	defer r.end()
	r.ledger = newLedger()
	// The seed drops messages for a receiver that lags by 1,000 messages, which happens on a busy
	// machine.
	r.ledger.losing = filepath.Base(server[len(server)-1]) == "seed"
	res, err := r.measure()
	if err != nil {
		t.Fatal(err)
	}
	if res.Deliveries < 50 || res.CPU <= 0 || res.Closed > 0 {
		t.Errorf("implausible result: %+v", res)
	}
	wrong := r.ledger.problems(r.all)
	for _, p := range wrong[:min(len(wrong), 5)] {
		t.Error(p)
	}
	if len(wrong) > 5 {
		t.Errorf("and %d more", len(wrong)-5)
	}
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/realtime-go/realtime/bench/load"
	"github.com/realtime-go/realtime/bench/trial"
)

const module = "github.com/realtime-go/realtime/bench"

// peer is a server to measure, or the reason why it is not measured.
type peer struct {
	name    string
	command []string
	script  bool // not written in Go, and without TLS
	missing string
}

// The peers with a special role: the servers of this library, without and with what an application
// adds, and the one that others are compared with in the tables.
const (
	ours       = "realtime"
	oursApp    = "realtime-app"
	centrifuge = "centrifuge"
)

// runs reports whether the peer is measured under a workload.
func (p peer) runs(w load.Workload) bool {
	return p.missing == "" && (w.App || p.name != oursApp) && !(w.TLS && p.script)
}

// build builds everything into dir, and returns the peers in the order of the report.
func build(ctx context.Context, dir string, o options) ([]peer, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", module+"/...")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	all := []peer{}
	for _, name := range []string{ours, oursApp, centrifuge} {
		all = append(all, peer{name: name, command: []string{filepath.Join(dir, name)}})
	}
	all = append(all, scripts(ctx, o)...)
	for _, name := range []string{"gws", "gorilla", "coder", "melody", "seed"} {
		all = append(all, peer{name: name, command: []string{filepath.Join(dir, name)}})
	}
	var known []string
	for _, p := range all {
		known = append(known, p.name)
	}
	if err := trial.CheckList(o.peers, known); err != nil {
		return nil, err
	}
	var chosen []peer
	for _, p := range all {
		if trial.Listed(o.peers, p.name) {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

// scripts installs the servers that are not written in Go.
func scripts(ctx context.Context, o options) []peer {
	peers := []peer{
		{name: "uwebsockets", script: true}, {name: "ws", script: true}, {name: "socketio", script: true},
	}
	dir, missing := install(ctx, o)
	for i := range peers {
		p := &peers[i]
		if p.missing = missing; missing != "" {
			continue
		}
		runtime, err := interpreter(dir, p.name)
		if err != nil {
			p.missing = err.Error()
			continue
		}
		p.command = []string{runtime, filepath.Join(dir, p.name+".js")}
	}
	return peers
}

// install installs the packages of the scripts. It returns the directory, or why it could not.
func install(ctx context.Context, o options) (dir, missing string) {
	if o.skipJS {
		return "", "skipped by -skip-js"
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", "npm is not installed"
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", "go list: " + err.Error()
	}
	dir = filepath.Join(strings.TrimSpace(string(out)), "peers", "js")
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", "npm ci: " + err.Error()
	}
	return dir, ""
}

// interpreter returns the program that runs a script.
func interpreter(dir, script string) (string, error) {
	if script != "uwebsockets" {
		return exec.LookPath("node")
	}
	found, _ := filepath.Glob(filepath.Join(dir, "node_modules", "@oven", "bun-*", "bin", "bun"))
	if len(found) > 0 {
		return found[0], nil
	}
	return exec.LookPath("bun")
}

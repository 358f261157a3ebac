//go:build linux

// Command load runs one workload on one server and prints the result as JSON:
//
//	go build -o /tmp/ ./bench/peers/...
//	go run ./bench/cmd/load -workload burst-128 /tmp/realtime
//
// The arguments after the flags are the command line of the server.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/realtime-go/realtime/bench/load"
)

func main() {
	name := flag.String("workload", "burst-128", "one of "+strings.Join(names(), ", "))
	small := flag.Bool("small", false, "few connections and a short time")
	span := flag.Duration("for", 0, "measured interval (default the workload's)")
	awake := flag.Bool("awake", false, "poll without sleeping; needs a separate core")
	idle := flag.Duration("idle", time.Minute, "wait before idle memory is measured")
	flag.Parse()
	res, err := measure(*name, *small, *awake, *span, *idle, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(res)
}

func names() []string {
	var ns []string
	for _, w := range load.Workloads() {
		ns = append(ns, w.Name)
	}
	return ns
}

func measure(
	name string, small, awake bool, span, idle time.Duration, server []string,
) (any, error) {
	if len(server) == 0 {
		return nil, fmt.Errorf("no server given")
	}
	for _, w := range load.Workloads() {
		if w.Name != name {
			continue
		}
		w.Awake = awake
		if w.Idle > 0 {
			w.Idle = idle
		}
		if span > 0 {
			w.For = span
		}
		if small {
			w = w.Small()
		}
		return load.Run(server, w)
	}
	return nil, fmt.Errorf("no workload %q", name)
}

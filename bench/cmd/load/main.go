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
	"errors"
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
	procs := flag.Int("procs", 0, "GOMAXPROCS of the server (default as in the environment)")
	flag.Parse()
	w, err := workload(*name)
	if err != nil {
		fail(err)
	}
	w.Awake, w.Procs = *awake, *procs
	if w.Idle > 0 {
		w.Idle = *idle
	}
	if *span > 0 {
		w.For = *span
	}
	if *small {
		w = w.Small()
	}
	if flag.NArg() == 0 {
		fail(errors.New("no server given"))
	}
	res, err := load.Run(flag.Args(), w)
	if err != nil {
		fail(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(res)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}

func names() []string {
	var ns []string
	for _, w := range load.Workloads() {
		ns = append(ns, w.Name)
	}
	return ns
}

func workload(name string) (load.Workload, error) {
	for _, w := range load.Workloads() {
		if w.Name == name {
			return w, nil
		}
	}
	return load.Workload{}, fmt.Errorf("no workload %q", name)
}

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/realtime-go/realtime/bench/load"
)

// machine describes the machine and the commit.
func machine() []string {
	lines := []string{fmt.Sprintf("Machine: %s, %d cores, %s/%s", processor(),
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		lines = append(lines, "Kernel: "+strings.TrimSpace(string(release)))
	}
	return append(lines, "Commit: "+commit())
}

func commit() string {
	name, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range bytes.Lines(info) {
		if name, value, ok := strings.Cut(string(line), ":"); ok &&
			strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// describe describes a workload in words.
func describe(w load.Workload) string {
	s := fmt.Sprintf("%d × %d connections", w.Rooms, w.Members)
	if w.TLS {
		s += " over TLS 1.3 with AES-128-GCM"
	}
	switch {
	case w.Storm:
		return s + ", opened as fast as the server permits"
	case w.Idle > 0:
		return s + ", all idle"
	case w.Inbound > 0:
		return fmt.Sprintf("%s, each sends messages of %d B in bursts of %d, one of which comes back",
			s, w.Size, w.Inbound)
	case w.Rate > 0:
		s += fmt.Sprintf(", messages of %d B, %.0f per second", w.Size, w.Rate)
	case w.Window > 0:
		s += fmt.Sprintf(", messages of %d B, %d in flight", w.Size, w.Window)
	default:
		s += fmt.Sprintf(", messages of %d B in bursts of %d", w.Size, w.Burst)
	}
	if w.Deflate {
		s += ", compressed by the server"
	}
	if w.Direct {
		s += ", each to one user"
	}
	if w.Stalled > 0 {
		s += fmt.Sprintf(", and %d more that does not read", w.Stalled)
	}
	return s
}

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

// machine describes where this runs.
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

// describe says in words what a workload does.
func describe(w load.Workload) string {
	s := fmt.Sprintf("%d × %d connections", w.Rooms, w.Members)
	switch {
	case w.Storm:
		return s + ", opened as fast as the server lets them"
	case w.Idle > 0:
		return s + ", which do nothing"
	case w.Inbound > 0:
		return fmt.Sprintf("%s, which send %d messages of %d B at once, of which one comes back",
			s, w.Inbound, w.Size)
	case w.Rate > 0:
		s += fmt.Sprintf(", %.0f messages of %d B a second", w.Rate, w.Size)
	case w.Window > 0:
		s += fmt.Sprintf(", %d messages of %d B in flight, each by itself", w.Window, w.Size)
	default:
		s += fmt.Sprintf(", %d messages of %d B at once and again", w.Burst, w.Size)
	}
	if w.Deflate {
		s += ", which the server compresses"
	}
	if w.Direct {
		s += ", each for one user"
	}
	if w.Stalled > 0 {
		s += fmt.Sprintf(", and %d who does not read", w.Stalled)
	}
	return s
}

// Package leaktest fails test programs that leave goroutines or descriptors behind.
package leaktest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long Main waits for goroutines and descriptors that are being released.
const patience = 5 * time.Second

// Main runs the tests and exits. The exit code is not 0 if a test fails, or if goroutines with code
// of this module, or descriptors, remain after the tests.
func Main(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close() // the descriptors of the runtime's poller are open from here on
	}
	before := OpenFiles()
	code := m.Run()
	if code == 0 {
		if left := leftovers(before, patience); left != "" {
			fmt.Fprintln(os.Stderr, left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftovers waits until nothing is left, or patience is over, and returns what is left.
func leftovers(files int, patience time.Duration) string {
	var left string
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		left = ""
		if stacks := goroutines(); len(stacks) > 0 {
			left = "leaked goroutines:\n" + strings.Join(stacks, "\n\n")
		} else if n := OpenFiles(); n > files {
			left = fmt.Sprintf("leaked descriptors: %d before, %d after", files, n)
		}
		if left == "" {
			return ""
		}
	}
	return left
}

// goroutines returns the stacks, except the caller's, that contain code of this module or of the
// WebSocket library. It ignores the workers of the fuzzing engine.
func goroutines() []string {
	buf := make([]byte, 16<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var ours []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		own := strings.Contains(stack, "realtime") || strings.Contains(stack, "websocket")
		if i > 0 && own && !strings.Contains(stack, "fuzz") {
			ours = append(ours, stack)
		}
	}
	return ours
}

// OpenFiles returns the number of open descriptors of the process, or 0 if the system does not
// tell it.
func OpenFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

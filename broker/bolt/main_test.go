package bolt_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/realtime-go/realtime/internal/long"
)

// These are the numbers of repetitions in slow tests.

// kills is how often a publishing process is killed.
func kills() int { return long.Of(7, 20, 200) }

// flips is how many bits in values are flipped, one at a time.
func flips() int { return long.Of(70, 200, 2000) }

// cuts is how often the power of a disk is cut.
func cuts() int { return long.Of(2, 5, 100) }

// faults is the number of system calls of a kind that are made to fail, one after the other.
func faults() int { return long.Of(2, 8, 50) }

// anywhere is how many bits anywhere in a file are flipped, one at a time.
func anywhere() int { return long.Of(150, 1000, 20000) }

// truncations is how many files are truncated or damaged.
func truncations() int { return long.Of(50, 200, 5000) }

// TestMain publishes if this is the process to be killed. Otherwise it runs the tests, and fails if
// they leave a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		childMain(path)
		return
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close() // the runtime's poller has descriptors of its own from here on
	}
	before := openFiles()
	code := m.Run()
	if code == 0 {
		if left := leftovers(before); left != "" {
			fmt.Fprintln(os.Stderr, left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftovers waits for goroutines that are about to end, and returns what is left.
func leftovers(files int) string {
	var left string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		left = ""
		if stacks := ourGoroutines(); len(stacks) > 0 {
			left = "leaked goroutines:\n" + strings.Join(stacks, "\n\n")
		} else if n := openFiles(); n > files {
			left = fmt.Sprintf("leaked descriptors: %d before, %d after", files, n)
		}
		if left == "" {
			return ""
		}
	}
	return left
}

// ourGoroutines returns the stacks with code of this module.
func ourGoroutines() []string {
	buf := make([]byte, 16<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var ours []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(stack, "realtime") && !strings.Contains(stack, "fuzz") {
			ours = append(ours, stack)
		}
	}
	return ours
}

// openFiles returns the number of descriptors, if the system has it in /proc.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

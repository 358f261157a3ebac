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

// How much of what takes long is done.

// kills is how often a process that publishes is killed.
func kills() int { return long.Of(7, 20, 200) }

// flips is how many bits of a file are turned over, one at a time.
func flips() int { return long.Of(70, 200, 2000) }

// cuts is how often the power of a disk is cut.
func cuts() int { return long.Of(2, 5, 100) }

// faults is up to which system call of a kind the disk fails.
func faults() int { return long.Of(2, 8, 50) }

// anywhere is how many bits anywhere in a file are turned over, one at a time.
func anywhere() int { return long.Of(150, 1000, 5000) }

// cutoffs is how many files are cut off.
func cutoffs() int { return long.Of(30, 200, 2000) }

// TestMain publishes if it is told to, as the process that is killed. Else it runs the tests, and
// fails if they leave a goroutine or a descriptor behind.
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

// leftovers waits for what is ending anyway, and says what is left.
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

// ourGoroutines returns the stacks that have code of this module in them.
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

// openFiles counts descriptors, where the system tells.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

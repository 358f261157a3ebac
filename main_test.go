package realtime_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/realtime-go/realtime/internal/long"
)

// schedules is how many random orders of events what keeps messages is put through.
func schedules() uint64 { return long.Of[uint64](100, 300, 10_000) }

// TestMain fails if the tests leave a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	if plan := os.Getenv(crowdEnv); plan != "" {
		var c crowd
		err := json.Unmarshal([]byte(plan), &c)
		if err == nil {
			err = c.run()
		}
		if err != nil {
			log.Fatal(err)
		}
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

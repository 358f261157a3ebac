package client_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails if goroutines still run after the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leakedGoroutines(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "leaked goroutines:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines waits for goroutines that are about to end, and returns the stacks of the
// others.
func leakedGoroutines() string {
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 16<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = nil
		for i, stack := range strings.Split(string(buf), "\n\n") {
			ours := strings.Contains(stack, "realtime") || strings.Contains(stack, "websocket")
			if i > 0 && ours && !strings.Contains(stack, "fuzz") {
				left = append(left, stack)
			}
		}
		if left == nil {
			break
		}
	}
	return strings.Join(left, "\n\n")
}

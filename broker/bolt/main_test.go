package bolt_test

import (
	"os"
	"testing"

	"github.com/realtime-go/realtime/internal/leaktest"
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
	leaktest.Main(m)
}

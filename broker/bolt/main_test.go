package bolt_test

import (
	"os"
	"testing"

	"github.com/realtime-go/realtime/internal/leaktest"
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
func anywhere() int { return long.Of(150, 1000, 20000) }

// cutoffs is how many files are cut off.
func cutoffs() int { return long.Of(50, 200, 5000) }

// TestMain publishes if it is told to, as the process that is killed. Else it runs the tests, and
// fails if they leave a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		childMain(path)
		return
	}
	leaktest.Main(m)
}

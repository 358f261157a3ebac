package realtime_test

import (
	"testing"

	"github.com/realtime-go/realtime/internal/leaktest"
)

// TestMain fails if the tests leave a goroutine or a descriptor behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryBudgetIsOnUnlessItIsOff(t *testing.T) {
	for given, want := range map[int]int{0: 256 << 20, 1000: 1000, -1: 0} {
		require.Equal(t, want, (&Options{Limits: Limits{MemoryBytes: given}}).resolved().Limits.MemoryBytes)
	}
}

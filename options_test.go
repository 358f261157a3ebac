package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultOfMemoryBudget(t *testing.T) {
	for given, want := range map[int]int{0: 256 << 20, 1000: 1000, -1: 0} {
		o := Options{Limits: Limits{MemoryBytes: given}}
		require.Equal(t, want, o.resolved().Limits.MemoryBytes)
	}
}

package shardmap

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first has found unreachable may have had a finaliser
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemoryIsFreed(t *testing.T) {
	s := New[*int]()
	before := heap()
	values := make([]int, long.Of(100_000, 1_000_000, 1_000_000))
	for i := range values {
		s.GetOrPut(strconv.Itoa(i), func() *int { return &values[i] })
	}
	for i := range values {
		s.CompareAndDelete(strconv.Itoa(i), &values[i])
	}
	values = nil
	require.Less(t, heap()-before, int64(512<<10))
	runtime.KeepAlive(s)
}

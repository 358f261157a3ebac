package realtime

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each counter of Stats occurs in counters exactly once.
func TestCountersCoverStats(t *testing.T) {
	var s Stats
	seen := map[*uint64]bool{}
	for i, c := range s.counters() {
		require.NotNil(t, c, "counter %d", i)
		require.False(t, seen[c], "counter %d", i)
		seen[c] = true
	}
	fields := 0
	for _, v := range []reflect.Value{reflect.ValueOf(s), reflect.ValueOf(s.Ended)} {
		for _, field := range v.Fields() {
			if field.Kind() == reflect.Uint64 {
				fields++
			}
		}
	}
	require.Len(t, seen, fields)
	require.Equal(t, "cause(99)", Cause(99).String())
}

package engine

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzQueue runs a program of operations on the ring and on a plain slice, which
// must agree after each.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3})
	f.Add([]byte("push push drop reply clear"))
	f.Fuzz(func(t *testing.T, program []byte) {
		var q queue
		var twin []entry
		for i, op := range program {
			switch op % 6 {
			case 0, 1, 2:
				e := entry{NewFrame(OpText, []byte(strconv.Itoa(i))), Class(op % 3)}
				q.push(e)
				twin = append(twin, e)
			case 3:
				if len(twin) > 0 {
					require.Equal(t, twin[0], q.pop())
					twin = twin[1:]
				}
			case 4:
				twin = twinDropOldest(t, &q, twin)
			case 5:
				require.Equal(t, len(twin), q.clear())
				twin = nil
			}
			requireSame(t, twin, &q)
		}
	})
}

func twinDropOldest(t *testing.T, q *queue, twin []entry) []entry {
	for i, e := range twin {
		if e.class != Reply {
			require.Same(t, e.frame, q.dropOldest())
			return append(append([]entry{}, twin[:i]...), twin[i+1:]...)
		}
	}
	require.Nil(t, q.dropOldest())
	return twin
}

func requireSame(t *testing.T, twin []entry, q *queue) {
	t.Helper()
	require.Equal(t, len(twin), q.n)
	bytes := 0
	for i, e := range twin {
		require.Same(t, e.frame, q.at(i).frame)
		require.Equal(t, e.class, q.at(i).class)
		bytes += e.frame.Len()
	}
	require.Equal(t, bytes, q.bytes)
}

func TestQueueGivesItsPeakBack(t *testing.T) {
	var q queue
	f := NewFrame(OpText, nil)
	for range 1000 {
		q.push(entry{f, Message})
	}
	for range 1000 {
		q.pop()
	}
	require.Nil(t, q.ring)
}

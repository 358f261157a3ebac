package sendqueue

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
		program = program[:min(400, len(program))] // each step looks at all that is there
		var q ring
		var twin []*Frame
		for i, op := range program {
			switch op % 7 {
			case 0, 1, 2:
				f := NewFrame(OpText, []byte(strconv.Itoa(i)))
				f.class = Class(op % 3)
				q.push(f)
				twin = append(twin, f)
			case 3:
				if len(twin) > 0 {
					require.Same(t, twin[0], q.pop())
					twin = twin[1:]
				}
			case 4:
				twin = twinDropOldest(t, &q, twin)
			case 5:
				require.Equal(t, len(twin), q.clear())
				twin = nil
			case 6:
				require.Equal(t, append([]*Frame{}, twin...), q.popAll([]*Frame{}))
				twin = nil
			}
			requireSame(t, twin, &q)
		}
	})
}

func twinDropOldest(t *testing.T, q *ring, twin []*Frame) []*Frame {
	for i, f := range twin {
		if f.class != Reply {
			require.Same(t, f, q.dropOldest())
			return append(append([]*Frame{}, twin[:i]...), twin[i+1:]...)
		}
	}
	require.Nil(t, q.dropOldest())
	return twin
}

func requireSame(t *testing.T, twin []*Frame, q *ring) {
	t.Helper()
	require.Equal(t, len(twin), q.len())
	bytes := 0
	for i, f := range twin {
		require.Same(t, f, q.at(i))
		bytes += f.Len()
	}
	require.Equal(t, bytes, q.bytes)
}

func TestQueueGivesItsPeakBack(t *testing.T) {
	var q ring
	f := NewFrame(OpText, nil)
	for range 1000 {
		q.push(f)
	}
	for range 1000 {
		q.pop()
	}
	require.Nil(t, q.ring)
}

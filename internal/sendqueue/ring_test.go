package sendqueue

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzRing applies operations to a ring and to a plain slice, which must agree after each.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3})
	f.Add([]byte("push push drop reply clear"))
	f.Fuzz(func(t *testing.T, program []byte) {
		program = program[:min(400, len(program))] // each step compares all frames
		var r ring
		var twin []*Frame
		for i, op := range program {
			switch op %= 9; op {
			case 0, 1, 2, 3:
				f := NewFrame(OpText, []byte(strconv.Itoa(i)))
				f.priority = Priority(op)
				if f.priority == Ephemeral && len(twin) > ephemeralMessages {
					break
				}
				r.push(f)
				twin = append(twin, f)
			case 4:
				if len(twin) > 0 {
					require.Same(t, twin[0], r.pop())
					twin = twin[1:]
				}
			case 5:
				twin = twinDrop(t, twin, r.dropOldest(), func(p Priority) bool { return p != Reply })
			case 6:
				twin = twinDrop(t, twin, r.dropEphemeral(), func(p Priority) bool { return p == Ephemeral })
			case 7:
				require.Equal(t, len(twin), r.clear())
				twin = nil
			case 8:
				require.Equal(t, append([]*Frame{}, twin...), r.popAll([]*Frame{}))
				twin = nil
			}
			requireSame(t, twin, &r)
		}
	})
}

// twinDrop removes the oldest frame with a priority that may be dropped, which must be the dropped one.
func twinDrop(t *testing.T, twin []*Frame, dropped *Frame, may func(Priority) bool) []*Frame {
	for i, f := range twin {
		if may(f.priority) {
			require.Same(t, f, dropped)
			return append(append([]*Frame{}, twin[:i]...), twin[i+1:]...)
		}
	}
	require.Nil(t, dropped)
	return twin
}

func requireSame(t *testing.T, twin []*Frame, r *ring) {
	t.Helper()
	require.Equal(t, len(twin), r.len())
	bytes := 0
	for i, f := range twin {
		require.Same(t, f, r.at(i))
		bytes += f.Len()
	}
	require.Equal(t, bytes, r.bytes)
}

func TestRingReleasesItsPeak(t *testing.T) {
	var r ring
	f := NewFrame(OpText, nil)
	for range 1000 {
		r.push(f)
	}
	for range 1000 {
		r.pop()
	}
	require.Nil(t, r.slots)
}

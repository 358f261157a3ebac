package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What goes out at once is of different rooms: the messages of one room keep their order.
func TestTakeOut(t *testing.T) {
	s := newSpreader(nil)
	s.sending = true
	for _, room := range []string{"a", "b", "a", "c", "c"} {
		s.out = append(s.out, outPart{room: room})
	}
	for range maxOut + 1 {
		s.out = append(s.out, outPart{room: string(rune('d' + len(s.out)))})
	}
	for _, want := range []int{2, 2, maxOut, 2} {
		require.Len(t, s.takeOut(), want)
		require.True(t, s.sending)
	}
	require.Empty(t, s.takeOut())
	require.False(t, s.sending)
}

package parts

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// However many rooms change at once, a sign of life stays small. Each version is said three times.
func TestClockSaysSomeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		for i := range 3 * maxDue {
			c.Next(fmt.Sprint("room", i))
		}
		said := map[string]int{}
		for range 60 {
			time.Sleep(time.Second)
			due := c.Due()
			require.LessOrEqual(t, len(due), maxDue)
			for room := range due {
				said[room]++
			}
		}
		require.Len(t, said, 3*maxDue)
		for room, n := range said {
			require.Equal(t, len(repeats), n, room)
		}
		require.Empty(t, c.recent)
	})
}

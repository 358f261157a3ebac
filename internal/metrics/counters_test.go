package metrics

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cs Counters
		require.Zero(t, cs.Rate())
		send := func(n int) {
			for range n {
				cs.Message(time.Now())
			}
		}
		send(30)
		require.InDelta(t, 3, cs.Rate(), 0)
		time.Sleep(5 * time.Second)
		send(20)
		time.Sleep(50 * time.Millisecond)
		send(10)
		require.InDelta(t, 6, cs.Rate(), 0)
		time.Sleep(4800 * time.Millisecond)
		require.InDelta(t, 6, cs.Rate(), 0)
		time.Sleep(200 * time.Millisecond)
		require.InDelta(t, 3, cs.Rate(), 0, "the first messages were more than ten seconds ago")
		time.Sleep(5 * time.Second)
		require.Zero(t, cs.Rate())
		send(10) // in a cell that was used before
		require.InDelta(t, 1, cs.Rate(), 0)
	})
}

// A goroutine that was delayed counts at a time that is over, and the clock is set back.
func TestRateAtAnEarlierTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cs Counters
		time.Sleep(time.Second)
		now := time.Now()
		for _, ago := range []time.Duration{0, time.Second / 2, 0, time.Second / 2, 0} {
			cs.Message(now.Add(-ago))
		}
		require.InDelta(t, 0.5, cs.Rate(), 0)
		require.EqualValues(t, 5, cs.Get(Messages))

		time.Sleep(rateWindow)
		later := time.Now()
		cs.Message(later)
		cs.Message(now) // it waited for a permission; its cell is used by later
		require.Equal(t, later.UnixNano(), cs.Updated().UnixNano())
		require.InDelta(t, 0.2, cs.Rate(), 0)

		cs.Message(now.Add(-time.Hour))
		require.Equal(t, now.Add(-time.Hour).UnixNano(), cs.Updated().UnixNano())
	})
}

func TestRateOfManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cs Counters
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 1000 {
					cs.Message(time.Now())
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		require.InDelta(t, 800, cs.Rate(), 0)
	})
}

func TestUpdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cs Counters
		require.True(t, cs.Updated().IsZero())
		for _, event := range []func(){cs.Opened, func() { cs.Message(time.Now()) }, cs.Closed} {
			time.Sleep(time.Second)
			event()
			require.True(t, time.Now().Equal(cs.Updated()))
		}
	})
}

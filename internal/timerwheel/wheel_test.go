package timerwheel

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestWheel() (*Wheel, func()) {
	var wg sync.WaitGroup
	w := New(wg.Go)
	return w, func() {
		w.Close()
		wg.Wait()
	}
}

func TestWheelFiresInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestWheel()
		defer stop()
		start := time.Now()
		var mu sync.Mutex
		fired := 0
		for range 1000 {
			d := time.Duration(rand.Int64N(int64(5 * time.Minute))) // several rounds
			w.Set(&Timer{Fire: func() {
				mu.Lock()
				defer mu.Unlock()
				fired++
				late := time.Since(start) - d
				require.True(t, late >= 0 && late < 2*tick, "%v late", late)
			}}, d)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		require.Equal(t, 1000, fired)
	})
}

func TestWheelStopAndMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestWheel()
		defer stop()
		var at []time.Duration
		start := time.Now()
		timer := &Timer{Fire: func() { at = append(at, time.Since(start)) }}
		w.Set(timer, time.Minute)
		w.Set(timer, time.Second) // before the wheel would wake up
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Second}, at)
		w.Set(timer, time.Second)
		w.Stop(timer)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Len(t, at, 1)
	})
}

func TestWheelTimerSetsItselfAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestWheel()
		defer stop()
		n := 0
		var timer Timer
		timer.Fire = func() {
			n++
			w.Set(&timer, time.Second)
		}
		w.Set(&timer, time.Second)
		time.Sleep(10*time.Second + tick)
		synctest.Wait()
		require.InDelta(t, 10, n, 1)
	})
}

func TestWheelAfterClose(t *testing.T) {
	w, stop := newTestWheel()
	stop()
	w.Set(&Timer{Fire: func() { t.Error("fired") }}, 0)
	w.Stop(&Timer{})
	w.Close()
}

// The longest durations do not overflow into the past.
func TestWheelDoesNotWrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var work sync.WaitGroup
		w := New(work.Go)
		fired := 0
		for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, 1 << 62} {
			w.Set(&Timer{Fire: func() { fired++ }}, d)
		}
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		require.Zero(t, fired)
		w.Close()
		work.Wait()
	})
}

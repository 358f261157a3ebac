package sendqueue

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// slowWire is a wire to a slow peer, which makes room for some bytes at regular times.
type slowWire struct {
	*testWire
	room  int
	every time.Duration
}

func (w slowWire) Write(batch []*Frame, m Meter) error {
	var p []byte
	for _, f := range batch {
		p = append(p, f.Wire()...)
	}
	for len(p) > 0 {
		n := min(len(p), w.room)
		if !w.pass(w.every * time.Duration(n) / time.Duration(w.room)) {
			return os.ErrDeadlineExceeded
		}
		w.mu.Lock()
		closed := w.closed
		w.wire = append(w.wire, p[:n]...)
		w.mu.Unlock()
		if closed {
			return os.ErrClosed
		}
		m.Took(n, true)
		p = p[n:]
	}
	return nil
}

// pass waits for d. It reports false if the deadline comes first.
func (w slowWire) pass(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for end := time.Now().Add(d); !w.closed; {
		now := time.Now()
		switch {
		case !now.Before(end):
			return true
		case !w.deadline.IsZero() && !now.Before(w.deadline):
			return false
		}
		until := end
		if !w.deadline.IsZero() && w.deadline.Before(end) {
			until = w.deadline
		}
		t := time.AfterFunc(time.Until(until), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changed.Broadcast()
		})
		w.changed.Wait()
		t.Stop()
	}
	return true
}

func newSlowRig(t *testing.T, room int, every time.Duration) *rig {
	wire := newTestWire()
	r := newRigOn(t, Config{}, wire, slowWire{wire, room, every})
	r.Start()
	return r
}

func xs(n int) string { return strings.Repeat("x", n) }

// A frame may take any time, if the peer accepts at least one KiB a second.
func TestQueueSlowPeers(t *testing.T) {
	for name, x := range map[string]struct {
		room  int
		every time.Duration
		lives bool
	}{
		"40 KB a second":           {16 << 10, 400 * time.Millisecond, true},
		"a KiB a second":           {8 << 10, 8 * time.Second, true},
		"a KiB a second, by 64":    {64 << 10, 64 * time.Second, true},
		"half a KiB a second":      {8 << 10, 16 * time.Second, false},
		"a quarter, in small bits": {256, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newSlowRig(t, x.room, x.every)
				if x.room > portionBytes { // the wire accepted as much at once before
					r.transit.due = time.Now().Add(perKiB * maxInTransit / 1024)
				}
				start, large := time.Now(), xs(256<<10)
				r.say(large, "small")
				r.WaitWritten(r.Counts().Through())
				if !x.lives {
					<-r.Done()
					require.ErrorIs(t, r.failed[0], os.ErrDeadlineExceeded)
					require.Less(t, time.Since(start), 2*time.Minute)
					return
				}
				require.Empty(t, r.failed)
				require.EqualValues(t, r.Moved(), len(large)+10+2+5)
				require.Equal(t, time.Now(), r.Flowed())
				require.False(t, r.Due().After(time.Now().Add(perKiB*maxInTransit/1024)))
			})
		})
	}
}

// A frame whose write has started is written completely, so that the peer receives the close frame.
// The other frames are lost.
func TestQueueAbortOfASlowPeer(t *testing.T) {
	for name, x := range map[string]struct {
		every time.Duration // time for one KiB
		size  int
		code  bool
	}{
		"takes it":               {100 * time.Millisecond, 40 << 10, true},
		"takes it, but too long": {100 * time.Millisecond, 100 << 10, false},
		"takes nothing":          {time.Hour, 40 << 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newSlowRig(t, 1<<10, x.every)
				r.say(xs(x.size))
				r.say(strings.Split(strings.Repeat(xs(1<<10)+" ", 100), " ")...)
				time.Sleep(500 * time.Millisecond)
				r.say("queued")
				start := time.Now()
				r.Abort(CloseFrame(4300, "slow"), time.Second)
				<-r.Done()
				require.LessOrEqual(t, time.Since(start), 5*time.Second)
				words, rest := parseFrames(r.wire.wire)
				if !x.code {
					require.Empty(t, words)
					return
				}
				require.Empty(t, rest)
				require.Equal(t, []string{xs(x.size), "close"}, words)
			})
		})
	}
}

// The batch that is being written may contain the close frame already.
func TestQueueAbortAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSlowRig(t, 1<<10, 100*time.Millisecond)
		r.say(xs(20<<10), xs(20<<10))
		r.Close(CloseFrame(1012, "restart"), time.Minute)
		time.Sleep(500 * time.Millisecond)
		r.Abort(CloseFrame(4300, "slow"), 3*time.Second)
		<-r.Done()
		require.Equal(t, xs(20<<10)+" close", r.wire.payloads(t))
		require.EqualValues(t, 1, r.Counts().Lost)
	})
}

// A later Close shortens the time of an Abort.
func TestQueueCloseShortensAbort(t *testing.T) {
	for name, size := range map[string]int{"writing": 100 << 10, "waiting for the answer": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newSlowRig(t, 1<<10, 100*time.Millisecond)
				r.say(xs(size))
				time.Sleep(50 * time.Millisecond)
				r.Abort(CloseFrame(4300, "slow"), 5*time.Second)
				time.Sleep(2 * time.Second)
				start := time.Now()
				r.Close(CloseFrame(1001, ""), time.Second)
				<-r.Done()
				require.Equal(t, time.Second, time.Since(start))
			})
		})
	}
}

// After its socket has been full, a peer gets the time in which it may receive the bytes in
// transit.
func TestFlusherWriteTimeoutOfAFullSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRawRig(t, Config{}, func(p []byte) (int, error) { return len(p) / 2, nil })
		r.Start()
		r.wire.stall(true) // blocks the goroutine that owns the wire
		start := time.Now()
		r.say("half of this")
		<-r.Done()
		require.Equal(t, DefaultWriteTimeout+perKiB*maxInTransit/1024, time.Since(start))
	})
}

// Small writes do not count as in transit.
func TestQueueDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRawRig(t, Config{}, nil)
		r.Start()
		for range 100 {
			r.say(xs(100))
			synctest.Wait()
		}
		require.False(t, r.Due().After(time.Now()))
		r.say(xs(16<<10 - 4))
		synctest.Wait()
		require.InDelta(t, 16, time.Until(r.Due()).Seconds(), 0.01)
		require.Zero(t, r.Flowed())
	})
}

package sendqueue

import (
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// testWire is a wire in memory. While it is stalled, Write blocks until the deadline.
type testWire struct {
	mu          sync.Mutex
	changed     sync.Cond
	stalled     bool
	writeClosed bool
	closed      bool
	writing     int
	deadline    time.Time
	frames      []*Frame
	writes      int
	wire        []byte // all bytes written
}

func newTestWire() *testWire {
	w := &testWire{}
	w.changed.L = &w.mu
	return w
}

func (w *testWire) Write(batch []*Frame, m Meter) error {
	waited, err := w.write(batch)
	if err != nil {
		return err
	}
	n := 0
	for _, f := range batch {
		n += f.Len()
	}
	m.Took(n, waited)
	return nil
}

func (w *testWire) write(batch []*Frame) (waited bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing++; w.writing > 1 {
		panic("two goroutines write")
	}
	defer func() { w.writing-- }()
	for w.stalled && !w.closed {
		wait := time.Until(w.deadline)
		if wait <= 0 {
			return waited, os.ErrDeadlineExceeded
		}
		waited = true
		timer := time.AfterFunc(wait, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changed.Broadcast()
		})
		w.changed.Wait()
		timer.Stop()
	}
	if w.closed {
		return waited, os.ErrClosed
	}
	w.writes++
	w.frames = append(w.frames, batch...)
	for _, f := range batch {
		w.wire = append(w.wire, f.Wire()...)
	}
	return waited, nil
}

func (w *testWire) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	w.changed.Broadcast()
	return nil
}

func (w *testWire) CloseWrite() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeClosed = true
	return nil
}

func (w *testWire) isWriteClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeClosed
}

func (w *testWire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
	return nil
}

func (w *testWire) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

func (w *testWire) stall(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = on
	w.changed.Broadcast()
}

// words returns the payloads written.
func (w *testWire) words() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s []string
	for _, f := range w.frames {
		word := string(f.Payload())
		if f.Op() == OpClose {
			word = "close"
		}
		s = append(s, word)
	}
	return strings.Join(s, " ")
}

// rig is a queue under test.
type rig struct {
	*Queue
	wire   *testWire
	cfg    Config
	totals Totals
	wg     sync.WaitGroup
	failed []error
	pushed atomic.Uint64
}

func newRig(t *testing.T, cfg Config) *rig {
	wire := newTestWire()
	return newRigOn(t, cfg, wire, wire)
}

// newRigOn returns a rig on any wire. test is the testWire below it, nil for a real socket.
func newRigOn(t *testing.T, cfg Config, test *testWire, wire Wire) *rig {
	r := &rig{wire: test, cfg: cfg}
	r.cfg.Go, r.cfg.Totals = r.wg.Go, &r.totals
	r.Queue = New(&r.cfg, wire, func(err error) {
		if test != nil && errors.Is(err, ErrWrite) {
			require.False(t, r.wire.isClosed(), "the reader would report a different cause first")
		}
		r.failed = append(r.failed, err)
	})
	t.Cleanup(func() {
		r.Kill()
		r.wg.Wait()
		c := r.Counts()
		require.Zero(t, c.Queued)
		require.Equal(t, r.pushed.Load(), c.Written+c.Dropped+c.Lost, "conservation: %+v", c)
		require.Equal(t, c.Written, r.totals.Written.Load())
		require.Equal(t, c.Lost, r.totals.Lost.Load())
		require.Equal(t, c.Dropped, r.totals.DroppedOldest.Load()+
			r.totals.DroppedNewest.Load()+r.totals.DroppedNotices.Load()+r.totals.DroppedEphemeral.Load())
		require.Zero(t, r.totals.Budget.used.Load(), "bytes that no queue holds")
		require.Zero(t, r.totals.Replies.used, "replies that no queue holds")
		require.Nil(t, r.writing)
	})
	return r
}

func text(s string) *Frame { return NewFrame(OpText, []byte(s)) }

// Push counts the push.
func (r *rig) Push(f *Frame, priority Priority, policy Policy) Outcome {
	r.pushed.Add(1)
	return r.Queue.Push(f, priority, policy)
}

// give pushes a frame that no other queue gets.
func (r *rig) give(f *Frame, priority Priority, policy Policy) Outcome {
	defer r.totals.Budget.Settle(f)
	return r.Push(f, priority, policy)
}

func (r *rig) say(words ...string) {
	for _, word := range words {
		r.give(text(word), Message, Disconnect)
	}
}

func TestQueueHoldsFramesUntilStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.say("a", "b")
		synctest.Wait()
		require.Empty(t, r.wire.words())
		r.Start()
		r.say("c")
		synctest.Wait()
		require.Equal(t, "a b c", r.wire.words())
	})
}

func TestQueueBatchesWaitingFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		r.wire.stall(true)
		for i := range 500 {
			r.say(strconv.Itoa(i))
		}
		synctest.Wait()
		r.wire.stall(false)
		synctest.Wait()
		require.EqualValues(t, 500, r.Counts().Written)
		require.LessOrEqual(t, r.wire.writes, 3, "waiting frames are written together")
	})
}

func TestQueueControlFramesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.say("data")
		r.Ping(NewFrame(OpPing, []byte("ping")))
		r.Pong(NewFrame(OpPong, []byte("old")))
		r.Pong(NewFrame(OpPong, []byte("new")))
		r.Start()
		synctest.Wait()
		require.Equal(t, "new ping data", r.wire.words(), "only the newest pong is sent")
	})
}

func TestQueuePolicies(t *testing.T) {
	for name, test := range map[string]struct {
		policy Policy
		want   string
	}{
		"oldest": {DropOldest, "first 7 8 9"},
		"newest": {DropNewest, "first 0 1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{MaxMessages: 3})
				r.Start()
				r.wire.stall(true)
				r.say("first")
				synctest.Wait() // it is being written
				queued := 0
				for i := range 10 {
					if r.give(text(strconv.Itoa(i)), Message, test.policy) == Queued {
						queued++
					}
				}
				r.wire.stall(false)
				synctest.Wait()
				require.Equal(t, test.want, r.wire.words())
				require.EqualValues(t, 7, r.Counts().Dropped)
				require.Equal(t, map[Policy]int{DropOldest: 10, DropNewest: 3}[test.policy], queued)
			})
		})
	}
}

func TestQueueBoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxBytes: 1000})
		r.wire.stall(true)
		big := NewFrame(OpText, make([]byte, 400))
		require.Equal(t, Queued, r.give(big, Message, DropNewest))
		require.Equal(t, Queued, r.give(big, Message, DropNewest))
		require.Equal(t, Dropped, r.give(big, Message, DropNewest))
		require.Equal(t, 2*big.Len(), r.Counts().QueuedBytes)
	})
}

func TestQueueOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 2})
		r.Start()
		r.wire.stall(true)
		r.say("first")
		synctest.Wait()
		r.say("a", "b", "c", "d")
		synctest.Wait()
		require.ErrorIs(t, errors.Join(r.failed...), ErrOverflow)
		require.Len(t, r.failed, 1, "reported once")
		require.EqualValues(t, 4, r.Counts().Lost)

		start := time.Now()
		r.Abort(CloseFrame(4300, "slow"), time.Second)
		<-r.Done()
		require.Equal(t, time.Second, time.Since(start), "a blocked socket gets a second")
		require.Empty(t, r.wire.words())
	})
}

func TestQueueSendsTheCloseFrameAfterAnOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 2})
		r.Start()
		r.wire.stall(true)
		r.say("first")
		synctest.Wait()
		r.say("a", "b", "c")
		r.Abort(CloseFrame(4300, "slow"), time.Second)
		r.wire.stall(false) // the peer reads again, just in time
		r.ReadEnded()
		<-r.Done()
		require.Equal(t, "first close", r.wire.words())
	})
}

func TestQueueDropsNoticesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 10})
		r.Start()
		r.wire.stall(true)
		r.say("being written")
		synctest.Wait()
		for range 4 {
			r.say("m")
		}
		require.Equal(t, Queued, r.give(text("n"), Notice, Disconnect))
		require.Equal(t, Dropped, r.give(text("n"), Notice, Disconnect), "half full")
		require.Equal(t, Queued, r.give(text("m"), Message, Disconnect))
		require.EqualValues(t, 1, r.totals.DroppedNotices.Load())
		require.Empty(t, r.failed)
	})
}

func TestQueueNeverDropsReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 2})
		for range 2 {
			r.say("m")
		}
		require.Equal(t, Queued, r.give(text("r1"), Reply, Disconnect))
		require.Equal(t, Queued, r.give(text("x"), Message, DropOldest))
		r.Start()
		synctest.Wait()
		require.Contains(t, r.wire.words(), "r1")
	})
}

func TestQueueCloseFlushesAndSeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		r.wire.stall(true)
		r.say("a", "b")
		r.Close(CloseFrame(1000, "bye"), time.Second)
		r.Close(CloseFrame(1011, "too late"), time.Second)
		require.Equal(t, Refused, r.give(text("c"), Message, Disconnect))
		r.Ping(NewFrame(OpPing, nil))
		r.wire.stall(false)
		r.ReadEnded()
		<-r.Done()
		require.Equal(t, "a b close", r.wire.words(), "nothing follows the close frame")
		require.Equal(t, string(CloseFrame(1000, "bye").Wire()),
			string(r.wire.frames[2].Wire()), "the first close frame counts")
	})
}

func TestQueueAbortDiscardsQueuedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.say("welcome")
		r.Abort(CloseFrame(4403, "no"), time.Second)
		r.ReadEnded()
		<-r.Done()
		require.Equal(t, "close", r.wire.words())
	})
}

func TestQueueHeardAllClosesTheWriteSideFirst(t *testing.T) {
	for name, c := range map[string]struct {
		peer  func(r *rig) // called after HeardAll and Close
		takes time.Duration
	}{
		"the peer hangs up": {
			func(r *rig) { time.AfterFunc(300*time.Millisecond, r.ReadEnded) }, 300 * time.Millisecond,
		},
		"the peer does not hang up": {func(*rig) {}, answerTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{})
				r.Start()
				r.HeardAll()
				synctest.Wait()
				require.False(t, r.wire.isWriteClosed(), "no close frame was written")
				start := time.Now()
				r.Close(CloseFrame(1000, ""), 10*time.Second)
				synctest.Wait()
				require.True(t, r.wire.isWriteClosed())
				require.False(t, r.wire.isClosed(), "the peer may not have read everything")
				c.peer(r)
				<-r.Done()
				require.Equal(t, c.takes, time.Since(start))
			})
		})
	}
}

func TestQueueWaitsForTheAnswerToItsCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		start := time.Now()
		r.Close(CloseFrame(1000, ""), 10*time.Second)
		time.AfterFunc(300*time.Millisecond, r.ReadEnded)
		<-r.Done()
		require.Equal(t, 300*time.Millisecond, time.Since(start))
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		start := time.Now()
		r.Close(CloseFrame(1000, ""), 10*time.Second)
		<-r.Done()
		require.Equal(t, answerTime, time.Since(start), "the wait is bounded")
	})
}

func TestQueueWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{WriteTimeout: 3 * time.Second})
		r.Start()
		r.wire.stall(true)
		start := time.Now()
		r.say("a", "b")
		<-r.Done()
		synctest.Wait()
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Len(t, r.failed, 1)
		require.ErrorIs(t, r.failed[0], ErrWrite)
		require.ErrorIs(t, r.failed[0], os.ErrDeadlineExceeded)
		require.EqualValues(t, 2, r.Counts().Lost)
	})
}

func TestQueueKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Start()
		r.wire.stall(true)
		r.say("a", "b")
		synctest.Wait()
		r.Kill()
		r.Kill()
		<-r.Done()
		require.Equal(t, Refused, r.give(text("c"), Message, Disconnect))
		r.Start()
		r.Close(CloseFrame(1000, ""), time.Second)
		synctest.Wait()
		require.Empty(t, r.failed, "Kill is not reported")
		require.Empty(t, r.wire.words())
	})
}

// Many goroutines push, close and kill at once. Only one goroutine writes at a time, otherwise the
// wire panics. All frames are accounted for, which the rig checks.
func TestQueueStress(t *testing.T) {
	for round := range 50 {
		r := newRig(t, Config{MaxMessages: 16})
		r.Start()
		var pushers sync.WaitGroup
		for p := range 4 {
			pushers.Go(func() {
				for i := range 200 {
					r.give(text("m"), Priority(i%3), Policy(i%2+1))
					if i%50 == 0 {
						r.Ping(NewFrame(OpPing, nil))
					}
					if round%2 == 0 && p == 0 && i == 100 {
						r.Close(CloseFrame(1000, ""), time.Second)
						r.ReadEnded()
					}
				}
			})
		}
		pushers.Wait()
		if round%2 == 0 {
			<-r.Done()
		}
	}
}

func TestQueueHeartbeatKeepsAWaitingPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.Ping(NewFrame(OpPing, []byte("7")))
		r.Heartbeat(NewFrame(OpPing, []byte("heartbeat")))
		r.Start()
		synctest.Wait()
		r.Heartbeat(NewFrame(OpPing, []byte("heartbeat")))
		synctest.Wait()
		require.Equal(t, "7 heartbeat", r.wire.words())
	})
}

func TestQueueInHoldingIsBoundedInBytesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 2, MaxBytes: 100})
		r.say("a", "b", "c", "d")
		require.Equal(t, 4, r.Counts().Queued)
		require.Equal(t, Dropped, r.give(NewFrame(OpText, make([]byte, 100)), Message, DropNewest))
	})
}

// In a large room a push mostly waits for memory, so its fields must be together.
func TestPushNeedsOneCacheLineOfAQueue(t *testing.T) {
	queue := reflect.TypeFor[Queue]()
	for _, path := range [][]string{
		{"mu"}, {"state"}, {"sealed"}, {"cfg"}, {"ring", "slots"}, {"ring", "head"}, {"ring", "n"},
		{"ring", "bytes"},
	} {
		within, end := queue, uintptr(0)
		for _, name := range path {
			field, ok := within.FieldByName(name)
			require.True(t, ok, name)
			within, end = field.Type, end+field.Offset
		}
		require.LessOrEqual(t, end+within.Size(), uintptr(64), path)
	}
	require.Zero(t, queue.Size()%64, "so that the allocator aligns each queue to a cache line")
}

package sendqueue

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// newQueues returns n queues in the state Holding, and their common budget.
func newQueues(n int) (*Budget, []*Queue) {
	cfg := &Config{Go: func(f func()) { go f() }, Totals: &Totals{}}
	queues := make([]*Queue, n)
	for i := range queues {
		queues[i] = New(cfg, newTestWire(), func(error) {})
	}
	return &cfg.Totals.Budget, queues
}

func TestBudgetCountsASharedFrameOnce(t *testing.T) {
	b, queues := newQueues(1000)
	f := NewFrame(OpText, make([]byte, 10_000))
	for _, q := range queues {
		require.Equal(t, Queued, q.Push(f, Message, Disconnect))
	}
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	require.InDelta(t, 10_000, b.Used(), 100)
	for _, q := range queues[1:] {
		q.Kill()
	}
	require.Equal(t, f.cost(), b.Used(), "one queue still holds it")
	queues[0].Kill()
	require.Zero(t, b.Used())
}

// A frame may be written before it is settled, and may be settled more than once.
func TestBudgetSettlesWrittenFrames(t *testing.T) {
	b, queues := newQueues(4)
	f := text("quick")
	give := func(q *Queue) { q.Push(f, Message, Disconnect) }
	give(queues[0])
	give(queues[1])
	queues[0].Kill()
	require.Zero(t, b.Used(), "not settled yet")
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	give(queues[2])
	give(queues[3])
	queues[1].Kill() // the last settled holder
	queues[2].Kill()
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	queues[3].Kill()
	require.Zero(t, b.Used())
	b.Settle(f)
	require.Zero(t, b.Used(), "no queue holds it")
}

func TestBudgetCountsRings(t *testing.T) {
	b, queues := newQueues(1)
	q := queues[0]
	f := text("tiny")
	for range keepSize {
		q.Push(f, Message, Disconnect)
	}
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used(), "the ring of an idle queue is not counted")
	for range keepSize {
		q.Push(f, Message, Disconnect)
	}
	b.Settle(f)
	require.Equal(t, f.cost()+keepSize*entryBytes, b.Used())
	require.InDelta(t, b.Used(), q.Weight(), 0.001)
	q.Kill()
	require.Zero(t, b.Used())
}

func TestBudgetDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 100})
		r.Start()
		r.wire.stall(true)
		r.say("is being written")
		synctest.Wait()
		for range 300 {
			r.give(text("the same size"), Message, DropOldest)
		}
		one := text("the same size").cost()
		writing := text("is being written").cost()
		require.EqualValues(t, 100*one+writing+(128-keepSize)*entryBytes, r.totals.Budget.Used())
		require.InDelta(t, r.totals.Budget.Used(), r.Weight(), 0.001, "all memory is its own")
		r.wire.stall(false)
		synctest.Wait()
		require.Zero(t, r.totals.Budget.Used())
	})
}

// The socket accepts one frame and a half. The rest stays counted, once, until it is written.
func TestBudgetOfAPartialWrite(t *testing.T) {
	for _, end := range []string{"written", "killed", "too late"} {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := text("first"), text("second"), text("third")
			r := newRawRig(t, Config{WriteTimeout: time.Minute}, func([]byte) (int, error) {
				return a.Len() + 3, nil // after a ping
			})
			r.wire.stall(true)
			for _, f := range []*Frame{a, b, c} {
				r.give(f, Message, Disconnect)
			}
			all := a.cost() + b.cost() + c.cost()
			require.Equal(t, all, r.totals.Budget.Used())
			r.Heartbeat(NewFrame(OpPing, nil))
			r.Start()
			synctest.Wait()
			switch end {
			case "written":
				require.Equal(t, all-a.cost(), r.totals.Budget.Used())
				require.InDelta(t, r.totals.Budget.Used(), r.Weight(), 0.001)
				r.wire.stall(false)
				synctest.Wait()
				require.Equal(t, " first second third", r.wire.payloads(t))
			case "killed":
				r.Kill()
			case "too late":
				time.Sleep(time.Hour)
			}
			synctest.Wait()
			require.Zero(t, r.totals.Budget.Used())
		})
	}
}

func TestBudgetAlarm(t *testing.T) {
	b, queues := newQueues(2)
	alarms := 0
	f := NewFrame(OpText, make([]byte, 1000))
	b.Limit, b.Alarm = f.cost()+10, func() { alarms++ }
	give := func(f *Frame, priority Priority) Outcome {
		defer b.Settle(f)
		return queues[0].Push(f, priority, Disconnect)
	}
	give(f, Message)
	require.Zero(t, alarms)
	require.False(t, b.Over())
	require.Equal(t, Queued, give(text(""), Notice))
	require.Equal(t, 1, alarms)
	require.True(t, b.Over())
	give(text("m"), Message)
	require.Equal(t, 1, alarms, "once until it is armed again")
	require.Equal(t, Dropped, give(text("n"), Notice))
	require.EqualValues(t, 1, queues[0].cfg.Totals.DroppedNotices.Load())
	require.Equal(t, Dropped, give(text("e"), Ephemeral))
	require.EqualValues(t, 1, queues[0].cfg.Totals.DroppedEphemeral.Load())
	b.Rearm()
	require.Equal(t, 2, alarms)
	queues[0].Kill()
	b.Rearm()
	require.Equal(t, 2, alarms)
	require.False(t, b.Over())
}

// The weight of a queue is its share of shared frames, and all of its own frames.
func TestWeight(t *testing.T) {
	b, queues := newQueues(4)
	shared, own := NewFrame(OpText, make([]byte, 4000)), NewFrame(OpText, make([]byte, 100))
	for _, q := range queues {
		q.Push(shared, Message, Disconnect)
	}
	require.Zero(t, queues[0].Weight(), "not settled: not counted")
	queues[0].Push(own, Message, Disconnect)
	b.Settle(shared)
	b.Settle(own)
	part := float64(shared.cost()) / 4
	require.InDelta(t, part+float64(own.cost()), queues[0].Weight(), 0.001)
	require.InDelta(t, part, queues[1].Weight(), 0.001)
	queues[2].Kill()
	queues[3].Kill()
	require.InDelta(t, 2*part, queues[1].Weight(), 0.001)
	require.Zero(t, queues[3].Weight())
	queues[0].Kill()
	queues[1].Kill()
}

// Queues with the same frames release them together, in any order.
func TestReleasesAddUp(t *testing.T) {
	var here, other Totals
	b := &here.Budget
	hold := func(b *Budget, word string, n int32) *Frame {
		f := text(word)
		f.unsettled = n
		b.Settle(f)
		return f
	}
	x, y, z := hold(b, "x", 4), hold(b, "y", 3), hold(b, "z", 1)
	ping := NewFrame(OpPing, nil)
	var r releases
	r.add(&here, []*Frame{x}, 1)
	r.add(&here, []*Frame{ping, x, y}, 1)
	r.add(&here, []*Frame{x, y}, 1)
	require.Equal(t, []heldFrame{{x, 3}, {y, 2}}, r.run)
	require.EqualValues(t, 4, x.held.Load(), "nothing has been released yet")
	require.Zero(t, here.Written.Load())
	r.add(&here, []*Frame{x, z}, 1)
	require.Equal(t, []heldFrame{{z, 1}}, r.run)
	require.Zero(t, x.held.Load())
	require.Equal(t, x.cost()+y.cost()+z.cost(), b.Used(), "at the end of the turn")
	r.add(&other, []*Frame{hold(&other.Budget, "far", 1)}, 1)
	require.Equal(t, y.cost(), b.Used(), "each frame counts in its own budget")
	require.EqualValues(t, 4, here.Written.Load())
	r.end()
	require.Zero(t, other.Budget.Used())
	require.EqualValues(t, 1, other.Written.Load())
	r.add(&here, []*Frame{y}, 1)
	r.end()
	require.Zero(t, b.Used())
	w := hold(b, "one settled, one not", 1)
	w.unsettled = 1
	r.add(&here, []*Frame{w}, 1)
	r.add(&here, []*Frame{w}, 1)
	r.end()
	require.Zero(t, b.Used())
	b.Settle(w)
	require.Zero(t, b.Used())
	require.Zero(t, ping.held.Load())
	require.Empty(t, r.run)
}

// The queue is killed while its flusher is in the system call, which accepts a part of the frame.
func TestBudgetOfAQueueKilledInAWrite(t *testing.T) {
	f, queues := benchQueues(1)
	q := queues[0]
	f.sys = func(uintptr, []byte) (int, error) {
		q.Kill()
		return 3, nil
	}
	b := &q.cfg.Totals.Budget
	frame := text("half of it")
	q.Push(frame, Message, Disconnect)
	b.Settle(frame)
	f.take()
	f.serve()
	require.Zero(t, b.used.Load())
	require.EqualValues(t, 1, q.Counts().Lost)
}

// Control frames are not counted: all queues share one heartbeat forever.
func TestBudgetIgnoresControlFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beat := NewFrame(OpPing, nil)
		for _, r := range []*rig{newRig(t, Config{}), newRawRig(t, Config{}, nil)} {
			r.Start()
			r.Heartbeat(beat)
			synctest.Wait()
			require.Zero(t, beat.held.Load())
			require.Zero(t, r.totals.Budget.used.Load())
		}
	})
}

// Several goroutines push frames to all queues, with flushers and without, while sockets are full
// and queues end. At the end nothing is counted.
func TestBudgetStress(t *testing.T) {
	var workers, flushing, owners sync.WaitGroup
	fs := NewFlushers(flushing.Go)
	cfg := &Config{MaxMessages: 40, Go: owners.Go, Totals: &Totals{}, Flushers: fs}
	fs.write = func(_ uintptr, p []byte) (int, error) { return rand.IntN(len(p) + 1), nil }
	var all []*Queue
	for i := range 60 {
		var wire Wire = nullWire{}
		if i%3 == 0 {
			wire = newTestWire()
		}
		q := New(cfg, wire, func(error) {})
		if i%10 > 0 {
			q.Start()
		}
		all = append(all, q)
	}
	b := &cfg.Totals.Budget
	b.Limit, b.Alarm = 20_000, func() {}
	for p := range 4 {
		workers.Go(func() {
			for i := range 500 {
				f := NewFrame(OpText, make([]byte, rand.IntN(300)))
				for _, q := range all {
					q.Push(f, Priority(i%3), Policy(rand.IntN(2)+1))
				}
				b.Settle(f)
				all[i%len(all)].Pong(NewFrame(OpPong, nil))
				if i%100 == 99 {
					all[p*10+i/100].Kill()
				}
				b.Rearm()
			}
		})
	}
	workers.Wait()
	for _, q := range all {
		q.Abort(CloseFrame(1000, ""), 0)
		q.ReadEnded()
		q.Kill()
	}
	owners.Wait()
	fs.Close()
	flushing.Wait()
	require.Zero(t, b.used.Load())
}

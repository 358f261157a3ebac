package sendqueue

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fleet is n corked links that count together.
func fleet(n int) (*Budget, []*Queue) {
	cfg := &Config{Go: func(f func()) { go f() }, Totals: &Totals{}}
	links := make([]*Queue, n)
	for i := range links {
		links[i] = NewLink(cfg, newTestWire(), func(error) {})
	}
	return &cfg.Totals.Budget, links
}

func TestBudgetCountsASharedFrameOnce(t *testing.T) {
	b, links := fleet(1000)
	f := NewFrame(OpText, make([]byte, 10_000))
	for _, l := range links {
		require.Equal(t, Queued, l.Push(f, Message, Disconnect))
	}
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	require.InDelta(t, 10_000, b.Used(), 100)
	for _, l := range links[1:] {
		l.Kill()
	}
	require.Equal(t, f.cost(), b.Used(), "one still holds it")
	links[0].Kill()
	require.Zero(t, b.Used())
}

// A frame may be written before its pusher has settled it, and settled more than once.
func TestBudgetSettlesWhatHasGone(t *testing.T) {
	b, links := fleet(4)
	f := text("quick")
	give := func(l *Queue) { l.Push(f, Message, Disconnect) }
	give(links[0])
	give(links[1])
	links[0].Kill()
	require.Zero(t, b.Used(), "not settled yet")
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	give(links[2])
	give(links[3])
	links[1].Kill() // the last one of those that were settled
	links[2].Kill()
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used())
	links[3].Kill()
	require.Zero(t, b.Used())
	b.Settle(f)
	require.Zero(t, b.Used(), "nobody got it")
}

func TestBudgetCountsRings(t *testing.T) {
	b, links := fleet(1)
	l := links[0]
	f := text("tiny")
	for range keepRing {
		l.Push(f, Message, Disconnect)
	}
	b.Settle(f)
	require.Equal(t, f.cost(), b.Used(), "what an idle queue keeps is free")
	for range keepRing {
		l.Push(f, Message, Disconnect)
	}
	b.Settle(f)
	require.Equal(t, f.cost()+keepRing*entryBytes, b.Used())
	require.InDelta(t, b.Used(), l.Weight(), 0.001)
	l.Kill()
	require.Zero(t, b.Used())
}

func TestBudgetDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxMessages: 100})
		r.Uncork()
		r.wire.stall(true)
		r.say("is being written")
		synctest.Wait()
		for range 300 {
			r.give(text("the same size"), Message, DropOldest)
		}
		one := text("the same size").cost()
		writing := text("is being written").cost()
		require.EqualValues(t, 100*one+writing+(128-keepRing)*entryBytes, r.totals.Budget.Used())
		require.InDelta(t, r.totals.Budget.Used(), r.Weight(), 0.001, "it is answerable for all")
		r.wire.stall(false)
		synctest.Wait()
		require.Zero(t, r.totals.Budget.Used())
	})
}

// The flusher's socket takes one frame and a half: what is left stays counted until it is
// written, and once.
func TestBudgetOfWhatTheSocketDidNotTake(t *testing.T) {
	for _, end := range []string{"written", "killed", "too late"} {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := text("first"), text("second"), text("third")
			r := newRawRig(t, Config{WriteTimeout: time.Minute}, func([]byte) (int, error) {
				return a.Len() + 3, nil // behind a ping
			})
			r.wire.stall(true)
			for _, f := range []*Frame{a, b, c} {
				r.give(f, Message, Disconnect)
			}
			all := a.cost() + b.cost() + c.cost()
			require.Equal(t, all, r.totals.Budget.Used())
			r.Heartbeat(NewFrame(OpPing, nil))
			r.Uncork()
			synctest.Wait()
			switch end {
			case "written":
				require.Equal(t, all-a.cost(), r.totals.Budget.Used())
				require.InDelta(t, r.totals.Budget.Used(), r.Weight(), 0.001)
				r.wire.stall(false)
				synctest.Wait()
				require.Equal(t, " first second third", r.wire.heard(t))
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
	b, links := fleet(2)
	alarms := 0
	f := NewFrame(OpText, make([]byte, 1000))
	b.Limit, b.Alarm = f.cost()+10, func() { alarms++ }
	give := func(f *Frame, class Class) Outcome {
		defer b.Settle(f)
		return links[0].Push(f, class, Disconnect)
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
	require.EqualValues(t, 1, links[0].cfg.Totals.DroppedNotices.Load())
	b.Rearm()
	require.Equal(t, 2, alarms)
	links[0].Kill()
	b.Rearm()
	require.Equal(t, 2, alarms)
	require.False(t, b.Over())
}

// A link's weight is its part of what it shares, and all of what it has for itself.
func TestWeight(t *testing.T) {
	b, links := fleet(4)
	shared, own := NewFrame(OpText, make([]byte, 4000)), NewFrame(OpText, make([]byte, 100))
	for _, l := range links {
		l.Push(shared, Message, Disconnect)
	}
	require.Zero(t, links[0].Weight(), "not settled: not counted")
	links[0].Push(own, Message, Disconnect)
	b.Settle(shared)
	b.Settle(own)
	part := float64(shared.cost()) / 4
	require.InDelta(t, part+float64(own.cost()), links[0].Weight(), 0.001)
	require.InDelta(t, part, links[1].Weight(), 0.001)
	links[2].Kill()
	links[3].Kill()
	require.InDelta(t, 2*part, links[1].Weight(), 0.001)
	require.Zero(t, links[3].Weight())
	links[0].Kill()
	links[1].Kill()
}

// Links with the same frames let go of them together, in whatever company.
func TestReleasesAreAddedUp(t *testing.T) {
	var b, other Budget
	hold := func(b *Budget, word string, n int32) *Frame {
		f := text(word)
		f.given = n
		b.Settle(f)
		return f
	}
	x, y, z := hold(&b, "x", 4), hold(&b, "y", 3), hold(&b, "z", 1)
	ping := NewFrame(OpPing, nil)
	var r releases
	r.add(&b, []*Frame{x})
	r.add(&b, []*Frame{ping, x, y})
	r.add(&b, []*Frame{x, y})
	require.Equal(t, []heldFrame{{x, 3}, {y, 2}}, r.run)
	require.EqualValues(t, 4, x.held.Load(), "nothing has been told yet")
	r.add(&b, []*Frame{x, z})
	require.Equal(t, []heldFrame{{z, 1}}, r.run)
	require.Zero(t, x.held.Load())
	require.Equal(t, x.cost()+y.cost()+z.cost(), b.Used(), "at the end of the turn")
	r.add(&other, []*Frame{hold(&other, "far", 1)})
	require.Equal(t, y.cost(), b.Used(), "each to its own")
	r.end()
	require.Zero(t, other.Used())
	r.add(&b, []*Frame{y})
	r.end()
	require.Zero(t, b.Used())
	w := hold(&b, "one settled, one not", 1)
	w.given = 1
	r.add(&b, []*Frame{w})
	r.add(&b, []*Frame{w})
	r.end()
	require.Zero(t, b.Used())
	b.Settle(w)
	require.Zero(t, b.Used())
	require.Zero(t, ping.held.Load())
	require.Empty(t, r.run)
}

// The link is killed while its flusher is in the system call, which takes a part.
func TestBudgetOfALinkThatDiesInAWrite(t *testing.T) {
	f, links := benchLinks(1)
	l := links[0]
	f.sys = func(uintptr, []byte) (int, error) {
		l.Kill()
		return 3, nil
	}
	b := &l.cfg.Totals.Budget
	frame := text("half of it")
	l.Push(frame, Message, Disconnect)
	b.Settle(frame)
	f.take()
	f.serve()
	require.Zero(t, b.used.Load())
	require.EqualValues(t, 1, l.Counts().Lost)
}

// Control frames were never counted, and one is shared by all for ever.
func TestBudgetLeavesControlFramesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beat := NewFrame(OpPing, nil)
		for _, r := range []*rig{newRig(t, Config{}), newRawRig(t, Config{}, nil)} {
			r.Uncork()
			r.Heartbeat(beat)
			synctest.Wait()
			require.Zero(t, beat.held.Load())
			require.Zero(t, r.totals.Budget.used.Load())
		}
	})
}

// Several goroutines give frames to all links of two flushers and of the blocking road,
// while sockets are full and links end: in the end nothing is counted.
func TestBudgetStress(t *testing.T) {
	var workers, flushing, links sync.WaitGroup
	fs := NewFlushers(flushing.Go)
	cfg := &Config{MaxMessages: 40, Go: links.Go, Totals: &Totals{}, Flushers: fs}
	fs.write = func(_ uintptr, p []byte) (int, error) { return rand.IntN(len(p) + 1), nil }
	var all []*Queue
	for i := range 60 {
		var wire Wire = nullWire{}
		if i%3 == 0 {
			wire = newTestWire()
		}
		l := NewLink(cfg, wire, func(error) {})
		if i%10 > 0 {
			l.Uncork()
		}
		all = append(all, l)
	}
	b := &cfg.Totals.Budget
	b.Limit, b.Alarm = 20_000, func() {}
	for p := range 4 {
		workers.Go(func() {
			for i := range 500 {
				f := NewFrame(OpText, make([]byte, rand.IntN(300)))
				for _, l := range all {
					l.Push(f, Class(i%3), Policy(rand.IntN(2)+1))
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
	for _, l := range all {
		l.Abort(CloseFrame(1000, ""), 0)
		l.ReadEnded()
		l.Kill()
	}
	links.Wait()
	fs.Close()
	flushing.Wait()
	require.Zero(t, b.used.Load())
}

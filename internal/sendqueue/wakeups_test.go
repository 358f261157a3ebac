package sendqueue

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
)

// newCrowd returns n started rigs that have their flushers in common.
func newCrowd(t *testing.T, n int) []*rig {
	var wg sync.WaitGroup
	fs := NewFlushers(wg.Go)
	rigs := make([]*rig, n)
	t.Cleanup(func() { // after the rigs have ended
		fs.Close()
		wg.Wait()
	})
	var mu sync.Mutex
	wires := make(map[uintptr]*rawWire)
	fs.write = func(fd uintptr, p []byte) (int, error) {
		mu.Lock()
		w := wires[fd]
		mu.Unlock()
		return w.sys(fd, p)
	}
	for i := range rigs {
		wire := newTestWire()
		raw := &rawWire{testWire: wire, fd: uintptr(i)}
		mu.Lock()
		wires[raw.fd] = raw
		mu.Unlock()
		rigs[i] = newRigOn(t, Config{Flushers: fs}, wire, asWire{wire, raw})
		rigs[i].Start()
	}
	return rigs
}

// pushVia is give in a fan-out.
func (r *rig) pushVia(w *Wakeups, word string) Outcome {
	r.pushed.Add(1)
	f := text(word)
	defer r.totals.Budget.Settle(f)
	return w.Push(r.Queue, f, Message, Disconnect)
}

func TestWakeupsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rigs := newCrowd(t, 10)
		synctest.Wait() // the flushers sleep
		var w Wakeups
		for _, r := range rigs {
			require.Equal(t, Queued, r.pushVia(&w, "a"))
		}
		rigs[3].say("b") // while no flusher knows the queue
		synctest.Wait()
		for _, r := range rigs {
			require.Empty(t, r.wire.payloads(t), "before Flush")
		}
		w.Flush()
		w.Flush()
		synctest.Wait()
		for i, r := range rigs {
			require.Equal(t, map[bool]string{true: "a b", false: "a"}[i == 3], r.wire.payloads(t))
			require.Equal(t, 1, r.wire.writes)
		}
	})
}

// Writing begins while a long walk goes on.
func TestWakeupsDoNotWaitForTheEndOfALongWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rigs := newCrowd(t, 3*groupPushes)
		var w Wakeups
		defer w.Flush()
		for i, r := range rigs {
			r.pushVia(&w, "a")
			synctest.Wait()
			written := 0
			for _, r := range rigs {
				written += r.wire.writes
			}
			require.Equal(t, i/groupPushes*groupPushes, written)
		}
		w.Flush()
		synctest.Wait() // else the flusher counts the last frames while they are added up
	})
}

// One queue waits and all others are busy, so there is never a full group.
func TestWakeupsDoNotWaitForBusyQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rigs := newCrowd(t, 1)
		busy := newRig(t, Config{})
		busy.Start()
		busy.wire.stall(true)
		var w Wakeups
		defer w.Flush()
		rigs[0].pushVia(&w, "a")
		for range groupPushes {
			busy.pushVia(&w, "b")
		}
		synctest.Wait()
		require.Equal(t, "a", rigs[0].wire.payloads(t))
	})
}

// The queue that became ready first is written first, whether alone or with others.
func TestFlusherTakesQueuesInOrder(t *testing.T) {
	f, queues := benchQueues(2*longTurn + 5)
	frame := text("a")
	alone := func(queues ...*Queue) {
		for _, q := range queues {
			q.Push(frame, Message, Disconnect)
		}
	}
	together := func(queues ...*Queue) {
		var w Wakeups
		defer w.Flush()
		for _, q := range queues {
			w.Push(q, frame, Message, Disconnect)
		}
	}
	alone(queues[:2]...)
	together(queues[2:4]...)
	together(queues[4])
	together(queues[5:]...)
	f.take()
	q := f.turn
	for i := range queues {
		require.Same(t, queues[i], q, "%d", i)
		q = q.next
	}
	require.Nil(t, q)
}

// Before a long turn the flusher lets others push. What they push is written in this turn or the
// next.
func TestFlusherYieldsBeforeALongTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f, queues := benchQueues(longTurn + 5)
	frame := text("a")
	for _, q := range queues[:longTurn] {
		q.Push(frame, Message, Disconnect)
	}
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		for _, q := range queues[longTurn:] {
			q.Push(frame, Message, Disconnect)
		}
	}()
	f.take()
	f.serve()
	<-pushed
	if f.ready.Load() != nil {
		f.take()
		f.serve()
	}
	for i, q := range queues {
		require.EqualValues(t, 1, q.Counts().Written, "%d", i)
	}
}

// A queue ends after the push, while no flusher knows it. The other queues of its group go on.
func TestWakeupsOfAQueueThatEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(r *rig)
		want string
		done bool // before Flush
	}{
		"close": {func(r *rig) { r.Close(CloseFrame(1000, ""), time.Second) }, "a close", false},
		"abort": {func(r *rig) { r.Abort(CloseFrame(1000, ""), time.Second) }, "close", false},
		"kill":  {func(r *rig) { r.Kill() }, "", true},
		"close, then kill": {func(r *rig) {
			r.Close(CloseFrame(1000, ""), time.Second)
			r.Kill()
		}, "", true},
	} {
		for place := range 3 {
			t.Run(fmt.Sprint(name, place), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rigs := newCrowd(t, 3)
					var w Wakeups
					for _, r := range rigs {
						r.pushVia(&w, "a")
					}
					r := rigs[place]
					test.end(r)
					r.ReadEnded()
					r.WaitReplies() // does not wait
					require.Equal(t, Refused, r.pushVia(&w, "late"))
					synctest.Wait()
					require.Equal(t, test.done, isClosed(r.Done()))
					w.Flush()
					<-r.Done()
					synctest.Wait()
					require.Equal(t, test.want, r.wire.payloads(t))
					for i, other := range rigs {
						require.True(t, i == place || other.wire.payloads(t) == "a")
					}
				})
			})
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Several goroutines push to the same queues at random, alone and in fan-outs, and end some of
// them. No queue is lost: what was accepted before Close is written, in order, and once.
func TestWakeupsStress(t *testing.T) {
	for range long.Of(20, 200, 200) {
		seed := rand.Uint64()
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { wakeupsStress(t, seed) })
		}) {
			return
		}
	}
}

func wakeupsStress(t *testing.T, seed uint64) {
	const goroutines, acts = 4, 150
	rigs := newCrowd(t, 6)
	accepted := make([][goroutines][]string, len(rigs))
	var all sync.WaitGroup
	for g := range goroutines {
		random := rand.New(rand.NewPCG(seed, uint64(g)))
		all.Go(func() {
			var w Wakeups
			defer w.Flush()
			for n := range acts {
				i, word := random.IntN(len(rigs)), fmt.Sprintf("%d/%d", g, n)
				out := Refused
				switch random.IntN(20) {
				case 0:
					w.Flush()
				case 1, 2, 3:
					out = rigs[i].give(text(word), Message, Disconnect)
				case 4:
					rigs[i].Pong(NewFrame(OpPong, []byte("pong")))
				case 5:
					if n > acts/2 && i%2 == 1 {
						rigs[i].Close(CloseFrame(1000, ""), time.Second)
					}
				default:
					out = rigs[i].pushVia(&w, word)
				}
				if out == Queued {
					accepted[i][g] = append(accepted[i][g], word)
				}
			}
		})
	}
	all.Wait()
	for i, r := range rigs {
		r.Close(CloseFrame(1000, ""), time.Second)
		r.ReadEnded()
		<-r.Done()
		synctest.Wait() // the budget follows the turns of the flushers
		got := strings.Fields(strings.ReplaceAll(r.wire.payloads(t), "pong", ""))
		require.Equal(t, "close", got[len(got)-1])
		for g := range goroutines {
			own := slices.DeleteFunc(slices.Clone(got), func(word string) bool {
				return !strings.HasPrefix(word, fmt.Sprint(g, "/"))
			})
			require.Equal(t, strings.Join(accepted[i][g], " "), strings.Join(own, " "))
		}
	}
}

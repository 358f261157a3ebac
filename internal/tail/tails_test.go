package tail

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// rig is a stream in an engine with a subscriber.
type rig struct {
	t  *testing.T
	ts *Tails
	wg sync.WaitGroup

	mu     sync.Mutex
	kept   []broker.Publication
	top    broker.Position
	floor  uint64
	err    error // of Read
	reads  int
	during func()   // called once after Read has found its answer, if not nil
	got    []uint64 // delivered, as the Sink sees it: it reads what is lost
	last   broker.Position
	losses int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, top: broker.Position{Epoch: "e1"}}
	ctx, cancel := context.WithCancel(t.Context())
	r.ts = New(Config{Sink: r, Read: r.read, Go: r.wg.Go, Context: ctx})
	r.last = r.top
	t.Cleanup(func() {
		cancel()
		r.ts.Close()
		r.wg.Wait()
	})
	return r
}

// publish appends a publication and returns it.
func (r *rig) publish() broker.Publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := broker.Publication{Stream: "s", Prev: r.top.Offset}
	r.top.Offset++
	p.Position = r.top
	r.kept = append(r.kept, p)
	return p
}

func (r *rig) publishN(n int) (all []broker.Publication) {
	for range n {
		all = append(all, r.publish())
	}
	return all
}

func (r *rig) read(_ context.Context, _ string, q broker.Query) (broker.Page, error) {
	page, during, err := r.find(q)
	if during != nil {
		during()
	}
	return page, err
}

func (r *rig) find(q broker.Query) (page broker.Page, during func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.err != nil {
		return page, nil, r.err
	}
	during, r.during = r.during, nil
	page = broker.Page{Top: r.top, Floor: r.floor, Why: broker.ReasonOverflow}
	for _, p := range r.kept {
		if p.Position.Offset > max(q.After, r.floor) {
			page.Publications = append(page.Publications, p)
		}
	}
	if limit := q.Resolved().Limit; len(page.Publications) > limit {
		page.Publications, page.More = page.Publications[:limit], true
	}
	return page, during, nil
}

func (r *rig) Deliver(p broker.Publication) {
	require.True(r.t, p.Follows(r.last), "%v after %v", p.Position, r.last)
	r.got, r.last = append(r.got, p.Position.Offset), p.Position
}

func (r *rig) Lost(string) {
	r.losses++
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = r.top
}

func (*rig) Receive(string, []byte) {}
func (*rig) Cut(bool)               {}

func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		require.True(t, r.ts.Subscribe("s"))
		test(t, r)
	})
}

// start starts the subscription at the end of the stream.
func (r *rig) start() {
	r.last = r.top
	r.ts.Start("s", r.top)
}

// upTo returns the offsets up to n.
func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

func TestInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		for _, p := range r.publishN(3) {
			require.True(t, r.ts.Arrived(p))
			require.True(t, r.ts.Arrived(p), "again")
		}
		require.Equal(t, upTo(3), r.got)
		require.Zero(t, r.reads)
	})
}

// What arrives before the position is known waits for it.
func TestBeforeStart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		all := r.publishN(5)
		for _, p := range all[1:] {
			r.ts.Arrived(p)
		}
		require.Empty(t, r.got)
		r.last = all[2].Position
		require.Equal(t, all[2].Position, r.ts.Start("s", all[2].Position), "what it delivers comes after it")
		require.Equal(t, []uint64{4, 5}, r.got)
		require.Equal(t, all[4].Position, r.ts.Start("s", all[0].Position), "only the first call counts")
	})
}

// More may arrive before the position is known than is kept: what comes after it is read then, and
// nothing before it is delivered.
func TestFloodBeforeStart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		old := r.publishN(10)
		at := old[9].Position
		for _, p := range r.publishN(maxEarly + 5) {
			r.ts.Arrived(p)
		}
		synctest.Wait()
		require.Empty(t, r.got)
		require.Zero(t, r.reads, "from where?")
		r.last = at
		r.ts.Start("s", at)
		synctest.Wait()
		require.Len(t, r.got, maxEarly+5)
		require.Zero(t, r.losses)
	})
}

// A publication that is missing may still arrive; if it does not, it is read.
func TestGaps(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		t.Run(fmt.Sprint(arrives), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.start()
				all := r.publishN(4)
				all[3].Origin = "mine"
				for _, i := range []int{0, 3, 2} {
					r.ts.Arrived(all[i])
				}
				require.Equal(t, upTo(1), r.got)
				if arrives {
					r.ts.Arrived(all[1])
					require.Equal(t, upTo(4), r.got)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				require.Equal(t, upTo(4), r.got)
				require.Zero(t, r.losses)
			})
		})
	}
}

// While publications overtake each other but all arrive, nothing is read.
func TestOvertaking(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		waiting := r.publish()
		for range 200 { // at any time one is missing
			next := r.publish()
			r.ts.Arrived(next)
			r.ts.Arrived(waiting)
			waiting = r.publish()
			r.ts.Arrived(r.publish())
			time.Sleep(patience / 4)
			synctest.Wait()
			r.ts.Arrived(waiting)
			waiting = r.publish()
		}
		require.Zero(t, r.reads)
		require.Zero(t, r.losses)
	})
}

// What was too much to keep is read, also if a read had already begun.
func TestFloodDuringRead(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		all := r.publishN(2)
		r.during = func() { // one waits already, so the last of these is too much
			for _, p := range r.publishN(maxEarly) {
				r.ts.Arrived(p)
			}
		}
		r.ts.Arrived(all[1])
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, upTo(maxEarly+2), r.got)
		require.Zero(t, r.losses)
	})
}

// The last publications are found though nothing follows them.
func TestLostTail(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		r.publishN(250)
		r.ts.Compare("s", r.top)
		synctest.Wait()
		require.Equal(t, upTo(250), r.got)
		require.Equal(t, 3, r.reads)
		r.ts.Compare("s", r.top)
		r.ts.Compare("other", r.top)
		synctest.Wait()
		require.Equal(t, 3, r.reads)
	})
}

// What cannot be read in order is left to the receivers.
func TestGivenUp(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"gone":        func(r *rig) { r.floor = 3 },
		"another one": func(r *rig) { r.top.Epoch = "e2" },
		"too many":    func(r *rig) { r.publishN(maxMissed) },
		"expired":     func(r *rig) { r.kept = slices.Delete(r.kept, 2, 3) },
		"expired end": func(r *rig) { r.kept = r.kept[:4] },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.start()
				r.publishN(5)
				spoil(r)
				r.ts.Compare("s", r.top)
				synctest.Wait()
				require.Equal(t, 1, r.losses)
				require.Equal(t, r.top, r.last)
				r.ts.Arrived(r.publish())
				require.Equal(t, r.top, r.last, "and it goes on")
				require.Equal(t, 1, r.losses)
			})
		})
	}
}

// A publication of a new epoch is not delivered before the loss is reported, and one of an old
// epoch never.
func TestEpochs(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		old := r.publish()
		r.ts.Arrived(old)
		r.top, r.kept = broker.Position{Epoch: "e2"}, nil
		r.ts.Arrived(r.publish())
		require.Equal(t, upTo(1), r.got)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, r.losses)
		old.Prev, old.Position.Offset = 1, 2
		r.ts.Arrived(old)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, upTo(1), r.got)
		reads := r.reads
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, reads, r.reads, "it is forgotten")
	})
}

// While nothing can be read, the publications wait.
func TestReadFails(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		all := r.publishN(maxEarly + 10)
		r.err = broker.ErrUnavailable
		for _, p := range all[1:] {
			r.ts.Arrived(p)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, r.got)
		require.LessOrEqual(t, r.reads, 62)
		r.mu.Lock()
		r.err = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, upTo(uint64(len(all))), r.got)
	})
}

func TestSubscriptions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		require.False(t, r.ts.Subscribe("s"))
		require.False(t, r.ts.Unsubscribe("s"))
		require.Equal(t, []string{"s"}, r.ts.Streams())
		require.True(t, r.ts.Arrived(r.publish()))
		p := r.publish()
		p.Prev, p.Position.Offset = 5, 6
		require.True(t, r.ts.Arrived(p), "which waits")
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.ts.Await(t.Context(), "s", p.Position)
		}()
		synctest.Wait()
		require.True(t, r.ts.Unsubscribe("s"))
		<-done
		require.False(t, r.ts.Unsubscribe("s"))
		require.False(t, r.ts.Arrived(p))
		require.Empty(t, r.ts.Streams())
		r.ts.Compare("s", r.top)
		r.ts.Await(t.Context(), "s", p.Position)
		require.True(t, r.ts.Subscribe("s"))
	})
}

// Await ends when the position was delivered or given up, or with its context.
func TestAwait(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		all := r.publishN(2)
		r.ts.Arrived(all[1])
		began := time.Now()
		r.ts.Await(t.Context(), "s", all[1].Position)
		require.Equal(t, patience, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.ts.Await(ctx, "s", broker.Position{Epoch: "e1", Offset: 7})
		require.Error(t, ctx.Err())
	})
}

// TestRandomEngine tests that whatever an engine loses, repeats and delays, all publications are
// delivered once and in order.
func TestRandomEngine(t *testing.T) {
	for seed := range uint64(200) {
		inBubble(t, func(t *testing.T, r *rig) {
			dice := rand.New(rand.NewPCG(seed, 0))
			r.start()
			var flying []broker.Publication
			for range 300 {
				switch dice.IntN(10) {
				case 0, 1, 2, 3:
					flying = append(flying, r.publish())
				case 4:
					slices.SortFunc(flying, func(a, b broker.Publication) int {
						return cmp.Compare(dice.IntN(3), 1)
					})
				case 5:
					if len(flying) > 0 && dice.IntN(3) == 0 {
						flying = flying[1:] // lost
					}
				case 6:
					time.Sleep(time.Duration(dice.IntN(150)) * time.Millisecond)
					synctest.Wait()
				case 7:
					r.mu.Lock()
					if r.err = nil; dice.IntN(3) == 0 {
						r.err = broker.ErrUnavailable
					}
					r.mu.Unlock()
				default:
					if len(flying) > 0 {
						r.ts.Arrived(flying[0])
						if dice.IntN(4) > 0 {
							flying = flying[1:]
						}
					}
				}
			}
			r.mu.Lock()
			r.err = nil
			r.mu.Unlock()
			r.ts.Compare("s", r.top)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			require.Equal(t, upTo(r.top.Offset), r.got, "seed %d", seed)
			require.Zero(t, r.losses)
		})
	}
}

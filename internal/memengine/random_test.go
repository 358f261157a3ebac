package memengine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/long"
)

// receiver is a Sink that checks the order of each stream.
type receiver struct {
	mu     sync.Mutex
	got    map[string][]broker.Publication
	lost   map[string]bool // since the last publication
	losses int
	cut    bool
	bad    []string
}

func (r *receiver) Deliver(p broker.Publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := r.got[p.Stream]; len(all) > 0 && !r.lost[p.Stream] {
		if last := all[len(all)-1].Position; !p.Follows(last) {
			r.bad = append(r.bad, fmt.Sprint(p.Stream, " ", p.Position, " after ", last))
		}
	}
	r.lost[p.Stream] = false
	r.got[p.Stream] = append(r.got[p.Stream], p)
}

func (r *receiver) Lost(stream string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[stream] = true
	r.losses++
}

func (r *receiver) Cut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cut == r.cut {
		r.bad = append(r.bad, fmt.Sprint("Cut(", cut, ") twice"))
	}
	r.cut = cut
}

func (*receiver) Receive(string, []byte) {}

// world is three brokers on an engine that fails at random.
type world struct {
	t     *testing.T
	dice  *rand.Rand
	e     *Engine
	keep  broker.Retention
	nodes []*Broker
	sinks []*receiver

	mu    sync.Mutex
	acked map[string]map[broker.Position]string // of each stream: contents
}

var streams = []string{"room/a", "room/b", "user/c"}

func newWorld(t *testing.T, seed uint64, keep broker.Retention) *world {
	w := &world{
		t: t, dice: rand.New(rand.NewPCG(seed, 1)), e: New(seed), keep: keep,
		acked: map[string]map[broker.Position]string{},
	}
	for _, stream := range streams {
		w.acked[stream] = map[broker.Position]string{}
	}
	for range 3 {
		b := w.e.Broker()
		s := &receiver{got: map[string][]broker.Publication{}, lost: map[string]bool{}}
		require.NoError(t, b.Open(t.Context(), s))
		w.nodes, w.sinks = append(w.nodes, b), append(w.sinks, s)
		for _, stream := range streams {
			_, err := b.Subscribe(t.Context(), stream)
			require.NoError(t, err)
		}
	}
	return w
}

func (w *world) close() {
	for _, b := range w.nodes {
		require.NoError(w.t, b.Close(context.Background()))
	}
	w.e.Close()
}

// publish publishes with one id until there is an answer.
func (w *world) publish(node, worker, i int) {
	stream, id := streams[(worker+i)%len(streams)], fmt.Sprint(i)
	p := broker.Publication{
		Stream: stream, Keep: w.keep, Origin: &id, Target: broker.Target{Rooms: []string{"r"}},
		Message: broker.Message{Sender: fmt.Sprint(node, "/", worker), ID: id, Content: []byte(id)},
	}
	for {
		out, err := w.nodes[node].Publish(w.t.Context(), p)
		if err == nil {
			w.mu.Lock()
			w.acked[stream][out[0].Position] = p.Message.Sender + " " + id
			w.mu.Unlock()
			return
		}
		if err != broker.ErrUnavailable {
			w.t.Errorf("publish: %v", err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// fail lets the engine fail for about a minute.
func (w *world) fail(forget bool) {
	for range 60 {
		b := w.nodes[w.dice.IntN(3)]
		switch w.dice.IntN(10) {
		case 0, 1:
			w.e.Cut(b, true)
		case 2, 3, 4:
			w.e.Cut(b, false)
		case 5:
			w.e.Mute(b, w.dice.IntN(2) == 0)
		case 6:
			if forget && w.dice.IntN(4) == 0 {
				w.e.Forget()
			}
		default:
			w.e.SetFaults(Faults{
				Delay: time.Duration(w.dice.IntN(300)) * time.Millisecond,
				Loss:  float64(w.dice.IntN(3)) / 4, Down: w.dice.IntN(6) == 0,
			})
		}
		time.Sleep(time.Duration(w.dice.IntN(2000)) * time.Millisecond)
	}
	w.e.SetFaults(Faults{})
	for _, b := range w.nodes {
		w.e.Mute(b, false)
		w.e.Cut(b, false)
	}
}

// run publishes while the engine fails, and then waits for everything to be delivered.
func (w *world) run(forget bool) {
	var all sync.WaitGroup
	for node := range w.nodes {
		for worker := range 2 {
			pauses := rand.New(rand.NewPCG(w.dice.Uint64(), 0))
			all.Go(func() {
				for i := range 60 {
					w.publish(node, worker, i)
					time.Sleep(time.Duration(pauses.IntN(1500)) * time.Millisecond)
				}
			})
		}
	}
	w.fail(forget)
	time.Sleep(5 * time.Second) // in which the brokers find what they missed
	all.Wait()
	synctest.Wait()
}

// kept reads a whole stream.
func (w *world) kept(stream string) (all []broker.Publication, page broker.Page) {
	var after uint64
	for {
		page, err := w.nodes[0].Read(w.t.Context(), stream, broker.Query{After: after})
		require.NoError(w.t, err)
		all = append(all, page.Publications...)
		if !page.More {
			return all, page
		}
		after = all[len(all)-1].Position.Offset
	}
}

func positions(all []broker.Publication) (at []broker.Position) {
	for _, p := range all {
		at = append(at, p.Position)
	}
	return at
}

// check requires that each receiver has a stream in its order up to its end, or was told of losses.
func (w *world) check(stream string) (kept []broker.Publication) {
	kept, page := w.kept(stream)
	for i, s := range w.sinks {
		require.Empty(w.t, s.bad, "node %d", i)
		require.False(w.t, s.cut, "node %d", i)
		content := map[broker.Position]string{}
		for _, p := range s.got[stream] {
			require.Empty(w.t, content[p.Position], "%v twice", p.Position)
			content[p.Position] = p.Message.Sender + " " + p.Message.ID
			if want := w.acked[stream][p.Position]; want != "" {
				require.Equal(w.t, want, content[p.Position])
			}
			mine := p.Message.Sender[:1] == fmt.Sprint(i)
			require.True(w.t, mine || p.Origin == nil, "the origin of another node")
		}
		if got := s.got[stream]; !s.lost[stream] {
			require.Equal(w.t, page.Top, got[len(got)-1].Position, "node %d, %s", i, stream)
		}
	}
	return kept
}

// TestRandomFaults tests that whatever fails, all receivers have the same sequence, nothing that
// was acknowledged is missing, and no id is taken twice.
func TestRandomFaults(t *testing.T) {
	for seed := range long.Of[uint64](100, 500, 10_000) {
		inWorld(t, seed, broker.Retention{Messages: 100_000}, func(t *testing.T, w *world) {
			w.run(false)
			for _, stream := range streams {
				kept := w.check(stream)
				require.Len(t, kept, 3*2*60/len(streams), "each once")
				at := map[broker.Position]bool{}
				for _, p := range kept {
					at[p.Position] = true
				}
				for p, content := range w.acked[stream] {
					require.True(t, at[p], "%s at %v is missing", content, p)
				}
				for i, s := range w.sinks {
					require.Zero(t, s.losses, "node %d", i)
					require.Equal(t, positions(kept), positions(s.got[stream]), "node %d", i)
				}
			}
		})
	}
}

// TestRandomLosses is TestRandomFaults of streams that keep little, in an engine that loses its
// data now and then.
func TestRandomLosses(t *testing.T) {
	for seed := range long.Of[uint64](50, 500, 10_000) {
		inWorld(t, seed, broker.Retention{Messages: 5}, func(t *testing.T, w *world) {
			w.run(seed%2 == 0)
			for _, stream := range streams {
				w.check(stream)
				_, page := w.kept(stream)
				for p := range w.acked[stream] {
					if p.Epoch != page.Top.Epoch {
						require.NotEmpty(t, page.GapAfter(p))
					}
				}
			}
		})
	}
}

// inWorld runs a test in a bubble.
func inWorld(
	t *testing.T, seed uint64, keep broker.Retention, test func(t *testing.T, w *world),
) {
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, keep)
			defer w.close()
			test(t, w)
		})
	})
}

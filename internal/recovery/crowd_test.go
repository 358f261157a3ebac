package recovery

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// countingBroker is a broker with one stream, which counts its reads.
type countingBroker struct {
	emptyBroker
	takes time.Duration // a read

	mu    sync.Mutex
	kept  []broker.Publication
	top   broker.Position
	floor uint64
	reads int
}

func (b *countingBroker) publish(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		p := broker.Publication{Stream: "r:hall", Prev: b.top.Offset}
		p.Message.Content = []byte(`"hello"`)
		b.top.Offset++
		p.Position = b.top
		b.kept = append(b.kept, p)
	}
}

func (b *countingBroker) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.top, b.kept = broker.Position{Epoch: b.top.Epoch + "'"}, nil
}

func (b *countingBroker) Read(
	_ context.Context, _ string, q broker.Query,
) (broker.Page, error) {
	b.mu.Lock()
	b.reads++
	page := broker.Page{Top: b.top, Floor: b.floor, Why: broker.ReasonOverflow}
	for _, p := range b.kept {
		if len(page.Publications) == q.Limit {
			page.More = true
			break
		}
		if p.Position.Offset > max(q.After, b.floor) {
			page.Publications = append(page.Publications, p)
		}
	}
	b.mu.Unlock()
	if b.takes > 0 {
		time.Sleep(b.takes)
	}
	return page, nil
}

// crowd is many subscriptions of one topic.
type crowd struct {
	b       *countingBroker
	k       *Broker
	topic   *Topic
	subs    []*Subscription
	lagging sync.WaitGroup
}

func newCrowd(tb testing.TB, n int, takes time.Duration) *crowd {
	counters := &metrics.Counters{}
	c := &crowd{b: &countingBroker{top: broker.Position{Epoch: "e"}, takes: takes}}
	c.k = NewBroker(c.b)
	c.k.Open(tb.Context(), nil)
	k := NewFetcher(c.k, counters, nil, 50, 1<<10)
	c.topic = NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
	c.b.publish(10)
	c.topic.Delivered(c.b.top)
	for range n {
		c.subs = append(c.subs, k.Subscribe(Config{
			Topic: c.topic, Subscriber: &liveReader{live: c.lagging.Done}, Lagging: &Lagging{},
			Queue: sendqueue.New(&sendqueue.Config{Totals: &counters.Queues}, nil, nil),
		}))
	}
	return c
}

// lose tells all that publications may have been lost.
func (c *crowd) lose() {
	c.topic.mu.Lock()
	defer c.topic.mu.Unlock()
	c.topic.Lost()
	for _, s := range c.subs {
		c.lagging.Add(1)
		s.Reread()
	}
}

// join lets all begin at the same position.
func (c *crowd) join(since broker.Position) {
	c.topic.mu.Lock()
	defer c.topic.mu.Unlock()
	for _, s := range c.subs {
		c.lagging.Add(1)
		s.Begin(&since, true)
		s.Fetch()
	}
}

// requireGiven waits until all are live, and requires that each was given so many frames.
func (c *crowd) requireGiven(t *testing.T, frames int) {
	t.Helper()
	c.lagging.Wait()
	for _, s := range c.subs {
		require.Equal(t, frames, s.queue.Counts().Queued)
		require.Equal(t, c.b.top, s.topic.last)
	}
}

// Members that miss the same publications are given the same pages.
func TestCrowdSharesReads(t *testing.T) {
	for _, takes := range []time.Duration{0, time.Millisecond} {
		for name, c := range map[string]struct {
			frames, reads int
			miss          func(c *crowd)
		}{
			"lost": {40, 2, func(c *crowd) {
				c.b.publish(40)
				c.lose()
			}},
			"more than a page": {120, 4, func(c *crowd) {
				c.b.publish(120)
				c.lose()
			}},
			"nothing": {0, 2, (*crowd).lose},
			"another epoch": {7, 3, func(c *crowd) {
				c.b.restart()
				c.b.publish(7)
				c.lose()
			}},
			"gone": {10, 3, func(c *crowd) {
				c.b.publish(40)
				c.b.floor = c.b.top.Offset - 10
				c.lose()
			}},
			"since": {8, 2, func(c *crowd) { c.join(broker.Position{Epoch: "e", Offset: 2}) }},
		} {
			t.Run(fmt.Sprint(name, takes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					crowd := newCrowd(t, 500, takes)
					defer crowd.k.Close()
					c.miss(crowd)
					crowd.requireGiven(t, c.frames)
					require.LessOrEqual(t, crowd.b.reads, c.reads)
				})
			})
		}
	}
}

// A page that was read before a loss is not used after it, nor one that is old, does not reach the
// end of the stream, or was read for another topic.
func TestOldPages(t *testing.T) {
	for name, c := range map[string]struct {
		reads, frames int
		later         func(c *crowd)
	}{
		"good": {0, 8, func(*crowd) {}},
		"old":  {1, 8, func(*crowd) { time.Sleep(keptTime) }},
		"loss": {1, 9, func(c *crowd) {
			c.b.publish(1)
			c.topic.Lost()
		}},
		"delivered": {1, 9, func(c *crowd) {
			c.b.publish(1)
			c.topic.Delivered(c.b.top)
		}},
		"epoch": {2, 1, func(c *crowd) { // one of the old position, one of the beginning
			c.b.restart()
			c.b.publish(1)
			c.topic.Delivered(c.b.top)
		}},
		"topic": {1, 8, func(c *crowd) {
			c.k.reads.kept[0].topic = NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				crowd := newCrowd(t, 1, 0)
				defer crowd.k.Close()
				since := broker.Position{Epoch: "e", Offset: 2}
				crowd.join(since)
				crowd.requireGiven(t, 8)
				require.Equal(t, 1, crowd.b.reads)
				c.later(crowd)
				crowd.join(since)
				crowd.requireGiven(t, 8+c.frames)
				require.Equal(t, 1+c.reads, crowd.b.reads)
			})
		})
	}
}

// A page that was empty is read again when there is more.
func TestEmptyPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1, 0)
		defer c.k.Close()
		end := c.b.top
		c.lose()
		c.requireGiven(t, 0)
		c.b.publish(1)
		c.topic.Delivered(c.b.top)
		c.join(end)
		c.requireGiven(t, 1)
	})
}

// What is kept for others is bounded.
func TestKeptPagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rs reads
		topic := NewTopic("s", "", Policy{}, new(sync.Mutex))
		get := func(after uint64, size int) {
			page := broker.Page{Publications: make([]broker.Publication, 1)}
			page.Publications[0].Message.Content = make([]byte, size)
			mine := &read{key: readKey{"s", broker.Query{After: after}}, topic: topic}
			r := rs.get(t.Context(), mine, never, func() (broker.Page, error) { return page, nil })
			require.Same(t, mine, r)
			sum := 0
			for _, r := range rs.kept {
				sum += r.page.Size()
			}
			require.Equal(t, sum, rs.bytes)
			require.LessOrEqual(t, rs.bytes, maxKeptBytes)
			require.LessOrEqual(t, len(rs.last), len(rs.kept))
		}
		for i := range uint64(100) {
			get(i%40, 200<<10)
		}
		require.Greater(t, len(rs.kept), 10)
		get(0, 5<<20)
		require.Empty(t, rs.kept)
		get(1, 1)
		time.Sleep(2 * keptTime)
		get(2, 1)
		require.Len(t, rs.kept, 1)
	})
}

// gate is a broker whose reads wait for the test.
type gate struct {
	emptyBroker
	reads chan func(error) // each lets one read return
}

func newGate(t *testing.T) (*gate, *Broker) {
	g := &gate{reads: make(chan func(error), 10)}
	b := NewBroker(g)
	b.Open(t.Context(), nil)
	return g, b
}

func (g *gate) Read(ctx context.Context, _ string, _ broker.Query) (broker.Page, error) {
	out := make(chan error)
	g.reads <- func(err error) { out <- err }
	select {
	case err := <-out:
		return broker.Page{Publications: make([]broker.Publication, 1)}, err
	case <-ctx.Done():
		return broker.Page{}, ctx.Err()
	}
}

type answer struct {
	page broker.Page
	err  error
}

// read reads in a goroutine.
func (g *gate) read(ctx context.Context, b *Broker) chan answer {
	out := make(chan answer, 1)
	go func() {
		page, err := b.Read(ctx, "s", broker.Query{})
		out <- answer{page, err}
	}()
	synctest.Wait()
	return out
}

// A read serves those who came before it began. Its failure is theirs too, so that an engine that
// is away is not asked by each of them in turn.
func TestSharedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := newGate(t)
		first := g.read(t.Context(), b)
		second, third := g.read(t.Context(), b), g.read(t.Context(), b)
		ended, cancel := context.WithCancel(t.Context())
		fourth := g.read(ended, b)
		cancel()
		require.ErrorIs(t, (<-fourth).err, context.Canceled, "it does not wait for the others")
		(<-g.reads)(nil)
		require.NoError(t, (<-first).err)
		synctest.Wait()
		(<-g.reads)(broker.ErrUnavailable)
		require.ErrorIs(t, (<-second).err, broker.ErrUnavailable)
		require.ErrorIs(t, (<-third).err, broker.ErrUnavailable)
		require.Equal(t, uint64(2), b.reads.begun)
		require.Empty(t, b.reads.last)
	})
}

// If the caller that reads for others ends, one of the others reads.
func TestSharedReadEnds(t *testing.T) {
	for i := range 20 { // which one of the two reads is chance
		synctest.Test(t, func(t *testing.T) {
			g, b := newGate(t)
			first := g.read(t.Context(), b)
			ended, cancel := context.WithCancel(t.Context())
			var second, third chan answer
			if i%2 == 0 {
				second, third = g.read(ended, b), g.read(t.Context(), b)
			} else {
				third, second = g.read(t.Context(), b), g.read(ended, b)
			}
			(<-g.reads)(nil)
			<-first
			synctest.Wait()
			cancel()
			require.ErrorIs(t, (<-second).err, context.Canceled)
			synctest.Wait()
			if len(g.reads) == 2 {
				<-g.reads // of the second
			}
			(<-g.reads)(nil)
			require.NoError(t, (<-third).err)
		})
	}
}

// Callers may change the pages that they share.
func TestSharedPagesAreOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := newGate(t)
		first := g.read(t.Context(), b)
		second, third := g.read(t.Context(), b), g.read(t.Context(), b)
		(<-g.reads)(nil)
		<-first
		synctest.Wait()
		(<-g.reads)(nil)
		one, other := <-second, <-third
		one.page.Publications[0].Stream = "changed"
		require.Empty(t, other.page.Publications[0].Stream)
	})
}

func BenchmarkCrowd(b *testing.B) {
	for _, takes := range []time.Duration{0, time.Millisecond} {
		b.Run(fmt.Sprint("lost", takes), func(b *testing.B) {
			b.ReportAllocs()
			reads := 0
			for b.Loop() {
				b.StopTimer()
				c := newCrowd(b, 500, takes)
				c.b.publish(40)
				b.StartTimer()
				c.lose()
				c.lagging.Wait()
				b.StopTimer()
				reads += c.b.reads
				c.k.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(reads)/float64(b.N), "reads/op")
		})
	}
}

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

func (b *countingBroker) Read(_ context.Context, _ string, q broker.Query) (page broker.Page, err error) {
	b.mu.Lock()
	b.reads++
	page = broker.Page{Top: b.top, Floor: b.floor, Why: broker.ReasonOverflow}
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

// A page that was read before a loss is not used after it, nor one that is old or does not reach
// the end of the stream.
func TestOldPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2, 0)
		defer c.k.Close()
		c.b.publish(2)
		c.lose()
		c.requireGiven(t, 2)
		for round, later := range []func(){
			func() { c.b.publish(1) },                             // and says so
			func() { c.b.publish(1); c.topic.Delivered(c.b.top) }, // delivered to others
			func() { time.Sleep(keptTime) },
		} {
			since := c.topic.last
			since.Offset--
			later()
			before := c.b.reads
			if round == 0 {
				c.lose()
				c.lagging.Wait()
			}
			c.join(since)
			c.lagging.Wait()
			require.Greater(t, c.b.reads, before, "round %d", round)
			require.Equal(t, c.b.top, c.topic.last)
		}
		page := c.b.reads
		c.join(broker.Position{Epoch: "e", Offset: c.b.top.Offset - 1})
		c.lagging.Wait()
		require.Equal(t, page, c.b.reads, "and a good one is used")
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

// gated is a read of a reads that the test lets go on.
func gated(rs *reads, ctx context.Context, wg *sync.WaitGroup, err error) (goOn chan struct{}, out *error) {
	goOn, out = make(chan struct{}), new(error)
	wg.Go(func() {
		r := rs.get(ctx, &read{}, never, func() (broker.Page, error) {
			<-goOn
			if ctx.Err() != nil {
				return broker.Page{}, ctx.Err()
			}
			return broker.Page{}, err
		})
		*out = r.err
	})
	synctest.Wait()
	return goOn, out
}

// A read serves those who came before it began. Its failure is theirs too, so that an engine that is
// away is not asked by each of them in turn, unless only its caller has ended.
func TestSharedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rs reads
		var wg sync.WaitGroup
		first, err1 := gated(&rs, t.Context(), &wg, nil)
		second, err2 := gated(&rs, t.Context(), &wg, broker.ErrUnavailable)
		third, err3 := gated(&rs, t.Context(), &wg, broker.ErrUnavailable)
		ended, cancel := context.WithCancel(t.Context())
		_, err4 := gated(&rs, ended, &wg, nil)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, *err4, context.Canceled, "it does not wait for the others")
		close(first)
		synctest.Wait()
		require.Equal(t, uint64(2), rs.begun)
		close(second)
		close(third)
		wg.Wait()
		require.NoError(t, *err1)
		require.ErrorIs(t, *err2, broker.ErrUnavailable)
		require.ErrorIs(t, *err3, broker.ErrUnavailable)
		require.Equal(t, uint64(2), rs.begun)
		require.Empty(t, rs.last)

		first, _ = gated(&rs, t.Context(), &wg, nil)
		ended, cancel = context.WithCancel(t.Context())
		second, err2 = gated(&rs, ended, &wg, nil)
		close(first)
		synctest.Wait()
		third, err3 = gated(&rs, t.Context(), &wg, nil)
		cancel()
		close(second)
		synctest.Wait()
		close(third)
		wg.Wait()
		require.Error(t, *err2)
		require.NoError(t, *err3, "it reads itself")
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

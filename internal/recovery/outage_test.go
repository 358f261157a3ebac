package recovery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// cutBroker is an emptyBroker that counts reads. While it is down, it is unavailable.
type cutBroker struct {
	emptyBroker
	down  atomic.Bool
	reads atomic.Int64
}

func (b *cutBroker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	b.reads.Add(1)
	if b.down.Load() {
		return broker.Page{}, broker.ErrUnavailable
	}
	return b.emptyBroker.Read(ctx, stream, q)
}

// connReader is the reader of a connection, which has not ended if it is unavailable.
type connReader struct {
	reader
	ctx context.Context
}

func (r *connReader) Context() context.Context { return r.ctx }
func (r *connReader) Ended() bool              { return r.ctx.Err() != nil }
func (r *connReader) Fail(err error)           { panic(err) }

// While the broker is unavailable, subscriptions that lag wait. One of them tries whether it is
// over, and all do after some time: others may have another part of the broker.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counters metrics.Counters
		source := &cutBroker{}
		b := NewBroker(source)
		b.Open(t.Context(), nil)
		k := NewFetcher(b, &counters, ratelog.New(slog.New(slog.DiscardHandler), time.Second), 10, 1<<10)
		const n = 100
		subs := make([]*Subscription, n)
		var ends [n]context.CancelFunc
		topic := NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
		topic.Delivered(endOfStream)
		source.down.Store(true)
		topic.mu.Lock()
		for i := range subs {
			r := &connReader{}
			r.ctx, ends[i] = context.WithCancel(t.Context())
			subs[i] = k.Subscribe(Config{
				Topic: topic, Subscriber: r, Lagging: &Lagging{},
				Queue: sendqueue.New(&sendqueue.Config{Totals: &counters.Queues}, nil, nil),
			})
			subs[i].lag(broker.Position{Epoch: "e"}, 0)
			subs[i].Fetch()
		}
		topic.mu.Unlock()
		end := func(some []*Subscription) {
			topic.mu.Lock()
			defer topic.mu.Unlock()
			for i, s := range some {
				ends[i]()
				s.Leave()
			}
		}
		defer b.Close()
		defer func() { end(subs) }()
		lagging := func() (count int) {
			synctest.Wait()
			topic.mu.Lock()
			defer topic.mu.Unlock()
			for _, s := range subs {
				if s.IsLagging() && !s.closed {
					count++
				}
			}
			return count
		}
		reads := func(after time.Duration) int64 {
			time.Sleep(after)
			synctest.Wait()
			return source.reads.Swap(0)
		}
		atMost := func(most, got int64) { // those of one topic share reads
			require.Positive(t, got)
			require.LessOrEqual(t, got, most)
		}
		atMost(n, reads(0))
		require.EqualValues(t, 9, reads(9*time.Second+retryAfter/2))
		atMost(1+n, reads(retryAfter))
		atMost(10+n, reads(maxOutage))
		require.Equal(t, n, lagging())
		end(subs[:n-1]) // perhaps also the one that tries
		require.Equal(t, 1, lagging())
		reads(0)
		require.EqualValues(t, 5, reads(5*retryAfter), "the last one tries, as before or instead")
		source.down.Store(false)
		time.Sleep(2 * retryAfter)
		require.Zero(t, lagging())
	})
}

func (b *cutBroker) Subscribe(context.Context, string) (broker.Position, error) {
	time.Sleep(5 * time.Second) // the bound of a Bus
	return broker.Position{}, broker.ErrUnavailable
}

// Who waits for a subscribe that fails because the broker is unavailable does not try again.
func TestOpenDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(&cutBroker{})
		b.Open(t.Context(), nil)
		defer b.Close()
		topic := NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
		began := time.Now()
		errs := make(chan error, 10)
		for range cap(errs) {
			go func() { errs <- topic.Open(t.Context(), b) }()
		}
		for range cap(errs) {
			require.ErrorIs(t, <-errs, broker.ErrUnavailable)
		}
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

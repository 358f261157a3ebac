package recovery

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// emptyBroker is a broker with a stream whose last publication has expired.
type emptyBroker struct{ broker.Broker }

var endOfStream = broker.Position{Epoch: "e", Offset: 1}

func (emptyBroker) Open(context.Context, broker.Sink) error { return nil }
func (emptyBroker) Close(context.Context) error             { return nil }
func (emptyBroker) Read(context.Context, string, broker.Query) (broker.Page, error) {
	return broker.Page{Top: endOfStream}, nil
}

// twoPages is a broker with a stream of two publications, which returns one at a time.
type twoPages struct{ emptyBroker }

func (twoPages) Read(_ context.Context, _ string, q broker.Query) (broker.Page, error) {
	at := broker.Position{Epoch: "e", Offset: q.After + 1}
	return broker.Page{
		Publications: []broker.Publication{{Position: at, Prev: q.After}},
		More:         at.Offset == 1,
		Top:          broker.Position{Epoch: "e", Offset: 2},
	}, nil
}

// payer is a reader that notes what it is charged.
type payer struct {
	reader
	charges []int
}

func (p *payer) Charge(bytes int) { p.charges = append(p.charges, bytes) }

// A client pays for the first page of what it asks for. What comes later comes as fast as it reads.
func TestFirstPageIsCharged(t *testing.T) {
	var counters metrics.Counters
	b := NewBroker(twoPages{})
	b.Open(t.Context(), nil)
	k := NewFetcher(b, &counters, nil, 1, 1<<10)
	topic := NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
	topic.Delivered(broker.Position{Epoch: "e", Offset: 2})
	p := &payer{}
	s := k.Subscribe(Config{
		Topic: topic, Subscriber: p, Lagging: &Lagging{},
		Queue: sendqueue.New(&sendqueue.Config{Totals: &counters.Queues}, nil, nil),
	})
	topic.mu.Lock()
	s.Begin(&broker.Position{Epoch: "e"}, true)
	s.Fetch()
	topic.mu.Unlock()
	b.Close()
	require.False(t, s.IsLagging())
	require.Equal(t, 2, s.queue.Counts().Queued)
	require.Len(t, p.charges, 1)
	require.Positive(t, p.charges[0])
}

// liveReader is a reader that calls live when its subscription is live, with the lock of the
// topic held.
type liveReader struct {
	reader
	live func()
}

func (r *liveReader) SetNeedsCheck(yes bool) {
	if !yes {
		r.live()
	}
}

// A subscription that begins to lag again before the goroutine that made it live has removed it
// from its list is served again.
func TestLaggingAgainBeforeRemoval(t *testing.T) {
	var counters metrics.Counters
	b := NewBroker(emptyBroker{})
	b.Open(t.Context(), nil)
	k := NewFetcher(b, &counters, nil, 10, 1<<10)
	topic := NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
	topic.Delivered(endOfStream)
	var l Lagging
	first := make(chan struct{})
	live := sync.OnceFunc(func() {
		l.mu.Lock() // the goroutine cannot remove it
		close(first)
	})
	s := k.Subscribe(Config{
		Topic: topic, Subscriber: &liveReader{live: live}, Lagging: &l,
		Queue: sendqueue.New(&sendqueue.Config{Totals: &counters.Queues}, nil, nil),
	})
	start := broker.Position{Epoch: "e"}
	topic.mu.Lock()
	s.lag(start, 0)
	s.Fetch()
	topic.mu.Unlock()
	<-first
	topic.mu.Lock()
	require.False(t, s.IsLagging())
	s.lag(start, 0)
	require.Equal(t, []*Subscription{s}, l.subs, "Fetch does nothing")
	topic.mu.Unlock()
	l.mu.Unlock()
	b.Close() // waits for the goroutine
	require.False(t, s.IsLagging())
	require.False(t, l.Busy())
}

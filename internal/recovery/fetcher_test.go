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

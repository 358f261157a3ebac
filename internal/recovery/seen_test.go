package recovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
)

// A delivery that is under way when a connection ends takes no memory: nothing would free it.
func TestNothingIsSeenAfterTheEnd(t *testing.T) {
	var l Lagging
	k := &Fetcher{counters: &metrics.Counters{}}
	budget := &k.counters.Queues.Budget
	k.Gave(&l, 1)
	require.EqualValues(t, seenBytes, budget.Held())
	require.True(t, l.FirstTime(2))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.End(&l)
	}()
	k.Settle(&l, 2, true)
	<-ended
	k.Gave(&l, 3)
	require.Zero(t, budget.Held())
	require.Zero(t, l.Bytes())
}

// A connection that begins to lag in one room, after it was given a union as a member of another
// one, is not given the union again.
func TestUnionGivenBeforeLagging(t *testing.T) {
	var l Lagging
	s := newSubscription(&l)
	s.fetcher.counters = &metrics.Counters{}
	s.lag(broker.Position{Epoch: "e", Offset: 1}, 1)
	for key, had := range []bool{1: true, 2: false} {
		s.Defer(&broker.Publication{Position: broker.Position{Epoch: "e", Offset: 2}}, uint64(key), had)
	}
	require.False(t, l.FirstTime(1))
	require.True(t, l.FirstTime(2))
	s.fetcher.Settle(&l, 2, false)
}

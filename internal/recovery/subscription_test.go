package recovery

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// reader is a Subscriber that gets everything.
type reader struct{}

func (reader) Context() context.Context                                { return context.Background() }
func (reader) Ended() bool                                             { return false }
func (reader) Fail(error)                                              {}
func (reader) Excluded(*broker.Target) bool                            { return false }
func (reader) Charge(int)                                              {}
func (reader) SetNeedsCheck(bool)                                      {}
func (reader) Acknowledge()                                            {}
func (reader) Restart(context.Context) (at broker.Position, err error) { return at, nil }

func newSubscription(l *Lagging) *Subscription {
	t := NewTopic("r:hall", "hall", Policy{}, new(sync.Mutex))
	return new(Fetcher).Subscribe(Config{Topic: t, Subscriber: reader{}, Lagging: l})
}

// A connection that reads nothing, and joins and leaves rooms, lags in those it is in.
func TestLeaveEndsLagging(t *testing.T) {
	var l Lagging
	for range 100 {
		s := newSubscription(&l)
		s.lag(broker.Position{Epoch: "e", Offset: 1}, 1)
		l.add(s)
		s.Leave()
	}
	require.Empty(t, l.subs)
	require.False(t, l.Busy())
}

func TestCollectedIsBounded(t *testing.T) {
	for bytes, most := range map[int]int{0: maxCollected, 100 << 10: 2, 1 << 20: 0} {
		s := newSubscription(&Lagging{})
		s.lag(broker.Position{Epoch: "e", Offset: 0}, 0)
		s.collect(true)
		p := &broker.Publication{Message: broker.Message{Content: make([]byte, bytes)}} // at no position
		for range most {
			s.Defer(p, 0, false)
		}
		require.True(t, s.collecting)
		require.Len(t, s.collected, most)
		s.Defer(p, 0, false)
		require.False(t, s.collecting, "it reads on")
		require.Nil(t, s.collected)
	}
}

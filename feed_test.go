package realtime

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// follower is the connection of a feed.
type follower struct{ pulls pulls }

func (f *follower) leftOut(*broker.Target) bool            { return false }
func (f *follower) Context() context.Context               { return context.Background() }
func (f *follower) behind() *pulls                         { return &f.pulls }
func (f *follower) charge(int)                             {}
func (f *follower) ended() bool                            { return false }
func (f *follower) finish(*CloseError, time.Duration) bool { return false }

func newFeed(c client) *feed {
	return &feed{source: &source{}, conn: c, mu: new(sync.Mutex), set: func(bool) {}}
}

// A client that reads nothing, and joins and leaves, is behind in the rooms that it is in.
func TestWhoLeavesIsNotBehind(t *testing.T) {
	c := &follower{}
	for range 100 {
		f := newFeed(c)
		f.fallBehind(broker.Position{Epoch: "e", Offset: 1})
		c.pulls.add(f)
		f.leave()
	}
	require.Empty(t, c.pulls.feeds)
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	for bytes, most := range map[int]int{0: maxHeld, 100 << 10: 2, 1 << 20: 0} {
		f := newFeed(&follower{})
		f.fallBehind(broker.Position{Epoch: "e", Offset: 0})
		f.catch(true)
		p := &broker.Publication{Message: broker.Message{Content: make([]byte, bytes)}} // at no position
		for range most {
			f.hold(p)
		}
		require.True(t, f.holding)
		require.Len(t, f.held, most)
		f.hold(p)
		require.False(t, f.holding, "it reads on")
		require.Nil(t, f.held)
	}
}

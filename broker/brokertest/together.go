package brokertest

import (
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func togetherRules() []rule {
	return []rule{
		{"the parts of a message are delivered in their order", partsInOrder},
		{"each part is a duplicate or not by itself", partDuplicates},
		{"streams that share messages have them in one order", sharedOrder},
		{"two parts of a message in one stream are refused", partsApart},
	}
}

// parts returns a note for each stream. A note to the stream "" is only delivered.
func parts(n int, streams ...string) (all []broker.Publication) {
	for _, stream := range streams {
		all = append(all, note(stream, n))
	}
	return all
}

// streamsOf returns the streams of publications.
func streamsOf(all []broker.Publication) (names []string) {
	for _, p := range all {
		names = append(names, p.Stream)
	}
	return names
}

// requireDelivered requires that publications were delivered to streams in this order. A Bus may
// deliver each stream separately.
func (s *stage) requireDelivered(streams []string, all []broker.Publication) {
	s.t.Helper()
	if s.isBus() {
		require.ElementsMatch(s.t, streams, streamsOf(all))
		return
	}
	require.Equal(s.t, streams, streamsOf(all))
}

func (s *stage) isBus() bool {
	_, is := s.b.(broker.Bus)
	return is
}

func partsInOrder(s *stage) {
	order := []string{"", "room/c", "room/a", "user/b"}
	for _, stream := range order[1:] {
		s.subscribe(stream)
	}
	first := s.publish(note("room/a", 1))
	out, err := s.b.Publish(s.t.Context(), parts(2, append(order, "room/nobody")...)...)
	require.NoError(s.t, err)
	require.Len(s.t, out, 5)
	s.requireDelivered(order, s.got[1:])
	require.Zero(s.t, out[0])
	for i, stream := range append(order, "room/nobody") {
		if stream == "" {
			continue
		}
		page := s.read(stream, broker.Query{Backwards: true})
		require.Equal(s.t, page.Top, out[i].Position, stream)
		require.Equal(s.t, 2, number(s.t, page.Publications[0]), stream)
	}
	require.Equal(s.t, first.Position.Offset, s.prev("room/a"))
}

func partDuplicates(s *stage) {
	s.subscribe("room/a")
	s.subscribe("room/b")
	first := s.publish(identified("room/a", "alice", "1"))
	out, err := s.b.Publish(s.t.Context(), identified("", "alice", "1"),
		identified("room/a", "alice", "1"), identified("room/b", "alice", "1"))
	require.NoError(s.t, err)
	require.False(s.t, out[0].Duplicate)
	require.True(s.t, out[1].Duplicate)
	require.Equal(s.t, first.Position, out[1].Position)
	require.False(s.t, out[2].Duplicate)
	s.requireDelivered([]string{"room/a", "", "room/b"}, s.got)
}

// sharedOrder publishes messages to one or two of three streams. It requires that any two streams
// have the messages that they share in the same order, except with a Bus.
func sharedOrder(s *stage) {
	streams := []string{"room/a", "room/b", "user/c"}
	for _, stream := range streams {
		s.subscribe(stream)
	}
	var all sync.WaitGroup
	for publisher := range publishers {
		all.Go(func() {
			for i := range each / 2 {
				one, other := streams[(publisher+i)%3], streams[(publisher+i+1)%3]
				to := parts(publisher*each+i, one, other)
				if i%5 == 0 {
					to = to[:1]
				}
				if _, err := s.b.Publish(s.t.Context(), to...); err != nil {
					s.t.Errorf("publish: %v", err)
				}
			}
		})
	}
	all.Wait()
	for i, stream := range streams {
		mine, others := s.delivered(stream), s.delivered(streams[(i+1)%3])
		require.Equal(s.t, offsets(s.all(stream)), offsets(mine), stream)
		if s.isBus() {
			continue
		}
		both := common(numbers(s.t, mine), numbers(s.t, others))
		require.NotEmpty(s.t, both)
		require.Equal(s.t, both, common(numbers(s.t, others), numbers(s.t, mine)), stream)
	}
}

// common returns the elements of a that are in b.
func common(a, b []int) (both []int) {
	in := make(map[int]bool, len(b))
	for _, n := range b {
		in[n] = true
	}
	for _, n := range a {
		if in[n] {
			both = append(both, n)
		}
	}
	return both
}

func partsApart(s *stage) {
	_, err := s.b.Publish(s.t.Context(), parts(1, "room/a", "room/b", "room/a")...)
	require.Error(s.t, err)
	for _, stream := range []string{"room/a", "room/b"} {
		require.Zero(s.t, s.read(stream, broker.Query{}).Top.Offset, stream)
		require.NotZero(s.t, s.publish(note(stream, 1)).Position, fmt.Sprint(stream, " is not held"))
	}
}

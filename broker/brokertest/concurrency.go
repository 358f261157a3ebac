package brokertest

import (
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func concurrencyRules() []rule {
	return []rule{
		{"all publishers to one stream have one order", oneStream},
		{"publishers to many streams have one order in each", manyStreams},
		{"deliveries after Subscribe and reads before it give everything once", subscribeRace},
		{"Unsubscribe ends delivery while others publish", unsubscribeRace},
	}
}

const (
	publishers = 8
	each       = 100
)

// publishAll publishes from many goroutines at once.
func (s *stage) publishAll(stream func(publisher, i int) string) {
	var all sync.WaitGroup
	for publisher := range publishers {
		all.Go(func() {
			for i := range each {
				p := note(stream(publisher, i), i)
				p.Message.Sender = fmt.Sprint("p", publisher)
				if _, err := s.b.Publish(s.t.Context(), p); err != nil {
					s.t.Errorf("publish: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// requireOrdered requires that a stream was delivered in the order in which it is kept, and that
// the publications of each publisher are in its order.
func (s *stage) requireOrdered(stream string) {
	last := map[string]int{}
	for _, p := range s.requireChain(stream) {
		n, known := last[p.Message.Sender]
		require.True(s.t, !known || number(s.t, p) > n,
			"%s of %s after %d", p.Message.Content, p.Message.Sender, n)
		last[p.Message.Sender] = number(s.t, p)
	}
}

func oneStream(s *stage) {
	s.subscribe("room/a")
	s.publishAll(func(int, int) string { return "room/a" })
	require.Len(s.t, s.all("room/a"), publishers*each)
	s.requireOrdered("room/a")
}

func manyStreams(s *stage) {
	for i := range 10 {
		s.subscribe(fmt.Sprint("room/", i))
	}
	s.publishAll(func(publisher, i int) string { return fmt.Sprint("room/", (publisher+i)%10) })
	n := 0
	for i := range 10 {
		stream := fmt.Sprint("room/", i)
		n += len(s.all(stream))
		s.requireOrdered(stream)
	}
	require.Equal(s.t, publishers*each, n)
}

// A receiver that subscribes during publishing reads up to the position that Subscribe returns, and
// the rest is delivered.
func subscribeRace(s *stage) {
	var at broker.Position
	var joined sync.WaitGroup
	joined.Go(func() { at = s.subscribe("room/a") })
	s.publishAll(func(int, int) string { return "room/a" })
	joined.Wait()
	got := offsets(s.delivered("room/a"))
	want := []uint64{} // stays so if Subscribe came last
	for _, offset := range offsets(s.all("room/a")) {
		if offset > at.Offset {
			want = append(want, offset)
		}
	}
	require.Equal(s.t, want, got)
}

func unsubscribeRace(s *stage) {
	var running sync.WaitGroup
	running.Go(func() { s.publishAll(func(int, int) string { return "room/a" }) })
	defer running.Wait()
	for range 20 {
		s.subscribe("room/a")
		s.unsubscribe("room/a")
		n := len(s.delivered("room/a"))
		at := s.read("room/a", broker.Query{}).Top
		require.Equal(s.t, n, len(s.delivered("room/a")), "at %d", at.Offset)
	}
}

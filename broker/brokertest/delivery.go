package brokertest

import (
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func deliveryRules() []rule {
	return []rule{
		{"a publication is delivered before Publish returns", deliveredFirst},
		{"nothing is delivered before Subscribe", notBefore},
		{"nothing is delivered after the last Unsubscribe", notAfter},
		{"subscriptions are counted", counted},
		{"Unsubscribe without Subscribe does nothing", unsubscribeNothing},
		{"Subscribe returns the end of the stream", subscribePosition},
		{"Subscribe returns the beginning of a new stream", subscribeBegins},
		{"a stream that was only subscribed to keeps its epoch", onlySubscribedTo},
		{"names leave nothing behind", onlyNames},
		{"only streams that are subscribed to are delivered", onlySubscribed},
		{"a delivered publication can be read at once", readInDeliver},
	}
}

func deliveredFirst(s *stage) {
	s.subscribe("room/a")
	for i := range 20 {
		s.publish(note("room/a", i))
		require.Len(s.t, s.delivered("room/a"), i+1)
	}
}

func notBefore(s *stage) {
	s.fill("room/a", 3)
	require.Empty(s.t, s.delivered("room/a"))
	s.subscribe("room/a")
	require.Empty(s.t, s.delivered("room/a"))
	s.publish(note("room/a", 4))
	require.Equal(s.t, []int{4}, numbers(s.t, s.delivered("room/a")))
}

func notAfter(s *stage) {
	s.subscribe("room/a")
	s.publish(note("room/a", 1))
	s.unsubscribe("room/a")
	s.publish(note("room/a", 2))
	require.Equal(s.t, []int{1}, numbers(s.t, s.delivered("room/a")))
	require.Len(s.t, s.all("room/a"), 2)
}

func counted(s *stage) {
	s.subscribe("room/a")
	s.subscribe("room/a")
	s.publish(note("room/a", 1))
	s.unsubscribe("room/a")
	s.publish(note("room/a", 2))
	s.unsubscribe("room/a")
	s.publish(note("room/a", 3))
	require.Equal(s.t, []int{1, 2}, numbers(s.t, s.delivered("room/a")), "each once")
}

func unsubscribeNothing(s *stage) {
	s.unsubscribe("room/a")
	s.subscribe("room/a")
	s.unsubscribe("room/a")
	s.unsubscribe("room/a")
	s.subscribe("room/a")
	s.publish(note("room/a", 1))
	require.Len(s.t, s.delivered("room/a"), 1)
}

func subscribePosition(s *stage) {
	at := s.fill("room/a", 3)
	require.Equal(s.t, at[2], s.subscribe("room/a"))
	out := s.publish(note("room/a", 4))
	require.Equal(s.t, out.Position, s.subscribe("room/a"))
}

func subscribeBegins(s *stage) {
	at := s.subscribe("room/a")
	require.Equal(s.t, broker.Page{Top: at}, s.read("room/a", broker.Query{}))
	require.Equal(s.t, at.Epoch, s.publish(note("room/a", 1)).Position.Epoch)
}

func onlySubscribedTo(s *stage) {
	at := s.subscribe("room/a")
	require.NotEmpty(s.t, at.Epoch)
	require.Zero(s.t, at.Offset)
	require.Equal(s.t, at, s.subscribe("room/a"))
	s.unsubscribe("room/a")
	require.Equal(s.t, at, s.read("room/a", broker.Query{}).Top)
	s.unsubscribe("room/a")
	require.Equal(s.t, broker.Page{}, s.read("room/a", broker.Query{}))
	require.Equal(s.t, at, s.subscribe("room/a"))
	s.unsubscribe("room/a")
	out := s.publish(note("room/a", 1))
	require.Equal(s.t, at.Epoch, out.Position.Epoch)
	require.Equal(s.t, at.Offset, s.prev("room/a"))
	s.unsubscribe("room/a")
	require.Equal(s.t, out.Position, s.read("room/a", broker.Query{}).Top)
}

// This uses more names than a small broker may have streams: it must neither forget nor refuse any.
func onlyNames(s *stage) {
	rooms, inbox := s.fill("room/a", 3), s.fill("user/a", 3)
	s.ack("user/a", "r", inbox[0])
	for i := range 2000 {
		for _, stream := range []string{fmt.Sprint("room/n", i), fmt.Sprint("user/n", i)} {
			at := s.subscribe(stream)
			require.Equal(s.t, at, s.cursor(stream, "r"))
			require.Equal(s.t, at, s.cursor(stream, ""))
			s.ack(stream, "r", at)
			s.unsubscribe(stream)
			require.Equal(s.t, broker.Page{}, s.read(stream, broker.Query{}))
			require.Equal(s.t, broker.Position{}, s.cursor(stream, "r"))
		}
	}
	require.Equal(s.t, rooms[2], s.read("room/a", broker.Query{}).Top)
	require.Len(s.t, s.all("room/a"), 3)
	require.Equal(s.t, inbox[0], s.cursor("user/a", "r"))
	s.publish(note("room/new", 1))
	s.publish(note("user/new", 1))
}

func onlySubscribed(s *stage) {
	s.subscribe("room/a")
	s.publish(note("room/b", 1))
	s.publish(note("room/a", 2))
	require.Empty(s.t, s.delivered("room/b"))
	require.Len(s.t, s.delivered("room/a"), 1)
}

// A receiver can read the stream as soon as a publication is delivered to it.
func readInDeliver(s *stage) {
	read := make(chan broker.Page, 20)
	s.on = func(broker.Publication) {
		go func() {
			page, _ := s.b.Read(s.t.Context(), "room/a", broker.Query{Backwards: true, Limit: 1})
			read <- page
		}()
	}
	s.subscribe("room/a")
	for i := range 20 {
		at := s.publish(note("room/a", i)).Position
		page := <-read
		require.Equal(s.t, at, page.Top)
		require.Equal(s.t, []int{i}, numbers(s.t, page.Publications))
	}
}

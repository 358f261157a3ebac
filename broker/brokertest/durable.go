package brokertest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// reopened is a stage whose broker can be closed and opened again.
type reopened struct {
	*stage
	open func() broker.Broker
}

// again closes the broker and opens it again.
func (s *reopened) again() {
	s.t.Helper()
	require.NoError(s.t, s.close())
	s.stage = newStage(s.t, s.open())
}

func durableRules() []struct {
	name string
	test func(s *reopened)
} {
	return []struct {
		name string
		test func(s *reopened)
	}{
		{"streams are kept", streamsAgain},
		{"a receiver at offset zero has missed nothing", beginningAgain},
		{"streams continue", streamsGoOn},
		{"ids are remembered", idsAgain},
		{"shares are remembered", sharesAgain},
		{"cursors are remembered", cursorsAgain},
		{"discarded publications stay discarded", forgottenAgain},
		{"the age counts from the publication", ageAgain},
		{"subscriptions end with Close", subscriptionsEnd},
	}
}

func streamsAgain(s *reopened) {
	a := s.fill("room/a", 20)
	p := binary([]byte{0, 0xff})
	p.Target = broker.Target{Rooms: []string{"lobby"}, ExceptConns: []string{"c1"}}
	s.publish(p)
	before := s.read("room/a", broker.Query{})
	for range 3 {
		s.again()
		after := s.read("room/a", broker.Query{})
		require.Equal(s.t, before.Top, after.Top)
		require.Equal(s.t, a[0].Epoch, after.Top.Epoch, "the epoch stays the same")
		require.Len(s.t, after.Publications, len(before.Publications))
		for i, p := range after.Publications {
			require.Equal(s.t, before.Publications[i].At.UnixNano(), p.At.UnixNano())
			p.At = before.Publications[i].At
			require.Equal(s.t, before.Publications[i], p)
		}
	}
}

// A stream without a publication does not exist after a restart, and begins at the position that it
// had before.
func beginningAgain(s *reopened) {
	at, other := s.subscribe("room/a"), s.subscribe("user/b")
	s.again()
	require.Equal(s.t, broker.Page{}, s.read("room/a", broker.Query{}))
	require.Equal(s.t, broker.Position{}, s.cursor("user/b", ""))
	require.Equal(s.t, at, s.subscribe("room/a"))
	require.Equal(s.t, at.Epoch, s.publish(note("room/a", 1)).Position.Epoch)
	s.again()
	require.Equal(s.t, at.Epoch, s.read("room/a", broker.Query{}).Top.Epoch)
	require.Equal(s.t, []int{1}, numbers(s.t, s.all("room/a")))
	require.Equal(s.t, other.Epoch, s.publish(note("user/b", 2)).Position.Epoch)
	require.Equal(s.t, []int{2}, s.unread("user/b", ""))
}

func streamsGoOn(s *reopened) {
	var before uint64
	for round := range 4 {
		s.subscribe("room/a")
		out := s.publish(note("room/a", round))
		require.Equal(s.t, before, s.prev("room/a"))
		require.Len(s.t, s.delivered("room/a"), 1)
		before = out.Position.Offset
		s.again()
	}
	require.Equal(s.t, []int{0, 1, 2, 3}, numbers(s.t, s.all("room/a")))
}

func idsAgain(s *reopened) {
	first := s.publish(identified("room/a", "alice", "1"))
	s.again()
	out := s.publish(identified("room/a", "alice", "1"))
	require.True(s.t, out.Duplicate)
	require.Equal(s.t, first.Position, out.Position)
	require.False(s.t, s.publish(identified("room/a", "alice", "2")).Duplicate)
}

func cursorsAgain(s *reopened) {
	at := s.fill("user/a", 3)
	s.ack("user/a", "r", at[1])
	s.again()
	require.Equal(s.t, at[1], s.cursor("user/a", "r"))
	require.Equal(s.t, []int{3}, s.unread("user/a", "r"))
	s.ack("user/a", "r", at[0])
	require.Equal(s.t, at[1], s.cursor("user/a", "r"))
}

func forgottenAgain(s *reopened) {
	for i := range 5 {
		p := note("room/a", i)
		p.Keep.Messages = 2
		s.publish(p)
	}
	before := s.read("room/a", broker.Query{})
	s.again()
	after := s.read("room/a", broker.Query{})
	require.Equal(s.t, []int{3, 4}, numbers(s.t, after.Publications))
	require.Equal(s.t, before.Floor, after.Floor)
	require.Equal(s.t, before.Why, after.Why)
}

func ageAgain(s *reopened) {
	p := note("room/a", 1)
	p.Keep.Age = 300 * time.Millisecond
	at := s.publish(p).Position
	s.again()
	s.eventually("it is discarded", func() bool { return len(s.all("room/a")) == 0 })
	page := s.read("room/a", broker.Query{})
	require.Equal(s.t, at, page.Top)
	require.Equal(s.t, broker.ReasonExpired, page.Why)
}

func subscriptionsEnd(s *reopened) {
	s.subscribe("room/a")
	s.again()
	s.publish(note("room/a", 1))
	require.Empty(s.t, s.delivered("room/a"))
}

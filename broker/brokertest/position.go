package brokertest

import (
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func positionRules() []rule {
	return []rule{
		{"positions increase", positionsGrow},
		{"Prev is the offset of the previous publication", previous},
		{"each stream has its own positions and epoch", streamsAreApart},
		{"the epoch stays the same", epochStays},
		{"Publish, Deliver and Read give the same position", onePosition},
		{"a publication without a stream has no position", noStream},
	}
}

func positionsGrow(s *stage) {
	before := uint64(0)
	for _, at := range s.fill("room/a", 20) {
		require.Greater(s.t, at.Offset, before)
		require.NotEmpty(s.t, at.Epoch)
		before = at.Offset
	}
}

func previous(s *stage) {
	before := uint64(0)
	for i := range 20 {
		out := s.publish(note("room/a", i))
		require.Equal(s.t, before, s.prev("room/a"))
		before = out.Position.Offset
	}
	before = 0
	for _, p := range s.all("room/a") {
		require.Equal(s.t, before, p.Prev)
		before = p.Position.Offset
	}
}

func streamsAreApart(s *stage) {
	a := s.fill("room/a", 3)
	b := s.fill("room/b", 3)
	require.NotEqual(s.t, a[0].Epoch, b[0].Epoch)
	require.Equal(s.t, []int{1, 2, 3}, numbers(s.t, s.all("room/a")))
	require.Equal(s.t, []int{1, 2, 3}, numbers(s.t, s.all("room/b")))
	require.Zero(s.t, s.all("room/b")[0].Prev)
}

func epochStays(s *stage) {
	at := s.subscribe("room/a")
	require.NotEmpty(s.t, at.Epoch)
	require.Zero(s.t, at.Offset)
	for _, p := range s.fill("room/a", 3) {
		require.Equal(s.t, at.Epoch, p.Epoch)
	}
	s.unsubscribe("room/a")
	require.Equal(s.t, at.Epoch, s.subscribe("room/a").Epoch)
	require.Equal(s.t, at.Epoch, s.read("room/a", broker.Query{}).Top.Epoch)
}

func onePosition(s *stage) {
	s.subscribe("room/a")
	out := s.publish(note("room/a", 1))
	delivered, read := s.delivered("room/a"), s.all("room/a")
	require.Len(s.t, delivered, 1)
	require.Len(s.t, read, 1)
	for _, p := range []broker.Publication{delivered[0], read[0]} {
		require.Equal(s.t, "room/a", p.Stream)
		require.Equal(s.t, out.Position, p.Position)
		require.Equal(s.t, s.prev("room/a"), p.Prev)
		require.False(s.t, p.At.IsZero())
	}
	require.True(s.t, delivered[0].At.Equal(read[0].At))
}

func noStream(s *stage) {
	p := note("", 1)
	p.Message.Ephemeral = true
	out := s.publish(p)
	require.Equal(s.t, broker.Published{}, out)
	delivered := s.delivered("")
	require.Equal(s.t, []int{1}, numbers(s.t, delivered), "it is for every Sink")
	require.True(s.t, delivered[0].Message.Ephemeral)
	require.Empty(s.t, s.read("", broker.Query{}).Publications)
}

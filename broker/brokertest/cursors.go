package brokertest

import (
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func cursorRules() []rule {
	return []rule{
		{"a new reader starts before all kept publications", newReader},
		{"a new reader is tracked from then on", knownReader},
		{"the reader without a name starts before all publications", firstReader},
		{"a reader before the first publication is tracked", earlyReader},
		{"a cursor moves forward only", cursorForward},
		{"a position of another epoch is refused", cursorEpoch},
		{"a position after the end of the stream is refused", cursorAhead},
		{"each reader has its own cursor", severalReaders},
		{"unacknowledged publications are kept", unreadKept},
		{"a stream can have a hundred readers", manyReaders},
	}
}

func (s *stage) cursor(stream, reader string) broker.Position {
	s.t.Helper()
	at, err := s.b.Cursor(s.t.Context(), stream, reader)
	require.NoError(s.t, err)
	return at
}

func (s *stage) ack(stream, reader string, at broker.Position) {
	s.t.Helper()
	require.NoError(s.t, s.b.Ack(s.t.Context(), stream, reader, at))
}

// unread returns the numbers that a reader has not acknowledged.
func (s *stage) unread(stream, reader string) []int {
	s.t.Helper()
	page := s.read(stream, broker.Query{After: s.cursor(stream, reader).Offset})
	return numbers(s.t, page.Publications)
}

func newReader(s *stage) {
	at := s.fill("user/a", 3)
	require.Equal(s.t, broker.Position{Epoch: at[0].Epoch}, s.cursor("user/a", "r"))
	require.Equal(s.t, []int{1, 2, 3}, s.unread("user/a", "r"))
	for n := range 3 {
		p := note("user/b", n+1)
		p.Keep.Messages = 2
		s.publish(p)
	}
	floor := s.read("user/b", broker.Query{}).Floor
	require.Equal(s.t, floor, s.cursor("user/b", "r").Offset)
	require.Equal(s.t, []int{2, 3}, s.unread("user/b", "r"))
}

func knownReader(s *stage) {
	at := s.fill("user/a", 2)
	require.Zero(s.t, s.cursor("user/a", "r").Offset)
	for n := range 3 {
		p := note("user/a", n+3)
		p.Keep.Messages = 2
		s.publish(p)
	}
	require.Equal(s.t, broker.Position{Epoch: at[0].Epoch}, s.cursor("user/a", "r"),
		"it has missed discarded publications")
	require.Equal(s.t, []int{4, 5}, s.unread("user/a", "r"))
}

func firstReader(s *stage) {
	for n := range 3 {
		p := note("user/a", n+1)
		p.Keep.Messages = 2
		s.publish(p)
	}
	require.Zero(s.t, s.cursor("user/a", "").Offset)
	require.Equal(s.t, []int{2, 3}, s.unread("user/a", ""))
	at := s.read("user/a", broker.Query{}).Publications[0].Position
	s.ack("user/a", "", at)
	require.Equal(s.t, at, s.cursor("user/a", ""))
}

func earlyReader(s *stage) {
	at := s.subscribe("user/a")
	require.Equal(s.t, at, s.cursor("user/a", "r"))
	for n := range 3 {
		p := note("user/a", n+1)
		p.Keep.Messages = 2
		s.publish(p)
	}
	require.Equal(s.t, at, s.cursor("user/a", "r"), "it has missed discarded publications")
	require.Equal(s.t, at, s.cursor("user/a", ""))
	s.ack("user/a", "r", s.all("user/a")[0].Position)
	require.Equal(s.t, []int{3}, s.unread("user/a", "r"))
}

func cursorForward(s *stage) {
	at := s.fill("user/a", 4)
	s.ack("user/a", "r", at[1])
	require.Equal(s.t, at[1], s.cursor("user/a", "r"))
	s.ack("user/a", "r", at[0])
	require.Equal(s.t, at[1], s.cursor("user/a", "r"))
	s.ack("user/a", "r", at[1])
	s.ack("user/a", "r", at[3])
	require.Equal(s.t, at[3], s.cursor("user/a", "r"))
	require.Empty(s.t, s.unread("user/a", "r"))
	s.publish(note("user/a", 5))
	require.Equal(s.t, []int{5}, s.unread("user/a", "r"))
}

func cursorEpoch(s *stage) {
	at := s.fill("user/a", 2)
	for _, epoch := range []string{"x" + at[0].Epoch, ""} {
		other := broker.Position{Epoch: epoch, Offset: at[0].Offset}
		require.ErrorIs(s.t, s.b.Ack(s.t.Context(), "user/a", "r", other), broker.ErrInvalidPosition)
	}
	require.ErrorIs(s.t, s.b.Ack(s.t.Context(), "user/none", "r", at[0]), broker.ErrInvalidPosition)
	require.Zero(s.t, s.cursor("user/a", "r").Offset)
}

func cursorAhead(s *stage) {
	at := s.fill("user/a", 2)[1]
	at.Offset++
	require.ErrorIs(s.t, s.b.Ack(s.t.Context(), "user/a", "r", at), broker.ErrInvalidPosition)
	at.Offset--
	s.ack("user/a", "r", at)
}

func severalReaders(s *stage) {
	at := s.fill("user/a", 4)
	s.cursor("user/a", "late")
	s.ack("user/a", "fast", at[3])
	s.ack("user/a", "slow", at[0])
	require.Equal(s.t, at[3], s.cursor("user/a", "fast"))
	require.Equal(s.t, at[0], s.cursor("user/a", "slow"))
	require.Equal(s.t, []int{2, 3, 4}, s.unread("user/a", "slow"))
	require.Equal(s.t, []int{1, 2, 3, 4}, s.unread("user/a", "late"))
}

func unreadKept(s *stage) {
	at := s.fill("user/a", 4)
	require.Equal(s.t, []int{1, 2, 3, 4}, s.unread("user/a", "slow"))
	s.ack("user/a", "fast", at[3])
	require.Equal(s.t, []int{1, 2, 3, 4}, s.unread("user/a", "slow"))
	s.ack("user/a", "slow", at[2])
	require.Equal(s.t, []int{4}, s.unread("user/a", "slow"))
	s.publish(note("user/a", 5))
	require.Equal(s.t, at[3].Offset, s.prev("user/a"), "the stream continues")
	require.Equal(s.t, []int{5}, s.unread("user/a", "fast"))
}

func manyReaders(s *stage) {
	at := s.fill("user/a", 100)
	for i := range at {
		s.ack("user/a", fmt.Sprint("r", i), at[i])
	}
	for i := range at {
		require.Equal(s.t, at[i], s.cursor("user/a", fmt.Sprint("r", i)))
	}
}

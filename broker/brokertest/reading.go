package brokertest

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func readingRules() []rule {
	return []rule{
		{"a stream that does not exist has an empty page", readNothing},
		{"the oldest come first", forwards},
		{"Backwards puts the newest first", backwards},
		{"After and Before are bounds", bounds},
		{"Limit bounds a page, and More reports the rest", limits},
		{"Bytes bounds a page, after its first publication", pageBytes},
		{"the defaults are 100 and 64 KiB", pageDefaults},
		{"every page has Top and Floor", topAndFloor},
	}
}

func readNothing(s *stage) {
	require.Equal(s.t, broker.Page{}, s.read("room/none", broker.Query{}))
	require.Equal(s.t, broker.Page{}, s.read("room/none", broker.Query{Backwards: true, After: 3}))
}

func forwards(s *stage) {
	at := s.fill("room/a", 5)
	page := s.read("room/a", broker.Query{})
	require.Equal(s.t, []int{1, 2, 3, 4, 5}, numbers(s.t, page.Publications))
	require.Equal(s.t, at[4], page.Top)
	require.False(s.t, page.More)
	require.Zero(s.t, page.Floor)
	require.Empty(s.t, page.Why)
}

func backwards(s *stage) {
	at := s.fill("room/a", 5)
	page := s.read("room/a", broker.Query{Backwards: true})
	require.Equal(s.t, []int{5, 4, 3, 2, 1}, numbers(s.t, page.Publications))
	require.Equal(s.t, at[4], page.Top)
	require.False(s.t, page.More)
}

func bounds(s *stage) {
	at := s.fill("room/a", 5)
	for _, c := range []struct {
		after, before int // the number of a note; zero: no bound
		want          []int
	}{
		{2, 0, []int{3, 4, 5}}, {0, 4, []int{1, 2, 3}}, {1, 4, []int{2, 3}}, {5, 0, nil}, {0, 1, nil},
		{3, 4, nil}, {4, 3, nil}, {3, 3, nil},
	} {
		var q broker.Query
		if c.after > 0 {
			q.After = at[c.after-1].Offset
		}
		if c.before > 0 {
			q.Before = at[c.before-1].Offset
		}
		for range 2 {
			page := s.read("room/a", q)
			require.ElementsMatch(s.t, c.want, numbers(s.t, page.Publications), "%+v", q)
			require.False(s.t, page.More, "%+v", q)
			q.Backwards = true
		}
	}
	far := broker.Query{After: at[4].Offset + 1000}
	require.Empty(s.t, s.read("room/a", far).Publications)
	require.Len(s.t, s.read("room/a", broker.Query{Before: far.After}).Publications, 5)
}

func limits(s *stage) {
	at := s.fill("room/a", 5)
	for _, back := range []bool{false, true} {
		want := []int{1, 2, 3, 4, 5}
		if back {
			slices.Reverse(want)
		}
		for limit := 1; limit <= 6; limit++ {
			page := s.read("room/a", broker.Query{Limit: limit, Backwards: back})
			require.Equal(s.t, want[:min(limit, 5)], numbers(s.t, page.Publications))
			require.Equal(s.t, limit < 5, page.More, "limit %d", limit)
		}
	}
	require.False(s.t, s.read("room/a", broker.Query{Limit: 2, After: at[2].Offset}).More)
	require.True(s.t, s.read("room/a", broker.Query{Limit: 2, After: at[1].Offset}).More)
	require.False(s.t, s.read("room/a", broker.Query{Limit: 2, Before: at[2].Offset}).More)
}

func pageBytes(s *stage) {
	for range 4 {
		p := note("room/a", 1)
		p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		s.publish(p)
	}
	size := s.all("room/a")[0].Size()
	for _, back := range []bool{false, true} {
		for bytes, want := range map[int]int{1: 1, size: 1, 2*size - 1: 1, 2 * size: 2, 4 * size: 4} {
			page := s.read("room/a", broker.Query{Bytes: bytes, Backwards: back})
			require.Len(s.t, page.Publications, want, "%d bytes of %d each", bytes, size)
			require.Equal(s.t, want < 4, page.More)
		}
	}
}

func pageDefaults(s *stage) {
	s.fill("room/a", 101)
	page := s.read("room/a", broker.Query{})
	require.Len(s.t, page.Publications, 100)
	require.True(s.t, page.More)
	for range 3 {
		p := note("room/b", 1)
		p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", 30<<10) + `"`)
		s.publish(p)
	}
	page = s.read("room/b", broker.Query{})
	require.Len(s.t, page.Publications, 2)
	require.True(s.t, page.More)
}

func topAndFloor(s *stage) {
	var top broker.Position
	for i := range 6 {
		p := note("room/a", i)
		p.Keep = broker.Retention{Messages: 3}
		top = s.publish(p).Position
	}
	kept := s.all("room/a")
	for _, q := range []broker.Query{
		{}, {Backwards: true}, {After: top.Offset}, {Before: 1}, {Limit: 1},
		{After: 1, Before: kept[1].Position.Offset},
	} {
		page := s.read("room/a", q)
		require.Equal(s.t, top, page.Top, "%+v", q)
		require.Equal(s.t, kept[0].Prev, page.Floor, "%+v", q)
		require.Equal(s.t, broker.ReasonOverflow, page.Why, "%+v", q)
	}
}

package brokertest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func retentionRules() []rule {
	return []rule{
		{"Keep.Messages bounds the number", keepMessages},
		{"Keep.Bytes bounds the size", keepBytes},
		{"Keep.Age bounds the age", keepAge},
		{"the bounds of the newest publication apply", keepChanges},
		{"with Keep.Messages zero nothing is kept", keepNothing},
		{"other bounds of zero do not apply", keepUnbounded},
		{"publications past their time to live are left out and are no gap", timeToLive},
	}
}

func keepMessages(s *stage) {
	var before []uint64
	for i := 1; i <= 10; i++ {
		p := note("room/a", i)
		p.Keep = broker.Retention{Messages: 3}
		before = append(before, s.publish(p).Position.Offset)
		page := s.read("room/a", broker.Query{})
		require.Len(s.t, page.Publications, min(i, 3))
		if i <= 3 {
			require.Zero(s.t, page.Floor)
			require.Empty(s.t, page.Why)
			continue
		}
		require.Equal(s.t, before[i-4], page.Floor)
		require.Equal(s.t, broker.ReasonOverflow, page.Why)
		require.Equal(s.t, page.Floor, page.Publications[0].Prev)
	}
}

func keepBytes(s *stage) {
	big := func(n int) broker.Publication {
		p := note("room/a", n)
		p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		return p
	}
	p := big(1)
	keep := broker.Retention{Messages: 100, Bytes: 3 * p.Size()}
	for range 5 {
		p := big(1)
		p.Keep = keep
		s.publish(p)
	}
	page := s.read("room/a", broker.Query{})
	require.Len(s.t, page.Publications, 3)
	require.Equal(s.t, page.Publications[0].Prev, page.Floor)
	require.Equal(s.t, broker.ReasonOverflow, page.Why)
}

func keepAge(s *stage) {
	p := note("room/a", 1)
	p.Keep = broker.Retention{Messages: 100, Age: 300 * time.Millisecond}
	before := time.Now()
	at := s.publish(p).Position
	s.within(p.Keep.Age, before, 1)
	s.eventually("it is discarded", func() bool { return len(s.all("room/a")) == 0 })
	page := s.read("room/a", broker.Query{})
	require.Equal(s.t, at, page.Top, "the stream continues")
	require.Equal(s.t, at.Offset, page.Floor)
	require.Equal(s.t, broker.ReasonExpired, page.Why)
	before = time.Now()
	out := s.publish(p)
	require.Equal(s.t, at.Epoch, out.Position.Epoch)
	require.Equal(s.t, at.Offset, s.prev("room/a"))
	s.within(p.Keep.Age, before, 1)
	require.GreaterOrEqual(s.t, s.read("room/a", broker.Query{}).Floor, at.Offset)
}

// within requires that the room has n publications. On a slow machine, where more than age has
// passed since before, some may be gone, and it requires nothing.
func (s *stage) within(age time.Duration, before time.Time, n int) {
	s.t.Helper()
	page := s.read("room/a", broker.Query{})
	if time.Since(before) < age {
		require.Len(s.t, page.Publications, n, "within the age")
	}
}

func keepChanges(s *stage) {
	s.fill("room/a", 10)
	p := note("room/a", 11)
	p.Keep.Messages = 2
	s.publish(p)
	require.Equal(s.t, []int{10, 11}, numbers(s.t, s.all("room/a")))
}

func keepNothing(s *stage) {
	s.subscribe("room/a")
	p := note("room/a", 1)
	p.Keep.Messages = 0
	at := s.publish(p).Position
	require.Len(s.t, s.delivered("room/a"), 1)
	page := s.read("room/a", broker.Query{})
	require.Empty(s.t, page.Publications)
	require.Equal(s.t, at, page.Top)
	require.Equal(s.t, at.Offset, page.Floor)
}

func keepUnbounded(s *stage) {
	for i := range 3 {
		p := note("room/a", i)
		p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", 600<<10) + `"`)
		p.Keep = broker.Retention{Messages: 10}
		s.publish(p)
	}
	page := s.read("room/a", broker.Query{Bytes: 4 << 20})
	require.Len(s.t, page.Publications, 3)
	require.Zero(s.t, page.Floor)
}

func timeToLive(s *stage) {
	const age = 300 * time.Millisecond
	before := time.Now()
	s.publish(note("room/a", 1))
	for n := 2; n <= 3; n++ {
		p := note("room/a", n)
		p.Message.TTL = age
		s.publish(p)
	}
	s.within(age, before, 3)
	s.publish(note("room/a", 4))
	for _, back := range []bool{false, true} {
		q := broker.Query{Backwards: back}
		s.eventually("they are left out", func() bool {
			return len(s.read("room/a", q).Publications) == 2
		})
		page := s.read("room/a", q)
		require.ElementsMatch(s.t, []int{1, 4}, numbers(s.t, page.Publications))
		require.Zero(s.t, page.Floor, "nothing is missing")
		require.Empty(s.t, page.Why)
		q.Limit = 1
		require.True(s.t, s.read("room/a", q).More)
	}
	last := s.all("room/a")[1]
	page := s.read("room/a", broker.Query{Before: last.Position.Offset, Limit: 1})
	require.False(s.t, page.More, "only publications that are left out remain")
}

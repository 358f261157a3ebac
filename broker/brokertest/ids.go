package brokertest

import (
	"strconv"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func idRules() []rule {
	return []rule{
		{"an id is taken once", duplicate},
		{"ids of different senders are different", idOfSender},
		{"ids in different streams are different", idOfStream},
		{"a publication without an id is no duplicate", noID},
		{"senders and ids are not concatenated", idsDoNotMix},
		{"an id is remembered when its publication is not kept", idOutlives},
		{"an id is remembered while 999 others follow", idKept},
		{"an id is remembered for a while, however many follow", idInFlood},
		{"of concurrent repeats one is taken", repeatsAtOnce},
	}
}

// identified returns a note with an id.
func identified(stream, sender, id string) broker.Publication {
	p := note(stream, 1)
	p.Message.Sender, p.Message.ID = sender, id
	return p
}

func duplicate(s *stage) {
	s.subscribe("room/a")
	first := s.publish(identified("room/a", "alice", "1"))
	require.False(s.t, first.Duplicate)
	s.publish(note("room/a", 2))
	again := s.publish(identified("room/a", "alice", "1"))
	require.True(s.t, again.Duplicate)
	require.Equal(s.t, first.Position, again.Position)
	require.Len(s.t, s.delivered("room/a"), 2, "it is not delivered")
	require.Len(s.t, s.all("room/a"), 2, "it is not kept")
}

func idOfSender(s *stage) {
	s.publish(identified("room/a", "alice", "1"))
	require.False(s.t, s.publish(identified("room/a", "bob", "1")).Duplicate)
	require.False(s.t, s.publish(identified("room/a", "", "1")).Duplicate)
	require.True(s.t, s.publish(identified("room/a", "", "1")).Duplicate)
	require.Len(s.t, s.all("room/a"), 3)
	for _, guest := range []string{"alice", "g1", "g2"} {
		p := identified("room/a", "", "1")
		p.Message.Guest = guest
		require.False(s.t, s.publish(p).Duplicate, "of guest %s", guest)
		require.True(s.t, s.publish(p).Duplicate, "of guest %s", guest)
	}
}

func idOfStream(s *stage) {
	s.publish(identified("room/a", "alice", "1"))
	require.False(s.t, s.publish(identified("room/b", "alice", "1")).Duplicate)
}

func noID(s *stage) {
	for range 3 {
		require.False(s.t, s.publish(note("room/a", 1)).Duplicate)
	}
	require.Len(s.t, s.all("room/a"), 3)
}

func idsDoNotMix(s *stage) {
	for _, pair := range [][2]string{
		{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"a/b", "c"}, {"a", "b/c"}, {"a-b", "c"}, {"a", "b-c"},
		{"a:1", "2"}, {"a", "1:2"}, {"1", "a"}, {"\x01a", "b"},
	} {
		require.False(s.t, s.publish(identified("room/a", pair[0], pair[1])).Duplicate, "%q", pair)
	}
}

func idOutlives(s *stage) {
	first := identified("room/a", "alice", "1")
	first.Keep.Messages = 1
	at := s.publish(first).Position
	next := note("room/a", 2)
	next.Keep.Messages = 1
	s.publish(next)
	out := s.publish(first)
	require.True(s.t, out.Duplicate)
	require.Equal(s.t, at, out.Position)
}

func idKept(s *stage) {
	first := s.publish(identified("room/a", "alice", "first"))
	var all sync.WaitGroup
	for worker := range 27 {
		all.Go(func() {
			for i := range 37 { // 999 together
				id := strconv.Itoa(worker) + "-" + strconv.Itoa(i)
				_, _ = s.b.Publish(s.t.Context(), identified("room/a", "alice", id))
			}
		})
	}
	all.Wait()
	require.Len(s.t, s.all("room/a"), 1000)
	out := s.publish(identified("room/a", "alice", "first"))
	require.True(s.t, out.Duplicate)
	require.Equal(s.t, first.Position, out.Position)
}

func repeatsAtOnce(s *stage) {
	s.subscribe("room/a")
	for round := range 10 {
		id := strconv.Itoa(round)
		outs := make([]broker.Published, 16)
		var all sync.WaitGroup
		for i := range outs {
			p := identified("room/a", "alice", id)
			all.Go(func() { outs[i], _ = one(s.b.Publish(s.t.Context(), p)) })
		}
		all.Wait()
		requireTakenOnce(s.t, outs)
		require.Len(s.t, s.delivered("room/a"), round+1)
	}
	require.Len(s.t, s.all("room/a"), 10)
}

// requireTakenOnce requires that of publications with one id, one was taken, and all have its position.
func requireTakenOnce(t require.TestingT, outs []broker.Published) {
	taken := 0
	for _, out := range outs {
		require.Equal(t, outs[0].Position, out.Position)
		if !out.Duplicate {
			taken++
		}
	}
	require.Equal(t, 1, taken)
}

// Another sender uses more than ten thousand ids.
func idInFlood(s *stage) {
	brief := func(sender, id string) broker.Publication {
		p := identified("room/a", sender, id)
		p.Keep.Messages = 1
		return p
	}
	first := s.publish(brief("alice", "first"))
	var all sync.WaitGroup
	for worker := range 505 {
		all.Go(func() {
			for i := range 20 {
				_, _ = s.b.Publish(s.t.Context(), brief("mallory", strconv.Itoa(worker*20+i)))
			}
		})
	}
	all.Wait()
	out := s.publish(brief("alice", "first"))
	require.True(s.t, out.Duplicate)
	require.Equal(s.t, first.Position, out.Position)
}

package brokertest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func shareRules() []rule {
	return []rule{
		{"one sender gets half of a shared stream", halfOfAll},
		{"senders share the free part and displace nothing", sharedByMany},
		{"bytes are shared too", sharedBytes},
		{"a publication that is not Shared displaces the oldest", ownersShare},
		{"acknowledged publications do not count", sharedAndAcked},
		{"publications count until all readers have acknowledged them", sharedByReaders},
		{"expired publications do not count", sharedAndExpired},
		{"expired publications after unacknowledged ones count", sharedAndBuried},
		{"a Full part does not affect the other parts", fullAlone},
		{"a repeat is a duplicate, even if the sender has no share left", fullAndDuplicate},
	}
}

const box = "user/bob"

// shared returns a note to an inbox that keeps ten.
func shared(sender string) broker.Publication {
	p := note(box, 1)
	p.Shared, p.Keep.Messages, p.Message.Sender = true, 10, sender
	return p
}

// offer publishes the result of p that many times, and returns how many were kept.
func (s *stage) offer(times int, p func() broker.Publication) (kept int) {
	s.t.Helper()
	for range times {
		out := s.publish(p())
		require.Equal(s.t, out.Full, out.Position.Epoch == "")
		if !out.Full {
			kept++
		}
	}
	return kept
}

func by(sender string) func() broker.Publication {
	return func() broker.Publication { return shared(sender) }
}

// senders returns the number of kept publications by sender.
func (s *stage) senders() map[string]int {
	n := map[string]int{}
	for _, p := range s.all(box) {
		n[p.Message.Sender+p.Message.Guest]++
	}
	return n
}

func halfOfAll(s *stage) {
	s.subscribe(box)
	require.Equal(s.t, 1, s.offer(1, by("alice")))
	require.Equal(s.t, 5, s.offer(50, by("mallory")))
	require.Equal(s.t, map[string]int{"alice": 1, "mallory": 5}, s.senders())
	require.Len(s.t, s.delivered(box), 6, "a Full publication is not delivered")
	require.Equal(s.t, 2, s.offer(10, by("alice")))
}

func sharedByMany(s *stage) {
	for i := range 20 {
		s.offer(20, by(fmt.Sprint("user", i)))
		s.offer(20, func() broker.Publication {
			p := shared("")
			p.Message.Guest = fmt.Sprint("guest", i)
			return p
		})
	}
	require.Equal(s.t, map[string]int{"user0": 5, "guest0": 3, "user1": 1, "guest1": 1}, s.senders())
	require.Zero(s.t, s.read(box, broker.Query{}).Floor)
}

func sharedBytes(s *stage) {
	large := func(sender string) func() broker.Publication {
		return func() broker.Publication {
			p := shared(sender)
			p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", 5000) + `"`)
			p.Keep.Messages, p.Keep.Bytes = 1000, 10*p.Size()
			return p
		}
	}
	require.Equal(s.t, 1, s.offer(1, large("alicia")))
	require.Equal(s.t, 5, s.offer(20, large("mallor")))
	require.Equal(s.t, 2, s.offer(20, large("alicia")))
	require.Zero(s.t, s.read(box, broker.Query{}).Floor)
}

func ownersShare(s *stage) {
	s.offer(10, by("alice"))
	own := func() broker.Publication {
		p := shared("")
		p.Shared = false
		return p
	}
	require.Equal(s.t, 12, s.offer(12, own))
	require.Equal(s.t, map[string]int{"": 10}, s.senders())
	require.Zero(s.t, s.offer(5, by("alice")))
}

func sharedAndAcked(s *stage) {
	require.Equal(s.t, 5, s.offer(10, by("alice")))
	require.NoError(s.t, s.b.Ack(s.t.Context(), box, "", s.read(box, broker.Query{}).Top))
	require.Equal(s.t, 5, s.offer(10, by("alice")))
	require.Equal(s.t, 3, s.offer(10, by("bob")))
}

func sharedByReaders(s *stage) {
	s.offer(1, by("alice"))
	for _, device := range []string{"phone", "laptop"} {
		_, err := s.b.Cursor(s.t.Context(), box, device)
		require.NoError(s.t, err)
	}
	require.Equal(s.t, 4, s.offer(10, by("alice")))
	top := s.read(box, broker.Query{}).Top
	require.NoError(s.t, s.b.Ack(s.t.Context(), box, "phone", top))
	require.Zero(s.t, s.offer(10, by("alice")))
	top.Offset -= 2
	require.NoError(s.t, s.b.Ack(s.t.Context(), box, "laptop", top))
	require.Equal(s.t, 3, s.offer(10, by("alice")))
}

const briefTime = 50 * time.Millisecond

func brief(sender string) func() broker.Publication {
	return func() broker.Publication {
		p := shared(sender)
		p.Message.TTL = briefTime
		return p
	}
}

func sharedAndExpired(s *stage) {
	began := time.Now()
	if n := s.offer(10, brief("alice")); time.Since(began) < briefTime {
		require.Equal(s.t, 5, n)
	}
	s.eventually("they expire", func() bool { return len(s.all(box)) == 0 })
	require.Equal(s.t, 5, s.offer(10, by("alice")), "expired publications do not count")
}

func sharedAndBuried(s *stage) {
	s.offer(1, by("alice"))
	require.Equal(s.t, 5, s.offer(10, brief("mallory")))
	s.eventually("they expire", func() bool { return len(s.all(box)) == 1 })
	s.offer(50, brief("mallory"))
	s.offer(50, by("eve"))
	require.Equal(s.t, 1, s.senders()["alice"], "others do not displace it")
}

func fullAlone(s *stage) {
	s.subscribe("room/a")
	require.Equal(s.t, 5, s.offer(10, by("alice")))
	other := shared("alice")
	other.Stream = "user/carol"
	out, err := s.b.Publish(s.t.Context(), note("room/a", 1), shared("alice"), other)
	require.NoError(s.t, err)
	require.Equal(s.t, []bool{false, true, false}, []bool{out[0].Full, out[1].Full, out[2].Full})
	require.Zero(s.t, out[1].Position)
	require.Len(s.t, s.delivered("room/a"), 1)
	require.Len(s.t, s.all("user/carol"), 1)
	require.Len(s.t, s.all(box), 5)
}

func fullAndDuplicate(s *stage) {
	first := shared("alice")
	first.Message.ID = "1"
	at := s.publish(first).Position
	s.offer(10, by("alice"))
	out := s.publish(first)
	require.True(s.t, out.Duplicate)
	require.False(s.t, out.Full)
	require.Equal(s.t, at, out.Position)
	next := shared("alice")
	next.Message.ID = "2"
	require.True(s.t, s.publish(next).Full)
	require.NoError(s.t, s.b.Ack(s.t.Context(), box, "", s.read(box, broker.Query{}).Top))
	out = s.publish(next)
	require.False(s.t, out.Full || out.Duplicate, "a refused publication is not a duplicate later")
}

func sharesAgain(s *reopened) {
	s.offer(1, by("alice"))
	require.Equal(s.t, 5, s.offer(10, by("mallory")))
	s.again()
	require.Zero(s.t, s.offer(10, by("mallory")))
	require.Equal(s.t, 2, s.offer(10, by("alice")))
	require.Equal(s.t, map[string]int{"alice": 3, "mallory": 5}, s.senders())
}

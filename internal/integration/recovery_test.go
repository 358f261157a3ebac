package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
)

func TestRecovery(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.sendWords(1, 3)
		r.receive(alice.raw())
		at := r.at
		alice.Drop()
		b.sendWords(4, 90)
		_, r = b.follow("alice", since(at))
		require.Equal(t, words(4, 90), r.takeWords())
		require.Empty(t, r.gaps)
		require.Equal(t, r.top, r.at.Offset)

		b.sendWords(91, 103)
		_, r = b.follow("alice", since(at))
		require.Empty(t, r.gaps, "the first that is kept is the next one")
		require.Equal(t, words(4, 103), r.takeWords())
		b.sendWords(104, 104)
		_, r = b.follow("alice", since(at))
		require.Equal(t, []string{"overflow"}, r.gaps)
		require.Empty(t, r.takeWords())
		_, r = b.follow("alice", since(at)+`,"history":2`)
		require.Equal(t, []string{"overflow"}, r.gaps)
		require.Equal(t, words(103, 104), r.takeWords())

		_, r = b.follow("alice", since(realtime.Position{Epoch: "other", Offset: 3}))
		require.Equal(t, []string{"epoch"}, r.gaps)
		require.Equal(t, words(5, 104), r.takeWords(), "all that is kept")
		_, r = b.follow("alice", since(realtime.Position{Epoch: "other", Offset: 3})+`,"history":2`)
		require.Equal(t, []string{"epoch"}, r.gaps)
		require.Equal(t, words(103, 104), r.takeWords())
		at.Offset = 1000
		_, r = b.follow("alice", since(at))
		require.Equal(t, []string{"ahead"}, r.gaps)
		require.Empty(t, r.takeWords())
	})
}

// A client that is an exception of some messages receives its position, and no gap report for them.
func TestExcludedMessagesAreNoGap(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		bob, rb := b.follow("bob", "")
		for i := range 50 {
			to := realtime.ToRoom("hall")
			if i%10 != 0 {
				to = to.ExceptUser("alice")
			}
			b.news(to, fmt.Sprint(i))
		}
		r.receive(alice.raw())
		rb.receive(bob.raw())
		require.Equal(t, []string{"0", "10", "20", "30", "40"}, r.takeWords())
		require.Len(t, rb.takeWords(), 50)
		at := r.at
		alice.Drop()
		_, r = b.follow("alice", `,"history":100`)
		require.Equal(t, []string{"0", "10", "20", "30", "40"}, r.takeWords(), "not sent later either")
		require.Equal(t, r.top, r.at.Offset)
		_, r = b.follow("alice", since(at))
		require.Empty(t, r.takeWords())
		require.Equal(t, r.top, r.at.Offset)
	})
}

// A client that is an exception of many messages is told its position at times. Otherwise it would
// ask for messages that are no longer kept, and take them for a gap.
func TestManyExcludedMessagesAreNoGap(t *testing.T) {
	bubble(t, keeping(20), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		for i := range 100 {
			b.news(realtime.ToRoom("hall").ExceptUser("alice"), fmt.Sprint(i))
		}
		r.receive(alice.raw())
		alice.Drop()
		_, r = b.follow("alice", since(r.at))
		require.Empty(t, r.gaps)
		require.Empty(t, r.takeWords())
	})
}

// A member that does not read lags, and receives everything at the rate at which it reads.
func TestLaggingMemberCatchesUp(t *testing.T) {
	o := keeping(5000)
	o.Limits.QueueMessages = 20
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, far, realtime.Identity{UserID: "slow"})
		require.NoError(t, far.Write([]byte(`{"type":"join","id":1,"room":"hall"}`)))
		synctest.Wait()
		b.sendWords(1, 3000)
		synctest.Wait()
		slow.unstall()
		r := &streamClient{t: t}
		r.receive(slow.raw()[1:])
		require.Equal(t, words(1, 3000), r.takeWords())
		require.Empty(t, r.gaps)
		b.sendWords(3001, 3001)
		r.receive(slow.raw())
		require.Equal(t, words(3001, 3001), r.takeWords())
	})
}

// A client with 50 rooms and 10,000 missed messages recovers all rooms at once. Its connection is
// not ended, and a room with many messages does not delay the others.
func TestRecoveryOfManyRooms(t *testing.T) {
	const rooms, each = 50, 200
	o := keeping(each)
	o.Limits.QueueMessages, o.Limits.InboundRate = 100, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		var asks []string
		for i := range rooms {
			room := fmt.Sprint("r", i)
			alice.discard()
			var r streamClient
			r.t = t
			r.receive(alice.request(fmt.Sprintf(`{"type":"join","id":1,"room":%q}`, room)))
			asks = append(asks, fmt.Sprintf(`{"type":"join","id":%d,"room":%q%s}`, i, room, since(r.at)))
		}
		alice.Drop()
		for i := range each {
			for k := range rooms {
				b.news(realtime.ToRoom(fmt.Sprint("r", k)), fmt.Sprint("m", i+1))
			}
		}
		alice = b.openV1(realtime.Identity{UserID: "alice"})
		for _, ask := range asks {
			require.NoError(t, alice.Write([]byte(ask)))
		}
		got, most := map[string][]string{}, 0
		for _, text := range alice.raw() {
			var f keptFrame
			require.NoError(t, json.Unmarshal([]byte(text), &f))
			if f.Offset > 0 {
				got[f.Room] = append(got[f.Room], strings.Trim(string(f.Content), `"`))
				most = max(most, len(got[f.Room])-len(got["r0"]))
			}
		}
		require.Nil(t, alice.ended())
		require.Len(t, got, rooms)
		for room, said := range got {
			require.Equal(t, words(1, each), said, room)
		}
		require.Less(t, most, each/2, "the rooms take turns")
	})
}

// In any order of events a member receives each message once and in order, or a gap report.
func TestRecoveryUnderRandomSchedules(t *testing.T) {
	for seed := range schedules() {
		kept := []int{3, 20, 1000}[seed%3]
		o := keeping(kept)
		o.Limits.QueueMessages, o.Limits.InboundRate = 8, -1
		bubble(t, o, func(t *testing.T, b *bed) {
			dice, n := rand.New(rand.NewPCG(seed, 1)), 0
			say := func(most int) {
				k := dice.IntN(most)
				b.sendWords(n+1, n+k)
				n += k
			}
			members := make([]member, 3)
			for i := range members {
				m := &members[i]
				m.user = fmt.Sprint("u", i)
				m.c, m.streamClient = b.follow(m.user, "")
			}
			for range 60 {
				m := &members[dice.IntN(len(members))]
				switch dice.IntN(5) {
				case 0, 1:
					say(12)
				case 2:
					m.listen()
				case 3: // the server detects the loss at once
					m.listen()
					m.c.Drop()
					synctest.Wait()
					say(30)
					m.comeBack(b)
				default: // or after the client is connected again
					m.listen()
					old := m.c
					say(30)
					m.comeBack(b)
					old.Drop()
				}
			}
			for i := range members {
				members[i].listen()
				members[i].requireAll(n, seed)
				if kept == 1000 {
					require.Empty(t, members[i].gaps, "all is kept")
				}
			}
		})
	}
}

// A client without permission to read history may join, and gets a gap report.
func TestRecoveryNeedsPermission(t *testing.T) {
	o := keeping(100)
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionHistory {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 3)
		_, r := b.follow("alice", "")
		at := realtime.Position{Epoch: r.at.Epoch}
		alice, r := b.follow("alice", since(at))
		require.Empty(t, r.takeWords())
		require.Equal(t, []string{"unknown"}, r.gaps)
		b.sendWords(4, 4)
		r.receive(alice.raw())
		require.Equal(t, words(4, 4), r.takeWords())
	})
}

// A member that joins again continues at its position, and is told later of messages that excluded
// it.
func TestRejoinAfterExcludedMessages(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.sendWords(1, 1)
		b.news(realtime.ToRoom("hall").ExceptUser("alice"), "not for alice")
		r.receive(alice.raw())
		r.receive(alice.request(`{"type":"join","id":2,"room":"hall"}`))
		require.Equal(t, uint64(1), r.at.Offset)
		b.sendWords(3, 3)
		r.receive(alice.raw())
		require.Equal(t, []string{"m1", "m3"}, r.takeWords())
	})
}

// More messages arrive during the end of a backfill than the send queue takes. The connection stays
// open, also with SlowDisconnect.
func TestBackfillEndsNoConnection(t *testing.T) {
	o := keeping(1000)
	o.Limits.QueueMessages, o.Slow = 16, realtime.SlowDisconnect
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 3)
		fb.afterNext("read", func() { // of the join
			fb.afterNext("read", func() {
				b.sendWords(4, 4)
				fb.afterNext("read", func() { b.sendWords(5, 40) })
			})
		})
		alice, r := b.follow("alice", `,"history":3`)
		require.Nil(t, alice.ended())
		require.Equal(t, words(1, 40), r.takeWords())
	})
}

// A message of a process with larger queues is kept, but exceeds QueueBytes of this one.
func TestKeptMessageAboveQueueBytes(t *testing.T) {
	o := keeping(100)
	o.Limits.QueueBytes = 8 << 10
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 1)
		_, err := fb.Broker.Publish(t.Context(), broker.Publication{
			Stream: hall, Target: broker.Target{Rooms: []string{"hall"}}, Keep: broker.Retention{Messages: 100, Bytes: 1 << 20},
			Message: broker.Message{Type: "news", Content: []byte(`"` + strings.Repeat("x", 8<<10) + `"`)},
		})
		require.NoError(t, err)
		b.sendWords(3, 3)
		reads := 0
		fb.page = func(*broker.Page) {
			if reads++; reads > 20 {
				panic("it reads without end")
			}
		}
		_, r := b.follow("alice", `,"history":5`)
		require.Equal(t, []string{"m1", "m3"}, r.takeWords())
		require.Equal(t, []span{{1, 2}}, r.spans, "a gap report")
	})
}

// member is a client in a random schedule. It is lost and recovers.
type member struct {
	*streamClient
	c    *client
	user string
}

// listen processes the frames since the last call.
func (m *member) listen() { m.receive(m.c.raw()) }

// comeBack connects again and recovers.
func (m *member) comeBack(b *bed) {
	m.c = b.openV1(realtime.Identity{UserID: m.user})
	m.c.discard()
	m.receive(m.c.request(`{"type":"join","id":1,"room":"hall"` + since(m.at) + `}`))
}

// requireAll checks that each message up to n was received once and in order, except those in
// reported gaps.
func (m *member) requireAll(n int, seed uint64) {
	var want []string
	for offset := uint64(1); offset <= uint64(n); offset++ {
		if !slices.ContainsFunc(m.spans, func(s span) bool { return s.from < offset && offset <= s.to }) {
			want = append(want, fmt.Sprint("m", offset))
		}
	}
	require.Equal(m.t, want, m.words, "seed %d, %s, gaps %v", seed, m.user, m.spans)
}

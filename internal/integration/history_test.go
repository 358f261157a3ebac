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
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/memory"
)

// keeping are Options whose rooms keep so many messages.
func keeping(n int) realtime.Options {
	return realtime.Options{History: realtime.Retention{Messages: n}}
}

// keptFrame is what a client of realtime.v1 gets of a room that keeps history.
type keptFrame struct {
	Type    string          `json:"message_type"`
	Content json.RawMessage `json:"content"`
	Room    string          `json:"room"`
	Offset  uint64          `json:"offset"`
	Prev    uint64          `json:"prev"`
	Epoch   string          `json:"epoch"`
	From    uint64          `json:"from"`
	To      uint64          `json:"to"`
	Reason  string          `json:"reason"`
	Lost    *bool           `json:"recovered"`
}

// reader follows one room as a client does, and fails if its positions do not fit.
type reader struct {
	t     *testing.T
	at    realtime.Position
	top   uint64
	words []string
	gaps  []string
	spans []span // where something is missing
}

// span is the offsets behind from, up to to.
type span struct{ from, to uint64 }

func (r *reader) gap(to uint64, why string) {
	r.gaps = append(r.gaps, why)
	r.spans = append(r.spans, span{r.at.Offset, to})
}

// answer is the content of the answer to a join.
type joinAnswer struct {
	Epoch     string `json:"epoch"`
	Offset    uint64 `json:"offset"`
	Top       uint64 `json:"top"`
	Recovered *bool  `json:"recovered"`
	Reason    string `json:"reason"`
}

// hear takes in what came.
func (r *reader) hear(frames []string) {
	r.t.Helper()
	for _, text := range frames {
		var f keptFrame
		text = strings.Replace(text, `"timestamp":T`, `"timestamp":0`, 1)
		require.NoError(r.t, json.Unmarshal([]byte(text), &f), "%s", text)
		switch {
		case f.Type == "welcome":
			var w struct{ Inbox joinAnswer }
			require.NoError(r.t, json.Unmarshal(f.Content, &w))
			r.at, r.top = realtime.Position{Epoch: w.Inbox.Epoch, Offset: w.Inbox.Offset}, w.Inbox.Top
		case f.Type == "reply" && len(f.Content) > 0:
			var a joinAnswer
			require.NoError(r.t, json.Unmarshal(f.Content, &a))
			if a.Recovered != nil && !*a.Recovered {
				r.gap(a.Offset, a.Reason)
			}
			r.at, r.top = realtime.Position{Epoch: a.Epoch, Offset: a.Offset}, a.Top
		case f.Type == "position":
			require.Equal(r.t, r.at.Epoch, f.Epoch, "%s", text)
			require.Greater(r.t, f.Offset, r.at.Offset, "%s", text)
			if f.Lost != nil {
				r.gap(f.Offset, f.Reason)
			}
			r.at.Offset = f.Offset
		case f.Type == "skipped":
			require.Equal(r.t, r.at.Offset, f.From, "%s", text)
			r.gap(f.To, f.Reason)
			r.at.Offset = f.To
		case f.Offset > 0:
			require.Equal(r.t, r.at, realtime.Position{Epoch: f.Epoch, Offset: f.Prev}, "a hole in front of %s", text)
			r.at.Offset = f.Offset
			r.words = append(r.words, strings.Trim(string(f.Content), `"`))
		}
	}
}

// said returns what has come since the last call.
func (r *reader) said() []string {
	words := r.words
	r.words = nil
	return words
}

func (b *bed) follow(user, how string) (*client, *reader) {
	b.t.Helper()
	c := b.openV1(realtime.Identity{UserID: user})
	c.hush()
	r := &reader{t: b.t}
	r.hear(c.asks(`{"type":"join","id":1,"room":"hall"` + how + `}`))
	return c, r
}

func since(at realtime.Position) string {
	return fmt.Sprintf(`,"since":{"epoch":%q,"offset":%d}`, at.Epoch, at.Offset)
}

func words(from, to int) (words []string) {
	for i := from; i <= to; i++ {
		words = append(words, fmt.Sprint("m", i))
	}
	return words
}

func (b *bed) tell(from, to int) {
	b.t.Helper()
	for i := from; i <= to; i++ {
		res := b.news(realtime.ToRoom("hall"), fmt.Sprint("m", i))
		require.Equal(b.t, 1, res.Kept)
	}
}

func TestHistoryAtJoin(t *testing.T) {
	bubble(t, keeping(5), func(t *testing.T, b *bed) {
		b.tell(1, 3)
		alice, r := b.follow("alice", "")
		require.Empty(t, r.said(), "who does not ask gets what comes from now on")
		b.tell(4, 5)
		r.hear(alice.raw())
		require.Equal(t, words(4, 5), r.said())

		_, r = b.follow("bob", `,"history":2`)
		require.Equal(t, words(4, 5), r.said())
		_, r = b.follow("carol", `,"history":1000`)
		require.Equal(t, words(1, 5), r.said())
		b.tell(6, 7)
		_, r = b.follow("dave", `,"history":1000`)
		require.Equal(t, words(3, 7), r.said(), "the room keeps five")
	})
}

func TestRecovery(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.tell(1, 3)
		r.hear(alice.raw())
		at := r.at
		alice.Drop()
		b.tell(4, 90)
		_, r = b.follow("alice", since(at))
		require.Equal(t, words(4, 90), r.said())
		require.Empty(t, r.gaps)
		require.Equal(t, r.top, r.at.Offset)

		b.tell(91, 103)
		_, r = b.follow("alice", since(at))
		require.Empty(t, r.gaps, "the first that is kept is the next one")
		require.Equal(t, words(4, 103), r.said())
		b.tell(104, 104)
		_, r = b.follow("alice", since(at))
		require.Equal(t, []string{"overflow"}, r.gaps)
		require.Empty(t, r.said())
		_, r = b.follow("alice", since(at)+`,"history":2`)
		require.Equal(t, []string{"overflow"}, r.gaps)
		require.Equal(t, words(103, 104), r.said())

		_, r = b.follow("alice", since(realtime.Position{Epoch: "other", Offset: 3}))
		require.Equal(t, []string{"epoch"}, r.gaps)
		require.Equal(t, words(5, 104), r.said(), "all that is kept")
		_, r = b.follow("alice", since(realtime.Position{Epoch: "other", Offset: 3})+`,"history":2`)
		require.Equal(t, []string{"epoch"}, r.gaps)
		require.Equal(t, words(103, 104), r.said())
		at.Offset = 1000
		_, r = b.follow("alice", since(at))
		require.Equal(t, []string{"ahead"}, r.gaps)
		require.Empty(t, r.said())
	})
}

// Who is left out is told where he is, and nothing looks like a gap.
func TestLeftOutIsNoGap(t *testing.T) {
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
		r.hear(alice.raw())
		rb.hear(bob.raw())
		require.Equal(t, []string{"0", "10", "20", "30", "40"}, r.said())
		require.Len(t, rb.said(), 50)
		at := r.at
		alice.Drop()
		_, r = b.follow("alice", `,"history":100`)
		require.Equal(t, []string{"0", "10", "20", "30", "40"}, r.said(), "nor is he given it later")
		require.Equal(t, r.top, r.at.Offset)
		_, r = b.follow("alice", since(at))
		require.Empty(t, r.said())
		require.Equal(t, r.top, r.at.Offset)
	})
}

// A member who does not read falls behind and gets everything, as fast as he reads.
func TestSlowMemberCatchesUp(t *testing.T) {
	o := keeping(5000)
	o.QueueMessages = 20
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, far, realtime.Identity{UserID: "slow"})
		require.NoError(t, far.Write([]byte(`{"type":"join","id":1,"room":"hall"}`)))
		synctest.Wait()
		b.tell(1, 3000)
		synctest.Wait()
		slow.unstall()
		r := &reader{t: t}
		r.hear(slow.raw()[1:])
		require.Equal(t, words(1, 3000), r.said())
		require.Empty(t, r.gaps)
		b.tell(3001, 3001)
		r.hear(slow.raw())
		require.Equal(t, words(3001, 3001), r.said())
	})
}

func TestDuplicatesInAStream(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		m := realtime.Message{Type: "news", ID: "1", Content: json.RawMessage(`"once"`)}
		first, err := b.Send(t.Context(), realtime.ToRoom("hall"), m)
		require.NoError(t, err)
		again, err := b.Send(t.Context(), realtime.ToRoom("hall"), m)
		require.NoError(t, err)
		require.True(t, again.Duplicate)
		require.Equal(t, first.Position, again.Position)
		require.Zero(t, again.Kept)
		r.hear(alice.raw())
		require.Equal(t, []string{"once"}, r.said())
	})
}

// member is somebody in a schedule: a client that is lost and comes back to where it was.
type member struct {
	*reader
	c    *client
	user string
}

// listen takes in what has come.
func (m *member) listen() { m.hear(m.c.raw()) }

// comeBack comes back after a loss.
func (m *member) comeBack(b *bed) {
	m.c = b.openV1(realtime.Identity{UserID: m.user})
	m.c.hush()
	m.hear(m.c.asks(`{"type":"join","id":1,"room":"hall"` + since(m.at) + `}`))
}

// requireAll checks that each message up to n came once and in order, but for those that the member
// was told are missing.
func (m *member) requireAll(n int, seed uint64) {
	var want []string
	for offset := uint64(1); offset <= uint64(n); offset++ {
		if !slices.ContainsFunc(m.spans, func(s span) bool { return s.from < offset && offset <= s.to }) {
			want = append(want, fmt.Sprint("m", offset))
		}
	}
	require.Equal(m.t, want, m.words, "seed %d, %s, gaps %v", seed, m.user, m.spans)
}

// A client with 50 rooms and 10,000 missed messages asks for all at once. It is neither flooded nor
// ended, and a room with much does not keep the others waiting.
func TestRecoveryOfManyRooms(t *testing.T) {
	const rooms, each = 50, 200
	o := keeping(each)
	o.QueueMessages, o.InboundRate = 100, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		var asks []string
		for i := range rooms {
			room := fmt.Sprint("r", i)
			alice.hush()
			var r reader
			r.t = t
			r.hear(alice.asks(fmt.Sprintf(`{"type":"join","id":1,"room":%q}`, room)))
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
		require.Less(t, most, each/2, "they take turns")
	})
}

// Under any order of events a member gets everything once and in order, or is told of what is
// missing.
func TestRecoveryUnderRandomSchedules(t *testing.T) {
	for seed := range schedules() {
		kept := []int{3, 20, 1000}[seed%3]
		o := keeping(kept)
		o.QueueMessages, o.InboundRate = 8, -1
		bubble(t, o, func(t *testing.T, b *bed) {
			dice, n := rand.New(rand.NewPCG(seed, 1)), 0
			say := func(most int) {
				k := dice.IntN(most)
				b.tell(n+1, n+k)
				n += k
			}
			members := make([]member, 3)
			for i := range members {
				m := &members[i]
				m.user = fmt.Sprint("u", i)
				m.c, m.reader = b.follow(m.user, "")
			}
			for range 60 {
				m := &members[dice.IntN(len(members))]
				switch dice.IntN(5) {
				case 0, 1:
					say(12)
				case 2:
					m.listen()
				case 3: // the loss is noticed at once
					m.listen()
					m.c.Drop()
					synctest.Wait()
					say(30)
					m.comeBack(b)
				default: // or when it has come back
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

// A join that asks for history counts like a message to so many: it can be asked for again and
// again.
func TestHistoryAtJoinHasItsPrice(t *testing.T) {
	o := keeping(100)
	o.InboundFanout = 10
	bubble(t, o, func(t *testing.T, b *bed) {
		b.tell(1, 100)
		alice, r := b.follow("alice", `,"history":100`)
		require.Equal(t, words(1, 100), r.said())
		start := time.Now()
		for range 3 {
			require.NoError(t, alice.Write([]byte(`{"type":"join","id":1,"room":"hall","history":100}`)))
		}
		for answers := 0; answers < 3; time.Sleep(time.Second) {
			for _, frame := range alice.raw() {
				if strings.Contains(frame, `"reply"`) {
					answers++
				}
			}
		}
		require.Greater(t, time.Since(start), 5*time.Second)
	})
}

// Who may not read history may join, and is told that something may be missing.
func TestRecoveryNeedsLeave(t *testing.T) {
	o := keeping(100)
	o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionHistory {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.tell(1, 3)
		_, r := b.follow("alice", "")
		at := realtime.Position{Epoch: r.at.Epoch}
		alice, r := b.follow("alice", since(at))
		require.Empty(t, r.said())
		require.Equal(t, []string{"unknown"}, r.gaps)
		b.tell(4, 4)
		r.hear(alice.raw())
		require.Equal(t, words(4, 4), r.said())
	})
}

// A page has something on it, if there is anything for the one who asks.
func TestHistoryBehindWhatIsForOthers(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		b.tell(1, 2)
		for range 30 {
			b.news(realtime.ToRoom("hall").ExceptUser("alice"), "not for alice")
		}
		b.tell(33, 33)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		ask := func(how string) string {
			return alice.asks(`{"type":"history","id":1,"room":"hall","limit":3` + how + `}`)[0]
		}
		require.Contains(t, ask(`,"before":33`), `"m2"`)
		require.Contains(t, ask(`,"after":2`), `"m33"`)
		require.NotContains(t, ask(`,"before":33`), "not for")
		require.Contains(t, ask(`,"after":33`), `"more":false,"messages":[]`)
	})
}

// Who knows an empty room is in front of its first message.
func TestHistoryFromTheFirstOn(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		b.tell(1, 5)
		page := alice.asks(`{"type":"history","id":1,"room":"hall","limit":2,"after":0}`)[0]
		require.Contains(t, page, `"more":true`)
		require.Contains(t, page, `"m1"`)
		require.NotContains(t, page, `"m5"`)
	})
}

// Who joins again is where he knows to be, and is told later of what he was left out of.
func TestJoinAgainBehindWhatWasForOthers(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.tell(1, 1)
		b.news(realtime.ToRoom("hall").ExceptUser("alice"), "not for alice")
		r.hear(alice.raw())
		r.hear(alice.asks(`{"type":"join","id":2,"room":"hall"}`))
		require.Equal(t, uint64(1), r.at.Offset)
		b.tell(3, 3)
		r.hear(alice.raw())
		require.Equal(t, []string{"m1", "m3"}, r.said())
	})
}

func TestTwoManagersOfOneBroker(t *testing.T) {
	o := keeping(10)
	o.Broker = memory.New(nil)
	bubble(t, o, func(t *testing.T, b *bed) {
		synctest.Wait() // the broker is its
		other := newBed(t, o)
		_, err := other.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{})
		require.ErrorContains(t, err, "serves another Manager")
		require.NoError(t, other.Close())
		require.Equal(t, 1, b.news(realtime.ToRoom("hall"), "still here").Kept)
	})
}

// A part of the history is asked for from either side, and a position that is none is refused.
func TestHistoryQuery(t *testing.T) {
	bubble(t, keeping(3), func(t *testing.T, b *bed) {
		b.tell(1, 5) // two of them are not kept any more
		room := b.Room("hall")
		ask := func(q realtime.HistoryQuery) (offsets []uint64, h realtime.History) {
			h, err := room.History(t.Context(), q)
			require.NoError(t, err)
			for _, m := range h.Messages {
				offsets = append(offsets, m.Position.Offset)
				require.Equal(t, realtime.ToRoom("hall"), m.Target)
			}
			return offsets, h
		}
		got, h := ask(realtime.HistoryQuery{})
		require.Equal(t, []uint64{3, 4, 5}, got)
		require.False(t, h.More)
		require.EqualValues(t, 5, h.Top.Offset)
		at := func(offset uint64) realtime.Position {
			return realtime.Position{Epoch: h.Top.Epoch, Offset: offset}
		}
		got, page := ask(realtime.HistoryQuery{Limit: 1, Before: at(5)})
		require.Equal(t, []uint64{4}, got)
		require.True(t, page.More)
		got, page = ask(realtime.HistoryQuery{After: at(3)})
		require.Equal(t, []uint64{4, 5}, got)
		require.Empty(t, page.Missing)
		got, page = ask(realtime.HistoryQuery{After: at(1), Limit: 1})
		require.Equal(t, []uint64{3}, got)
		require.Equal(t, realtime.ReasonOverflow, page.Missing)
		for _, no := range []realtime.Position{at(6), {Epoch: "other", Offset: 3}} {
			for _, q := range []realtime.HistoryQuery{{Before: no}, {After: no}} {
				_, err := room.History(t.Context(), q)
				require.ErrorIs(t, err, realtime.ErrPosition)
			}
		}
	})
}

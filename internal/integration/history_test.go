package integration_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestHistoryAtJoin(t *testing.T) {
	bubble(t, keeping(5), func(t *testing.T, b *bed) {
		b.sendWords(1, 3)
		alice, r := b.follow("alice", "")
		require.Empty(t, r.takeWords(), "without a request for history, only new messages arrive")
		b.sendWords(4, 5)
		r.receive(alice.raw())
		require.Equal(t, words(4, 5), r.takeWords())

		_, r = b.follow("bob", `,"history":2`)
		require.Equal(t, words(4, 5), r.takeWords())
		_, r = b.follow("carol", `,"history":1000`)
		require.Equal(t, words(1, 5), r.takeWords())
		b.sendWords(6, 7)
		_, r = b.follow("dave", `,"history":1000`)
		require.Equal(t, words(3, 7), r.takeWords(), "the room keeps five")
	})
}

// A page is empty only if the stream has no message for the client in that direction.
func TestHistoryPagesSkipExcludedMessages(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		b.sendWords(1, 2)
		for range 30 {
			b.news(realtime.ToRoom("hall").ExceptUser("alice"), "not for alice")
		}
		b.sendWords(33, 33)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		ask := func(how string) string {
			return alice.request(`{"type":"history","id":1,"room":"hall","limit":3` + how + `}`)[0]
		}
		require.Contains(t, ask(`,"before":33`), `"m2"`)
		require.Contains(t, ask(`,"after":2`), `"m33"`)
		require.NotContains(t, ask(`,"before":33`), "not for")
		require.Contains(t, ask(`,"after":33`), `"more":false,"messages":[]`)
	})
}

// A client that has seen an empty room can ask for everything after offset 0.
func TestHistoryAfterOffsetZero(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		b.sendWords(1, 5)
		page := alice.request(`{"type":"history","id":1,"room":"hall","limit":2,"after":0}`)[0]
		require.Contains(t, page, `"more":true`)
		require.Contains(t, page, `"m1"`)
		require.NotContains(t, page, `"m5"`)
	})
}

// History can be read in both directions. An invalid position is refused.
func TestHistoryQuery(t *testing.T) {
	bubble(t, keeping(3), func(t *testing.T, b *bed) {
		b.sendWords(1, 5) // the room keeps the last three
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
				require.ErrorIs(t, err, realtime.ErrInvalidPosition)
			}
		}
	})
}

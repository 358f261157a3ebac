package client_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

func TestJoinFrom(t *testing.T) {
	for name, test := range map[string]struct {
		from      realtime.From
		request   string
		answer    string
		got       []string
		recovered []string
	}{
		"last": {
			realtime.From{Last: 2}, `{"type":"join","room":"lobby","history":2}`,
			`{"epoch":"r1","offset":5,"top":9}`, []string{chat(7), chat(9), chat(10)}, []string{},
		},
		"since": {
			realtime.From{Since: realtime.Position{Epoch: "r1", Offset: 5}}, joinLobby5,
			`{"epoch":"r1","offset":5,"top":9,"recovered":true}`, []string{chat(7), chat(9), chat(10)},
			[]string{"lobby 2"},
		},
		"since, or last": {
			realtime.From{Last: 2, Since: realtime.Position{Epoch: "r0", Offset: 80}},
			`{"type":"join","room":"lobby","history":2,"since":{"epoch":"r0","offset":80}}`,
			`{"epoch":"r1","offset":5,"top":9,"recovered":false,"reason":"epoch"}`,
			[]string{"gap lobby epoch 80-5", chat(7), chat(9), chat(10)}, []string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, greeted(t, empty, func(s *stage, n int) {
				if n == 1 {
					s.expects(test.request)
					return
				}
				if n == 2 { // the first was not answered
					join := s.expects(test.request)
					s.kept(9, 7) // comes again
					s.answers(join, test.answer)
					s.kept(7, 5, 9, 7, 10, 9)
					s.answers(s.expects(test.request), `{"epoch":"r1","offset":7,"top":10}`) // changes nothing
					s.kept(9, 7, 10, 9)
					s.hears()
					return
				}
				s.expects(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":10}}`)
				s.lasts()
			}), func(t *testing.T, w *world) {
				alice := w.dial("alice")
				for range 2 {
					require.NoError(t, alice.JoinFrom(t.Context(), "lobby", test.from))
				}
				require.Equal(t, test.got, alice.got())
				require.Equal(t, test.recovered, alice.recovered())
				w.cut()
				alice.back()
				require.Empty(t, alice.got())
			})
		})
	}
}

// A join that is on its way when a leave is answered counts, also over the next connection.
func TestJoinBehindLeave(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		if n == 1 {
			s.answers(s.expects(joinLobby), at5)
			leave, join := s.expects(`{"type":"leave","room":"lobby"}`), s.expects(joinLobby)
			s.replies(leave)
			s.answers(join, `{"epoch":"r1","offset":8,"top":8}`)
			s.kept(9, 8)
			return
		}
		s.answers(s.expects(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":9}}`), at5)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.read.Go(func() { _ = alice.Leave(t.Context(), "lobby") })
		synctest.Wait()
		alice.join("lobby")
		alice.back()
		require.Equal(t, []string{chat(9), "gap lobby unknown 9-5"}, alice.got())
	})
}

// Who joins, leaves and joins begins anew.
func TestJoinAnew(t *testing.T) {
	lobby(t, func(s *stage) {
		s.kept(7, 5)
		s.replies(s.expects(`{"type":"leave","room":"lobby"}`))
		s.answers(s.expects(joinLobby), `{"epoch":"r1","offset":8,"top":8}`)
		s.kept(9, 8)
	})(func(t *testing.T, _ *world, alice *rig) {
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		alice.join("lobby")
		require.Equal(t, []string{chat(7), chat(9)}, alice.got())
	})
}

// What comes of a room into which the application has put the client, while it asks to be let in
// itself, does not come again, unless it asks for what was before.
func TestJoinOfRoomOfTheApplication(t *testing.T) {
	for last, want := range map[int][]string{
		0: {chat(7), chat(9), chat(10)}, 1: {chat(7), chat(9), chat(10)}, 2: {chat(7), chat(7), chat(9), chat(10)},
	} {
		served(t, greeted(t, empty, func(s *stage, _ int) {
			s.kept(7, 5)
			join := s.hears()
			s.kept(9, 7)
			s.answers(join, fmt.Sprintf(`{"epoch":"r1","offset":%d,"top":9}`, []int{9, 7, 5}[last]))
			s.kept([]int{7, 5, 9, 7, 10, 9}[4-2*last:]...)
			s.lasts()
		}), func(t *testing.T, w *world) {
			alice := w.dial("alice")
			require.Equal(t, []string{chat(7)}, alice.got())
			require.NoError(t, alice.JoinFrom(t.Context(), "lobby", realtime.From{Last: last}))
			require.Equal(t, want[1:], alice.got())
		})
	}
}

// Of a room that the client did not join itself it knows no positions. What has no id and comes
// twice is known by its place all the same.
func TestRoomOfTheApplication(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		s.kept(7, 5, 9, 8, 9, 8)
		s.keptIn(`"room":"hall",`, "r1", 9, 8, 9, 8)
		s.keptIn(`"room":"lobby",`, "r2", 9, 8, 9, 8)
		if n == 2 {
			s.kept(10, 9)
			s.lasts()
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.back()
		require.Equal(t, []string{
			chat(7), chat(9), "bob@hall: 9", chat(9), chat(10),
		}, alice.got())
	})
}

func TestHistory(t *testing.T) {
	page := `{"epoch":"r1","top":9,"more":true,"messages":[` +
		`{"message_type":"chat","sender_id":"bob","content":7,"timestamp":1,"id":"m","room":"lobby",` +
		`"offset":7,"prev":5,"epoch":"r1"}]}`
	lobby(t, func(s *stage) {
		s.answers(s.expects(`{"type":"history","room":"lobby"}`), page)
		s.answers(s.expects(`{"type":"history","room":"lobby","limit":2,"before":7,"epoch":"r1"}`), `{"epoch":"r1"}`)
		s.answers(s.expects(`{"type":"history","room":"lobby","after":7,"epoch":"r1"}`), `7`)
		s.answers(s.expects(`{"type":"history","room":"lobby","after":0,"epoch":"r1"}`), page)
		s.refuses(s.hears(), "no_history")
	})(func(t *testing.T, _ *world, alice *rig) {
		got, err := alice.History(t.Context(), "lobby", client.HistoryQuery{})
		require.NoError(t, err)
		require.True(t, got.More)
		require.Equal(t, realtime.Position{Epoch: "r1", Offset: 9}, got.Top)
		require.Len(t, got.Messages, 1)
		oldest := got.Messages[0]
		require.Equal(t, chat(7), shorthand(oldest, nil))

		got, err = alice.History(t.Context(), "lobby", client.HistoryQuery{Limit: 2, Before: oldest.Position})
		require.NoError(t, err)
		require.Equal(t, client.History{Top: realtime.Position{Epoch: "r1"}}, got)
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{After: oldest.Position})
		require.ErrorContains(t, err, "history")
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{After: realtime.Position{Epoch: "r1"}})
		require.NoError(t, err)
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{})
		require.Equal(t, "no_history", code(err))
		_, err = alice.History(t.Context(), "", client.HistoryQuery{})
		require.ErrorIs(t, err, realtime.ErrName)
		require.Empty(t, alice.got(), "it is nothing that came")
	})
}

func TestReceipts(t *testing.T) {
	served(t, play(t, func(s *stage, _ int) {
		for _, content := range []string{
			`{"offset":9,"epoch":"r1"}`, `{"kept":true,"queued":2}`, `{"duplicate":true}`, `{}`, `[]`,
		} {
			send := s.hears()
			require.Contains(t, send.raw, `"key":"k","ttl_ms":1501,"receipt":true`)
			s.answers(send, content)
		}
		s.replies(s.hears())
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		msg := realtime.Message{Key: "k", TTL: 1500*time.Millisecond + 1}
		for _, want := range []client.Receipt{
			{Position: realtime.Position{Epoch: "r1", Offset: 9}}, {Kept: true, Queued: 2}, {Duplicate: true}, {},
		} {
			got, err := alice.SendReceipt(t.Context(), realtime.ToRoom("lobby"), msg)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err := alice.SendReceipt(t.Context(), realtime.ToRoom("lobby"), msg)
		require.ErrorContains(t, err, "receipt")
		got, err := alice.SendReceipt(t.Context(), realtime.ToRoom("lobby"), msg)
		require.NoError(t, err)
		require.Zero(t, got, "the application has decided")
		_, err = alice.SendReceipt(t.Context(), realtime.ToAll(), realtime.Message{Key: "\n"})
		require.ErrorIs(t, err, realtime.ErrName)
	})
}

// Who comes to a room anew and asks for what was said gets it, also what he has had before.
func TestLeaveAndComeAgain(t *testing.T) {
	bubble(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *world) {
		alice, bob := w.dial("alice"), w.dial("bob")
		require.NoError(t, bob.say("lobby", "hi"))
		for range 2 {
			require.NoError(t, alice.JoinFrom(t.Context(), "lobby", realtime.From{Last: 5}))
			require.NoError(t, bob.say("lobby", "there"))
			synctest.Wait() // who leaves gets no more of it
			require.NoError(t, alice.Leave(t.Context(), "lobby"))
		}
		require.Equal(t, []string{
			`bob@lobby: "hi"`, `bob@lobby: "there"`, `bob@lobby: "hi"`, `bob@lobby: "there"`, `bob@lobby: "there"`,
		}, alice.got())
	})
}

// So does who asks for it from a position on.
func TestLeaveAndComeAgainSince(t *testing.T) {
	bubble(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *world) {
		alice, bob := w.dial("alice"), w.dial("bob")
		alice.join("lobby")
		hi, err := bob.SendReceipt(t.Context(), realtime.ToRoom("lobby"), realtime.Message{Content: []byte(`"hi"`)})
		require.NoError(t, err)
		require.NoError(t, bob.say("lobby", "there"))
		require.Equal(t, []string{`bob@lobby: "hi"`, `bob@lobby: "there"`}, alice.got())
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		require.NoError(t, alice.JoinFrom(t.Context(), "lobby", realtime.From{Since: hi.Position}))
		require.Equal(t, []string{`bob@lobby: "there"`}, alice.got())
		require.Equal(t, []string{"lobby 1"}, alice.recovered())
	})
}

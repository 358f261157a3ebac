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

func TestJoinWithHistory(t *testing.T) {
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
			withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
				if n == 1 {
					s.expect(test.request)
					return
				}
				if n == 2 { // the first request was not answered
					join := s.expect(test.request)
					s.sendKept(9, 7) // sent again below
					s.reply(join, test.answer)
					s.sendKept(7, 5, 9, 7, 10, 9)
					s.reply(s.expect(test.request), `{"epoch":"r1","offset":7,"top":10}`) // has no effect
					s.sendKept(9, 7, 10, 9)
					s.receive()
					return
				}
				s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":10}}`)
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				for range 2 {
					require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: test.from}))
				}
				require.Equal(t, test.got, alice.received())
				require.Equal(t, test.recovered, alice.takeRecoveries())
				w.cutAll()
				alice.awaitReconnect()
				require.Empty(t, alice.received())
			})
		})
	}
}

// TestJoinDuringLeave tests that a join that was sent before a leave is answered makes the client a
// member, also over the next connection.
func TestJoinDuringLeave(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		if n == 1 {
			s.reply(s.expect(joinLobby), at5)
			leave, join := s.expect(`{"type":"leave","room":"lobby"}`), s.expect(joinLobby)
			s.replyEmpty(leave)
			s.reply(join, `{"epoch":"r1","offset":8,"top":8}`)
			s.sendKept(9, 8)
			return
		}
		s.reply(s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":9}}`), at5)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.reading.Go(func() { _ = alice.Leave(t.Context(), "lobby") })
		synctest.Wait()
		alice.join("lobby")
		alice.awaitReconnect()
		require.Equal(t, []string{chat(9), "gap lobby unknown 9-5"}, alice.received())
	})
}

// TestJoinAfterLeave tests that a client that leaves a room and joins it again starts again.
func TestJoinAfterLeave(t *testing.T) {
	inLobby(t, func(s *script) {
		s.sendKept(7, 5)
		s.replyEmpty(s.expect(`{"type":"leave","room":"lobby"}`))
		s.reply(s.expect(joinLobby), `{"epoch":"r1","offset":8,"top":8}`)
		s.sendKept(9, 8)
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		alice.join("lobby")
		require.Equal(t, []string{chat(7), chat(9)}, alice.received())
	})
}

// TestJoinWithReceivedMessages tests a join of a room from which messages arrive already. They are
// not delivered again unless the join asks for earlier messages.
func TestJoinWithReceivedMessages(t *testing.T) {
	for last, want := range map[int][]string{
		0: {chat(7), chat(9), chat(10)}, 1: {chat(7), chat(9), chat(10)}, 2: {chat(7), chat(7), chat(9), chat(10)},
	} {
		withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
			s.sendKept(7, 5)
			join := s.receive()
			s.sendKept(9, 7)
			s.reply(join, fmt.Sprintf(`{"epoch":"r1","offset":%d,"top":9}`, []int{9, 7, 5}[last]))
			s.sendKept([]int{7, 5, 9, 7, 10, 9}[4-2*last:]...)
			s.serveUntilClosed()
		}), func(t *testing.T, w *testEnv) {
			alice := w.dial("alice")
			require.Equal(t, []string{chat(7)}, alice.received())
			require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: last}}))
			require.Equal(t, want[1:], alice.received())
		})
	}
}

// TestRoomWithoutJoin tests that a client knows no position in a room that it has not joined, and
// that it drops a repeated message without an ID by its position.
func TestRoomWithoutJoin(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		s.sendKept(7, 5, 9, 8, 9, 8)
		s.sendKeptIn(`"room":"hall",`, "r1", 9, 8, 9, 8)
		s.sendKeptIn(`"room":"lobby",`, "r2", 9, 8, 9, 8)
		if n == 2 {
			s.sendKept(10, 9)
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		require.Equal(t, []string{
			chat(7), chat(9), "bob@hall: 9", chat(9), chat(10),
		}, alice.received())
	})
}

func TestHistory(t *testing.T) {
	page := `{"epoch":"r1","top":9,"more":true,"messages":[` +
		`{"message_type":"chat","sender_id":"bob","content":7,"timestamp":1,"id":"m","room":"lobby",` +
		`"offset":7,"prev":5,"epoch":"r1"}]}`
	inLobby(t, func(s *script) {
		s.reply(s.expect(`{"type":"history","room":"lobby"}`), page)
		s.reply(s.expect(`{"type":"history","room":"lobby","limit":2,"before":7,"epoch":"r1"}`), `{"epoch":"r1"}`)
		s.reply(s.expect(`{"type":"history","room":"lobby","after":7,"epoch":"r1"}`), `7`)
		s.reply(s.expect(`{"type":"history","room":"lobby","after":0,"epoch":"r1"}`), page)
		s.replyError(s.receive(), "no_history")
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		got, err := alice.History(t.Context(), "lobby", client.HistoryQuery{})
		require.NoError(t, err)
		require.True(t, got.More)
		require.Equal(t, realtime.Position{Epoch: "r1", Offset: 9}, got.Top)
		require.Len(t, got.Messages, 1)
		oldest := got.Messages[0]
		require.Equal(t, chat(7), describe(oldest, nil))

		got, err = alice.History(t.Context(), "lobby", client.HistoryQuery{Limit: 2, Before: oldest.Position})
		require.NoError(t, err)
		require.Equal(t, client.History{Top: realtime.Position{Epoch: "r1"}}, got)
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{After: oldest.Position})
		require.ErrorContains(t, err, "history")
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{After: realtime.Position{Epoch: "r1"}})
		require.NoError(t, err)
		_, err = alice.History(t.Context(), "lobby", client.HistoryQuery{})
		require.Equal(t, "no_history", codeOf(err))
		_, err = alice.History(t.Context(), "", client.HistoryQuery{})
		require.ErrorIs(t, err, realtime.ErrInvalidName)
		require.Empty(t, alice.received(), "history is not delivered to loops")
	})
}

func TestReceipts(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		for _, content := range []string{
			`{"offset":9,"epoch":"r1"}`, `{"kept":true,"queued":2}`, `{"duplicate":true}`, `{}`, `[]`,
		} {
			send := s.receive()
			require.Contains(t, send.raw, `"ttl_ms":1501,"receipt":true`)
			s.reply(send, content)
		}
		s.replyEmpty(s.receive())
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		msg := realtime.Message{TTL: 1500*time.Millisecond + 1}
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
		require.Zero(t, got, "the application has handled the message")
		_, err = alice.SendReceipt(t.Context(), realtime.ToAll(), realtime.Message{Type: "\n"})
		require.ErrorIs(t, err, realtime.ErrInvalidName)
	})
}

// TestHistoryAfterLeave tests that a client that joins a room again with earlier messages receives
// them, even those that it has received before.
func TestHistoryAfterLeave(t *testing.T) {
	withManager(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *testEnv) {
		alice, bob := w.dial("alice"), w.dial("bob")
		require.NoError(t, bob.sendChat("lobby", "hi"))
		for range 2 {
			require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: 5}}))
			require.NoError(t, bob.sendChat("lobby", "there"))
			synctest.Wait() // a client that has left receives nothing more
			require.NoError(t, alice.Leave(t.Context(), "lobby"))
		}
		require.Equal(t, []string{
			`bob@lobby: "hi"`, `bob@lobby: "there"`, `bob@lobby: "hi"`, `bob@lobby: "there"`, `bob@lobby: "there"`,
		}, alice.received())
	})
}

// TestSinceAfterLeave tests the same for a join that continues from a position.
func TestSinceAfterLeave(t *testing.T) {
	withManager(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *testEnv) {
		alice, bob := w.dial("alice"), w.dial("bob")
		alice.join("lobby")
		hi, err := bob.SendReceipt(t.Context(), realtime.ToRoom("lobby"), realtime.Message{Content: []byte(`"hi"`)})
		require.NoError(t, err)
		require.NoError(t, bob.sendChat("lobby", "there"))
		require.Equal(t, []string{`bob@lobby: "hi"`, `bob@lobby: "there"`}, alice.received())
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Since: hi.Position}}))
		require.Equal(t, []string{`bob@lobby: "there"`}, alice.received())
		require.Equal(t, []string{"lobby 1"}, alice.takeRecoveries())
	})
}

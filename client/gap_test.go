package client_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

func TestGapIsRecovered(t *testing.T) {
	inLobby(t, func(s *script) {
		s.sendKept(9, 7)
		join := s.expect(joinLobby5)
		s.sendKept(10, 9, 12, 11) // sent again below
		s.send(`{"message_type":"chat","sender_id":"bob","content":0,"room":"lobby"}`)
		s.reply(join, `{"epoch":"r1","offset":5,"top":10,"recovered":true}`)
		s.sendKept(7, 5, 9, 7, 10, 9)
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.Equal(t, []string{chat(0), chat(7), chat(9), chat(10)}, alice.received())
		require.Equal(t, []string{"lobby 3"}, alice.takeRecoveries())
	})
}

// TestOtherEpoch tests that a message or a position of another epoch makes the client ask for
// missing messages.
func TestOtherEpoch(t *testing.T) {
	for _, first := range []string{
		`{"message_type":"chat","sender_id":"bob","content":1,"room":"lobby","offset":1,"prev":0,"epoch":"r2"}`,
		`{"message_type":"position","room":"lobby","offset":1,"epoch":"r2"}`,
	} {
		requireReceived(t, func(s *script) {
			s.send(first)
			s.reply(s.expect(joinLobby5), `{"epoch":"r2","offset":1,"top":1,"recovered":false,"reason":"epoch"}`)
			s.sendKeptIn(`"room":"lobby",`, "r2", 2, 1)
		}, "gap lobby epoch 5-1", chat(2))
	}
}

func TestGapInLossyRoom(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
		s.reply(s.receive(), `{"epoch":"r1","offset":5,"top":5,"lossy":true}`)
		s.sendKept(9, 7, 10, 9)
		s.sendKeptIn(`"room":"lobby",`, "r2", 3, 2)
		s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":10}}`)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		require.Equal(t, []string{"gap lobby slow 5-7", chat(9), chat(10)}, alice.received())
	})
}

func TestDuplicates(t *testing.T) {
	requireReceived(t, func(s *script) { s.sendKept(7, 5, 7, 5, 5, 4, 8, 7) }, chat(7), chat(8))
}

// TestDuplicatesByID tests that a kept message whose ID was already received is dropped, and leaves
// no gap.
func TestDuplicatesByID(t *testing.T) {
	requireReceived(t, func(s *script) {
		s.sendChat("m", "hi")
		s.send(`{"message_type":"chat","sender_id":"bob","content":7,"id":"m","room":"lobby",` +
			`"offset":7,"prev":5,"epoch":"r1"}`)
		s.sendKept(8, 7)
	}, `bob@lobby: "hi"`, chat(8))
}

// TestDuplicatesByIDInRecovery tests that such a message does not count as recovered.
func TestDuplicatesByIDInRecovery(t *testing.T) {
	inLobby(t, func(s *script) {
		s.sendChat("m", "hi")
		s.sendKept(9, 8)
		s.reply(s.expect(joinLobby5), `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.send(`{"message_type":"chat","sender_id":"bob","content":8,"id":"m","room":"lobby",` +
			`"offset":8,"prev":5,"epoch":"r1"}`)
		s.sendKept(9, 8)
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.Equal(t, []string{`bob@lobby: "hi"`, chat(9)}, alice.received())
		require.Equal(t, []string{"lobby 1"}, alice.takeRecoveries())
	})
}

// TestGapWhenConnectionEnds tests that a request for missing messages that was not sent before the
// connection ended is not sent over the next one, in addition to its joins.
func TestGapWhenConnectionEnds(t *testing.T) {
	hall := `"room":"hall",`
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		s.reply(s.receive(), at5)
		s.reply(s.receive(), at5)
		if n == 1 { // the server reads nothing more
			s.sendKept(9, 7)
			s.sendKeptIn(hall, "r1", 9, 7)
			s.sendInbox(2, 0)
			time.Sleep(time.Second)
			return
		}
		s.replyEmpty(s.expect(ack(2)))
		s.replyEmpty(s.expect(`{"type":"ping"}`))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby", "hall")
		alice.awaitReconnect()
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{
			"bob: 2", "gap lobby unknown 5-5", "gap hall unknown 5-5",
		}, alice.received())
	})
}

func TestPositions(t *testing.T) {
	at := func(offset int) string {
		return fmt.Sprintf(`{"message_type":"position","room":"lobby","offset":%d,"epoch":"r1"}`, offset)
	}
	requireReceived(t, func(s *script) {
		s.send(at(8))
		s.sendKept(9, 8)
		s.send(at(6))
		s.send(`{"message_type":"position","room":"elsewhere","offset":6,"epoch":"r1"}`)
		s.sendKept(10, 9)
	}, chat(9), chat(10))
	requireReceived(t, func(s *script) {
		s.send(`{"message_type":"position","room":"lobby","offset":8,"epoch":"r1","recovered":false,"reason":"expired"}`)
		s.sendKept(9, 8)
	}, "gap lobby expired 5-8", chat(9))
	inLobby(t, func(s *script) {
		s.sendKept(9, 8)
		join := s.expect(joinLobby5)
		s.send(at(9)) // has no effect during a join, like the next one
		s.send(`{"message_type":"position","room":"lobby","offset":9,"epoch":"r1","recovered":false}`)
		s.reply(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.send(at(9))
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.Equal(t, []string{"lobby 0"}, alice.takeRecoveries())
		require.Empty(t, alice.received())
	})
}

func TestSkipped(t *testing.T) {
	skips := func(s *script, from, to int) {
		s.send(fmt.Sprintf(
			`{"message_type":"skipped","room":"lobby","from":%d,"to":%d,"epoch":"r1","reason":"slow"}`, from, to))
	}
	requireReceived(t, func(s *script) {
		skips(s, 5, 8)
		s.sendKept(9, 8)
		skips(s, 5, 8)
		skips(s, 10, 11)
		s.sendKept(12, 11)
	}, "gap lobby slow 5-8", chat(9), "gap lobby slow 9-11", chat(12))
}

// TestRecoveryRefused tests that a room ends if its missing messages are refused, and that the
// client then leaves it.
func TestRecoveryRefused(t *testing.T) {
	requireReceived(t, func(s *script) {
		s.sendKept(9, 7)
		s.replyError(s.expect(joinLobby5), "forbidden")
		leave := s.expect(`{"type":"leave","room":"lobby"}`)
		s.sendKept(11, 10) // the client no longer has a position to compare with
		s.replyEmpty(leave)
	}, "room lobby: forbidden", chat(11))
}

// TestRefusedRoomIsLeft tests that a client receives nothing more from a room if the server refuses
// to send the messages that did not fit into the queue.
func TestRefusedRoomIsLeft(t *testing.T) {
	var shut atomic.Bool
	withManager(t, realtime.Options{
		History: realtime.Retention{Messages: 10},
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionJoin && shut.Load() {
				return realtime.ErrForbidden
			}
			return nil
		},
	}, func(t *testing.T, w *testEnv) {
		alice, bob := w.dialPaused("alice", client.DialOptions{QueueMessages: 1}), w.dial("bob")
		alice.join("lobby")
		require.NoError(t, bob.sendChat("lobby", "one"))
		require.NoError(t, bob.sendChat("lobby", "two"))
		synctest.Wait()
		shut.Store(true)
		alice.startReading()
		require.Equal(t, []string{`bob@lobby: "one"`, "room lobby: forbidden"}, alice.received())
		require.NoError(t, bob.sendChat("lobby", "three"))
		require.Empty(t, alice.received())
	})
}

// TestRemovedDuringRecovery tests that a removal during a request for missing messages is reported
// once, and that the client does not become a member again.
func TestRemovedDuringRecovery(t *testing.T) {
	for _, code := range []string{"", "denied"} {
		inLobby(t, func(s *script) {
			s.replyEmpty(s.expect(`{"type":"ping"}`))
			s.sendKept(9, 7)
			join := s.expect(joinLobby5)
			s.send(`{"message_type":"left","room":"lobby"}`)
			if code == "" {
				s.reply(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
			} else {
				s.replyError(join, code)
			}
			s.replyEmpty(s.expect(`{"type":"leave","room":"lobby"}`))
		})(func(t *testing.T, _ *testEnv, alice *testClient) {
			_, err := alice.Ping(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"room lobby: removed"}, alice.received())
			require.Empty(t, alice.takeRecoveries())
		})
	}
}

// TestGapDuringLeave tests that a gap does not make a client join again that is leaving.
func TestGapDuringLeave(t *testing.T) {
	inLobby(t, func(s *script) {
		leave := s.expect(`{"type":"leave","room":"lobby"}`)
		s.sendKept(9, 7)
		s.replyEmpty(leave)
		s.replyEmpty(s.expect(`{"type":"ping"}`))
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.Empty(t, alice.received())
	})
}

// TestGapDuringRefusedLeave tests that a gap found during a leave is recovered if the leave is
// refused.
func TestGapDuringRefusedLeave(t *testing.T) {
	inLobby(t, func(s *script) {
		leave := s.expect(`{"type":"leave","room":"lobby"}`)
		s.sendKept(9, 7)
		s.replyError(leave, "forbidden")
		s.reply(s.expect(joinLobby5), `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.sendKept(7, 5, 9, 7)
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.Equal(t, "forbidden", codeOf(alice.Leave(t.Context(), "lobby")))
		require.Equal(t, []string{chat(7), chat(9)}, alice.received())
	})
}

func TestSlowConsumerDuringRefusedLeave(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
		s.reply(s.expect(joinLobby), at5)
		s.sendKept(6, 5, 7, 6)
		leave := s.expect(`{"type":"leave","room":"lobby"}`)
		time.Sleep(time.Second)
		s.replyError(leave, "forbidden")
		s.reply(s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":6}}`),
			`{"epoch":"r1","offset":6,"top":7,"recovered":true}`)
		s.sendKept(7, 6)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 1})
		alice.join("lobby")
		alice.reading.Go(func() { _ = alice.Leave(t.Context(), "lobby") })
		synctest.Wait()
		msg, err := alice.Receive(t.Context())
		require.Equal(t, chat(6), describe(msg, err))
		alice.startReading()
		time.Sleep(time.Second)
		require.Equal(t, []string{chat(7)}, alice.received())
		require.Empty(t, alice.takeRecoveries())
	})
}

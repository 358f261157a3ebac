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

func TestHoles(t *testing.T) {
	lobby(t, func(s *stage) {
		s.kept(9, 7)
		join := s.expects(joinLobby5)
		s.kept(10, 9, 12, 11) // come again
		s.says(`{"message_type":"chat","sender_id":"bob","content":0,"room":"lobby"}`)
		s.answers(join, `{"epoch":"r1","offset":5,"top":10,"recovered":true}`)
		s.kept(7, 5, 9, 7, 10, 9)
	})(func(t *testing.T, _ *world, alice *rig) {
		require.Equal(t, []string{chat(0), chat(7), chat(9), chat(10)}, alice.got())
		require.Equal(t, []string{"lobby 3"}, alice.recovered())
	})
}

// Another epoch is a hole, in messages and in positions.
func TestOtherEpoch(t *testing.T) {
	for _, first := range []string{
		`{"message_type":"chat","sender_id":"bob","content":1,"room":"lobby","offset":1,"prev":0,"epoch":"r2"}`,
		`{"message_type":"position","room":"lobby","offset":1,"epoch":"r2"}`,
	} {
		requireHeard(t, func(s *stage) {
			s.says(first)
			s.answers(s.expects(joinLobby5), `{"epoch":"r2","offset":1,"top":1,"recovered":false,"reason":"epoch"}`)
			s.keptIn(`"room":"lobby",`, "r2", 2, 1)
		}, "gap lobby epoch 5-1", chat(2))
	}
}

func TestHoleInLossyRoom(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, _ int) {
		s.answers(s.hears(), `{"epoch":"r1","offset":5,"top":5,"lossy":true}`)
		s.kept(9, 7, 10, 9)
		s.keptIn(`"room":"lobby",`, "r2", 3, 2)
		s.expects(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":10}}`)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		require.Equal(t, []string{"gap lobby slow 5-7", chat(9), chat(10)}, alice.got())
	})
}

func TestDuplicates(t *testing.T) {
	requireHeard(t, func(s *stage) { s.kept(7, 5, 7, 5, 5, 4, 8, 7) }, chat(7), chat(8))
}

// A message that is known by its id is not shown again, and not missed.
func TestDuplicatesOfSenders(t *testing.T) {
	requireHeard(t, func(s *stage) {
		s.chats("m", "hi")
		s.says(`{"message_type":"chat","sender_id":"bob","content":7,"id":"m","room":"lobby",` +
			`"offset":7,"prev":5,"epoch":"r1"}`)
		s.kept(8, 7)
	}, `bob@lobby: "hi"`, chat(8))
}

// Nor is it counted as recovered.
func TestDuplicatesOfSendersInRecovery(t *testing.T) {
	lobby(t, func(s *stage) {
		s.chats("m", "hi")
		s.kept(9, 8)
		s.answers(s.expects(joinLobby5), `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.says(`{"message_type":"chat","sender_id":"bob","content":8,"id":"m","room":"lobby",` +
			`"offset":8,"prev":5,"epoch":"r1"}`)
		s.kept(9, 8)
	})(func(t *testing.T, _ *world, alice *rig) {
		require.Equal(t, []string{`bob@lobby: "hi"`, chat(9)}, alice.got())
		require.Equal(t, []string{"lobby 1"}, alice.recovered())
	})
}

// What was about to be asked when the connection ended is not asked over the next one, which asks
// by itself.
func TestHoleAsTheConnectionEnds(t *testing.T) {
	hall := `"room":"hall",`
	served(t, greeted(t, empty, func(s *stage, n int) {
		s.answers(s.hears(), at5)
		s.answers(s.hears(), at5)
		if n == 1 { // and nothing is read any more
			s.kept(9, 7)
			s.keptIn(hall, "r1", 9, 7)
			s.inboxed(2, 0)
			time.Sleep(time.Second)
			return
		}
		s.replies(s.expects(ack(2)))
		s.replies(s.expects(`{"type":"ping"}`))
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby", "hall")
		alice.back()
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{
			"bob: 2", "gap lobby unknown 5-5", "gap hall unknown 5-5",
		}, alice.got())
	})
}

func TestPositions(t *testing.T) {
	at := func(offset int) string {
		return fmt.Sprintf(`{"message_type":"position","room":"lobby","offset":%d,"epoch":"r1"}`, offset)
	}
	requireHeard(t, func(s *stage) {
		s.says(at(8))
		s.kept(9, 8)
		s.says(at(6))
		s.says(`{"message_type":"position","room":"elsewhere","offset":6,"epoch":"r1"}`)
		s.kept(10, 9)
	}, chat(9), chat(10))
	requireHeard(t, func(s *stage) {
		s.says(`{"message_type":"position","room":"lobby","offset":8,"epoch":"r1","recovered":false,"reason":"expired"}`)
		s.kept(9, 8)
	}, "gap lobby expired 5-8", chat(9))
	lobby(t, func(s *stage) {
		s.kept(9, 8)
		join := s.expects(joinLobby5)
		s.says(at(9)) // means nothing now, nor does this
		s.says(`{"message_type":"position","room":"lobby","offset":9,"epoch":"r1","recovered":false}`)
		s.answers(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.says(at(9))
	})(func(t *testing.T, _ *world, alice *rig) {
		require.Equal(t, []string{"lobby 0"}, alice.recovered())
		require.Empty(t, alice.got())
	})
}

func TestSkipped(t *testing.T) {
	skips := func(s *stage, from, to int) {
		s.says(fmt.Sprintf(
			`{"message_type":"skipped","room":"lobby","from":%d,"to":%d,"epoch":"r1","reason":"slow"}`, from, to))
	}
	requireHeard(t, func(s *stage) {
		skips(s, 5, 8)
		s.kept(9, 8)
		skips(s, 5, 8)
		skips(s, 10, 11)
		s.kept(12, 11)
	}, "gap lobby slow 5-8", chat(9), "gap lobby slow 9-11", chat(12))
}

// A hole whose room is refused is the end of the room, of which the server has to be told.
func TestHoleIsRefused(t *testing.T) {
	requireHeard(t, func(s *stage) {
		s.kept(9, 7)
		s.refuses(s.expects(joinLobby5), "forbidden")
		leave := s.expects(`{"type":"leave","room":"lobby"}`)
		s.kept(11, 10) // nobody knows what is in front of it
		s.replies(leave)
	}, "room lobby: forbidden", chat(11))
}

// A room that the client may not come back to, to get what it had no room for, says nothing any
// more.
func TestRefusedRoomIsLeft(t *testing.T) {
	var shut atomic.Bool
	bubble(t, realtime.Options{
		History: realtime.Retention{Messages: 10},
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionJoin && shut.Load() {
				return realtime.ErrForbidden
			}
			return nil
		},
	}, func(t *testing.T, w *world) {
		alice, bob := w.deaf("alice", client.DialOptions{QueueMessages: 1}), w.dial("bob")
		alice.join("lobby")
		require.NoError(t, bob.say("lobby", "one"))
		require.NoError(t, bob.say("lobby", "two"))
		synctest.Wait()
		shut.Store(true)
		alice.listen()
		require.Equal(t, []string{`bob@lobby: "one"`, "room lobby: forbidden"}, alice.got())
		require.NoError(t, bob.say("lobby", "three"))
		require.Empty(t, alice.got())
	})
}

// Whoever is taken out while he asks for what is missing is told once, and does not slip in again.
func TestHoleWhileTakenOut(t *testing.T) {
	for _, code := range []string{"", "denied"} {
		lobby(t, func(s *stage) {
			s.replies(s.expects(`{"type":"ping"}`))
			s.kept(9, 7)
			join := s.expects(joinLobby5)
			s.says(`{"message_type":"left","room":"lobby"}`)
			if code == "" {
				s.answers(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
			} else {
				s.refuses(join, code)
			}
			s.replies(s.expects(`{"type":"leave","room":"lobby"}`))
		})(func(t *testing.T, _ *world, alice *rig) {
			_, err := alice.Ping(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"room lobby: removed"}, alice.got())
			require.Empty(t, alice.recovered())
		})
	}
}

// A leave that is on its way is not undone by a hole.
func TestHoleWhileLeaving(t *testing.T) {
	lobby(t, func(s *stage) {
		leave := s.expects(`{"type":"leave","room":"lobby"}`)
		s.kept(9, 7)
		s.replies(leave)
		s.replies(s.expects(`{"type":"ping"}`))
	})(func(t *testing.T, _ *world, alice *rig) {
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.Empty(t, alice.got())
	})
}

// A hole that is found while a leave is on its way is asked for if that is refused, as is what a
// consumer had no room for.
func TestHoleWhileLeavingInVain(t *testing.T) {
	lobby(t, func(s *stage) {
		leave := s.expects(`{"type":"leave","room":"lobby"}`)
		s.kept(9, 7)
		s.refuses(leave, "forbidden")
		s.answers(s.expects(joinLobby5), `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
		s.kept(7, 5, 9, 7)
	})(func(t *testing.T, _ *world, alice *rig) {
		require.Equal(t, "forbidden", code(alice.Leave(t.Context(), "lobby")))
		require.Equal(t, []string{chat(7), chat(9)}, alice.got())
	})
}

func TestSlowConsumerWhileLeavingInVain(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, _ int) {
		s.answers(s.expects(joinLobby), at5)
		s.kept(6, 5, 7, 6)
		leave := s.expects(`{"type":"leave","room":"lobby"}`)
		time.Sleep(time.Second)
		s.refuses(leave, "forbidden")
		s.answers(s.expects(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":6}}`),
			`{"epoch":"r1","offset":6,"top":7,"recovered":true}`)
		s.kept(7, 6)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 1})
		alice.join("lobby")
		alice.read.Go(func() { _ = alice.Leave(t.Context(), "lobby") })
		synctest.Wait()
		msg, err := alice.Receive(t.Context())
		require.Equal(t, chat(6), shorthand(msg, err))
		alice.listen()
		time.Sleep(time.Second)
		require.Equal(t, []string{chat(7)}, alice.got())
		require.Empty(t, alice.recovered())
	})
}

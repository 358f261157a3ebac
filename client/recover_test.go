package client_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

const (
	joinLobby  = `{"type":"join","room":"lobby"}`
	joinLobby5 = `{"type":"join","room":"lobby","since":{"epoch":"r1","offset":5}}`
	at5        = `{"epoch":"r1","offset":5,"top":5}`
	again5     = `{"epoch":"r1","offset":5,"top":5,"recovered":true}`
)

// lobby is a server with an inbox that lets a client into the lobby at offset 5, and does the rest
// over one connection.
func lobby(t *testing.T, do func(s *stage)) func(test func(t *testing.T, w *world, alice *rig)) {
	return func(test func(t *testing.T, w *world, alice *rig)) {
		served(t, greeted(t, empty, func(s *stage, n int) {
			s.answers(s.expects(joinLobby), at5)
			do(s)
			s.lasts()
		}), func(t *testing.T, w *world) {
			alice := w.dial("alice")
			alice.join("lobby")
			test(t, w, alice)
		})
	}
}

// requireHeard checks what alice gets of the lobby.
func requireHeard(t *testing.T, do func(s *stage), want ...string) {
	t.Helper()
	lobby(t, do)(func(t *testing.T, _ *world, alice *rig) {
		t.Helper()
		require.Equal(t, want, alice.got())
	})
}

func chat(offset int) string { return fmt.Sprintf("bob@lobby: %d", offset) }

// What was missed comes behind a reconnect, once and in order, and without a gap if nothing else
// can be missing.
func TestRecovery(t *testing.T) {
	for name, more := range map[string]func(int) string{
		"with inbox": empty, "without": func(int) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			served(t, greeted(t, more, func(s *stage, n int) {
				if n == 1 {
					s.answers(s.expects(joinLobby), at5)
					s.kept(7, 5)
					return
				}
				join := s.expects(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":7}}`)
				s.kept(9, 7, 13, 12) // come again
				s.answers(join, `{"epoch":"r1","offset":7,"top":12,"recovered":true}`)
				s.kept(9, 7, 12, 9, 13, 12)
				s.lasts()
			}), func(t *testing.T, w *world) {
				alice := w.dial("alice")
				alice.join("lobby")
				require.Equal(t, []string{chat(7)}, alice.got())
				alice.back()
				want := []string{chat(9), chat(12), chat(13)}
				if name == "without" {
					want = append([]string{"gap 1006"}, want...)
				}
				require.Equal(t, want, alice.got())
				require.Equal(t, []string{"lobby 2"}, alice.recovered())
			})
		})
	}
}

// A recovery that is interrupted goes on over the next connection, and is one.
func TestRecoveryOverConnections(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		join := s.hears()
		switch n {
		case 1:
			s.answers(join, at5)
		case 2:
			s.answers(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
			s.kept(7, 5)
			s.lasts()
		default:
			s.answers(join, `{"epoch":"r1","offset":7,"top":9,"recovered":true}`)
			s.kept(9, 7)
			s.lasts()
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.back()
		require.Empty(t, alice.recovered())
		w.cut()
		alice.back()
		require.Equal(t, []string{chat(7), chat(9)}, alice.got())
		require.Equal(t, []string{"lobby 2"}, alice.recovered())
	})
}

// What could not be recovered is a gap of its room, with the server's reason.
func TestNotRecovered(t *testing.T) {
	for reason, answer := range map[realtime.Reason]string{
		realtime.ReasonExpired:  `{"epoch":"r1","offset":60,"top":60,"recovered":false,"reason":"expired"}`,
		realtime.ReasonOverflow: `{"epoch":"r1","offset":60,"top":60,"recovered":false,"reason":"overflow"}`,
		realtime.ReasonEpoch:    `{"epoch":"r2","offset":60,"top":60,"recovered":false,"reason":"epoch"}`,
		realtime.ReasonAhead:    `{"epoch":"r1","offset":2,"top":2,"recovered":false,"reason":"ahead"}`,
		realtime.ReasonUnknown:  `{"recovered":false,"reason":"unknown"}`,
		"odd":                   `{"epoch":"r1","offset":2,"top":2,"recovered":false,"reason":"odd"}`,
	} {
		t.Run(string(reason), func(t *testing.T) {
			var to realtime.Position
			served(t, greeted(t, empty, func(s *stage, n int) {
				if n == 1 {
					s.answers(s.expects(joinLobby), at5)
					return
				}
				s.answers(s.expects(joinLobby5), answer)
				switch reason {
				case realtime.ReasonEpoch:
					to = realtime.Position{Epoch: "r2", Offset: 60}
					s.keptIn(`"room":"lobby",`, "r2", 61, 60)
				case realtime.ReasonUnknown:
					s.says(`{"message_type":"chat","sender_id":"bob","content":61,"room":"lobby"}`)
				case realtime.ReasonAhead, "odd":
					to = realtime.Position{Epoch: "r1", Offset: 2}
					s.kept(61, 2)
				default:
					to = realtime.Position{Epoch: "r1", Offset: 60}
					s.kept(61, 60)
				}
				s.lasts()
			}), func(t *testing.T, w *world) {
				alice := w.deaf("alice", client.DialOptions{})
				alice.join("lobby")
				alice.back()
				_, err := alice.Receive(t.Context())
				gap, ok := err.(*client.GapError)
				require.True(t, ok, "%v", err)
				from := realtime.Position{Epoch: "r1", Offset: 5}
				require.Equal(t, client.GapError{
					Room: "lobby", Reason: reason, From: from, To: to, Err: gap.Err,
				}, *gap)
				require.Contains(t, gap.Error(), `in room "lobby": `+string(reason))
				require.ErrorIs(t, gap.Err, realtime.ErrClosed)
				alice.listen()
				require.Equal(t, []string{chat(61)}, alice.got())
				require.Empty(t, alice.recovered())
			})
		})
	}
}

// Rooms that keep nothing have the gap of the connection.
func TestGapOfOtherRooms(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		for range 2 {
			join := s.hears()
			switch {
			case join.Room == "hall":
				s.replies(join)
			case n == 1:
				s.answers(join, at5)
			default:
				s.answers(join, `{"epoch":"r1","offset":5,"top":7,"recovered":true}`)
				s.kept(7, 5)
			}
		}
		if n > 1 {
			s.lasts()
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby", "hall")
		alice.back()
		require.Equal(t, []string{"gap 1006", chat(7)}, alice.got())
		require.Equal(t, []string{"lobby 1"}, alice.recovered())
	})
}

// What is lost while the client catches up is told, and not that it has caught up.
func TestLostWhileCatchingUp(t *testing.T) {
	lobby(t, func(s *stage) {
		s.kept(9, 7)
		s.answers(s.expects(joinLobby5), `{"epoch":"r1","offset":5,"top":20,"recovered":true}`)
		s.kept(7, 5)
		s.says(`{"message_type":"position","room":"lobby","offset":20,"epoch":"r1","recovered":false,"reason":"overflow"}`)
		s.kept(21, 20)
	})(func(t *testing.T, _ *world, alice *rig) {
		require.Equal(t, []string{chat(7), "gap lobby overflow 7-20", chat(21)}, alice.got())
		require.Empty(t, alice.recovered())
	})
}

// A consumer that is behind loses nothing that is kept: it comes again when he has caught up.
func TestSlowConsumerOfHistory(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, _ int) {
		s.answers(s.expects(joinLobby), at5)
		s.kept(6, 5, 7, 6, 8, 7, 9, 8, 10, 9)
		for _, from := range []int{9, 11, 13} {
			s.answers(s.expects(fmt.Sprintf(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":%d}}`, from)),
				fmt.Sprintf(`{"epoch":"r1","offset":%d,"top":14,"recovered":true}`, from))
			for at := from; at < 14; at++ {
				s.kept(at+1, at)
			}
		}
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 4})
		alice.join("lobby")
		for offset := 6; offset <= 14; offset++ {
			synctest.Wait()
			msg, err := alice.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, chat(offset), shorthand(msg, err))
			require.Equal(t, realtime.Position{Epoch: "r1", Offset: uint64(offset)}, msg.Position)
		}
		require.Empty(t, alice.recovered(), "it is nothing to be told")
	})
}

// A message to two rooms comes from both, far apart: it is given with the one that comes first.
func TestUnionIsGivenOnce(t *testing.T) {
	both := func(s *stage, room, epoch string, offset, prev int) {
		s.says(fmt.Sprintf(`{"message_type":"chat","sender_id":null,"content":"both","timestamp":1,"id":"m",`+
			`"room":%q,"epoch":%q,"offset":%d,"prev":%d}`, room, epoch, offset, prev))
	}
	served(t, greeted(t, empty, func(s *stage, n int) {
		top, recovered := 1, ""
		if n > 1 {
			top, recovered = 3, `,"recovered":true`
		}
		for range 2 {
			join := s.hears()
			epoch := map[string]string{"lobby": "r1", "hall": "r2"}[join.Room]
			s.answers(join, fmt.Sprintf(`{"epoch":%q,"offset":1,"top":%d%s}`, epoch, top, recovered))
		}
		if n == 1 {
			time.Sleep(time.Second)
			return
		}
		both(s, "lobby", "r1", 2, 1)
		for i := range 5000 { // what was missed
			s.chats(fmt.Sprint("x", i), "")
		}
		s.keptIn(`"room":"hall",`, "r2", 2, 1) // in front of it, there
		both(s, "hall", "r2", 3, 2)
		s.kept(3, 2)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dialWith("alice", client.DialOptions{QueueMessages: -1})
		alice.join("lobby", "hall")
		alice.back()
		got := slices.DeleteFunc(alice.got(), func(s string) bool { return s == `bob@lobby: ""` })
		require.Equal(t, []string{`@lobby: "both"`, "bob@hall: 2", "bob@lobby: 3"}, got)
		require.ElementsMatch(t, []string{"lobby 2", "hall 1"}, alice.recovered())
	})
}

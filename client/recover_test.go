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
	recovered5 = `{"epoch":"r1","offset":5,"top":5,"recovered":true}`
)

// inLobby runs a test against a server with an inbox. The server lets a client join the lobby at
// offset 5, and then calls do, over one connection.
func inLobby(
	t *testing.T, do func(s *script),
) func(test func(t *testing.T, w *testEnv, alice *testClient)) {
	return func(test func(t *testing.T, w *testEnv, alice *testClient)) {
		withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
			s.reply(s.expect(joinLobby), at5)
			do(s)
			s.serveUntilClosed()
		}), func(t *testing.T, w *testEnv) {
			alice := w.dial("alice")
			alice.join("lobby")
			test(t, w, alice)
		})
	}
}

// requireReceived checks what alice receives after she has joined the lobby.
func requireReceived(t *testing.T, do func(s *script), want ...string) {
	t.Helper()
	inLobby(t, do)(func(t *testing.T, _ *testEnv, alice *testClient) {
		t.Helper()
		require.Equal(t, want, alice.received())
	})
}

func chat(offset int) string { return fmt.Sprintf("bob@lobby: %d", offset) }

// TestRecovery tests that missed messages arrive once and in order after a reconnect, and that no
// gap is reported unless other messages can be missing.
func TestRecovery(t *testing.T) {
	for name, more := range map[string]func(int) string{
		"with inbox": emptyInbox, "without": func(int) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scriptedWith(t, more, func(s *script, n int) {
				if n == 1 {
					s.reply(s.expect(joinLobby), at5)
					s.sendKept(7, 5)
					return
				}
				join := s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":7}}`)
				s.sendKept(9, 7, 13, 12) // sent again below
				s.reply(join, `{"epoch":"r1","offset":7,"top":12,"recovered":true}`)
				s.sendKept(9, 7, 12, 9, 13, 12)
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				alice.join("lobby")
				require.Equal(t, []string{chat(7)}, alice.received())
				alice.awaitReconnect()
				want := []string{chat(9), chat(12), chat(13)}
				if name == "without" {
					want = append([]string{"gap 1006"}, want...)
				}
				require.Equal(t, want, alice.received())
				require.Equal(t, []string{"lobby 2"}, alice.takeRecoveries())
			})
		})
	}
}

// TestRecoveryOverConnections tests that an interrupted recovery continues over the next connection
// and is reported once.
func TestRecoveryOverConnections(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		join := s.receive()
		switch n {
		case 1:
			s.reply(join, at5)
		case 2:
			s.reply(join, `{"epoch":"r1","offset":5,"top":9,"recovered":true}`)
			s.sendKept(7, 5)
			s.serveUntilClosed()
		default:
			s.reply(join, `{"epoch":"r1","offset":7,"top":9,"recovered":true}`)
			s.sendKept(9, 7)
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.awaitReconnect()
		require.Empty(t, alice.takeRecoveries())
		w.cutAll()
		alice.awaitReconnect()
		require.Equal(t, []string{chat(7), chat(9)}, alice.received())
		require.Equal(t, []string{"lobby 2"}, alice.takeRecoveries())
	})
}

// TestNotRecovered tests that messages that cannot be recovered are reported as a gap of their room
// with the server's reason.
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
			withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
				if n == 1 {
					s.reply(s.expect(joinLobby), at5)
					return
				}
				s.reply(s.expect(joinLobby5), answer)
				switch reason {
				case realtime.ReasonEpoch:
					to = realtime.Position{Epoch: "r2", Offset: 60}
					s.sendKeptIn(`"room":"lobby",`, "r2", 61, 60)
				case realtime.ReasonUnknown:
					s.send(`{"message_type":"chat","sender_id":"bob","content":61,"room":"lobby"}`)
				case realtime.ReasonAhead, "odd":
					to = realtime.Position{Epoch: "r1", Offset: 2}
					s.sendKept(61, 2)
				default:
					to = realtime.Position{Epoch: "r1", Offset: 60}
					s.sendKept(61, 60)
				}
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				alice := w.dialPaused("alice", client.DialOptions{})
				alice.join("lobby")
				alice.awaitReconnect()
				_, err := alice.Receive(t.Context())
				gap, ok := err.(*client.GapError)
				require.True(t, ok, "%v", err)
				from := realtime.Position{Epoch: "r1", Offset: 5}
				require.Equal(t, client.GapError{
					Room: "lobby", Reason: reason, From: from, To: to, Err: gap.Err,
				}, *gap)
				require.Contains(t, gap.Error(), `in room "lobby": `+string(reason))
				require.ErrorIs(t, gap.Err, realtime.ErrClosed)
				alice.startReading()
				require.Equal(t, []string{chat(61)}, alice.received())
				require.Empty(t, alice.takeRecoveries())
			})
		})
	}
}

// TestGapOfRoomsWithoutHistory tests that a gap without a reason is reported for rooms that keep
// nothing.
func TestGapOfRoomsWithoutHistory(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		for range 2 {
			join := s.receive()
			switch {
			case join.Room == "hall":
				s.replyEmpty(join)
			case n == 1:
				s.reply(join, at5)
			default:
				s.reply(join, `{"epoch":"r1","offset":5,"top":7,"recovered":true}`)
				s.sendKept(7, 5)
			}
		}
		if n > 1 {
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby", "hall")
		alice.awaitReconnect()
		require.Equal(t, []string{"gap 1006", chat(7)}, alice.received())
		require.Equal(t, []string{"lobby 1"}, alice.takeRecoveries())
	})
}

// TestGapDuringRecovery tests that messages lost during a recovery are reported as a gap, and that
// no recovery is reported.
func TestGapDuringRecovery(t *testing.T) {
	inLobby(t, func(s *script) {
		s.sendKept(9, 7)
		s.reply(s.expect(joinLobby5), `{"epoch":"r1","offset":5,"top":20,"recovered":true}`)
		s.sendKept(7, 5)
		s.send(`{"message_type":"position","room":"lobby","offset":20,"epoch":"r1","recovered":false,"reason":"overflow"}`)
		s.sendKept(21, 20)
	})(func(t *testing.T, _ *testEnv, alice *testClient) {
		require.Equal(t, []string{chat(7), "gap lobby overflow 7-20", chat(21)}, alice.received())
		require.Empty(t, alice.takeRecoveries())
	})
}

// TestSlowConsumerOfKeptMessages tests that a slow consumer loses no kept message: the client
// fetches it again when the consumer has caught up.
func TestSlowConsumerOfKeptMessages(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
		s.reply(s.expect(joinLobby), at5)
		s.sendKept(6, 5, 7, 6, 8, 7, 9, 8, 10, 9)
		for _, from := range []int{9, 11, 13} {
			s.reply(s.expect(fmt.Sprintf(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":%d}}`, from)),
				fmt.Sprintf(`{"epoch":"r1","offset":%d,"top":14,"recovered":true}`, from))
			for at := from; at < 14; at++ {
				s.sendKept(at+1, at)
			}
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 4})
		alice.join("lobby")
		for offset := 6; offset <= 14; offset++ {
			synctest.Wait()
			msg, err := alice.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, chat(offset), describe(msg, err))
			require.Equal(t, realtime.Position{Epoch: "r1", Offset: uint64(offset)}, msg.Position)
		}
		require.Empty(t, alice.takeRecoveries(), "no recovery is reported")
	})
}

// TestUnionIsDeliveredOnce tests that a message to two rooms is delivered once, even if its copies
// arrive far apart.
func TestUnionIsDeliveredOnce(t *testing.T) {
	both := func(s *script, room, epoch string, offset, prev int) {
		s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":null,"content":"both","timestamp":1,"id":"m",`+
			`"room":%q,"epoch":%q,"offset":%d,"prev":%d}`, room, epoch, offset, prev))
	}
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		top, recovered := 1, ""
		if n > 1 {
			top, recovered = 3, `,"recovered":true`
		}
		for range 2 {
			join := s.receive()
			epoch := map[string]string{"lobby": "r1", "hall": "r2"}[join.Room]
			s.reply(join, fmt.Sprintf(`{"epoch":%q,"offset":1,"top":%d%s}`, epoch, top, recovered))
		}
		if n == 1 {
			time.Sleep(time.Second)
			return
		}
		both(s, "lobby", "r1", 2, 1)
		for i := range 5000 { // missed messages
			s.sendChat(fmt.Sprint("x", i), "")
		}
		s.sendKeptIn(`"room":"hall",`, "r2", 2, 1) // the message before it in the hall
		both(s, "hall", "r2", 3, 2)
		s.sendKept(3, 2)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{QueueMessages: -1})
		alice.join("lobby", "hall")
		alice.awaitReconnect()
		got := slices.DeleteFunc(alice.received(), func(s string) bool { return s == `bob@lobby: ""` })
		require.Equal(t, []string{`@lobby: "both"`, "bob@hall: 2", "bob@lobby: 3"}, got)
		require.ElementsMatch(t, []string{"lobby 2", "hall 1"}, alice.takeRecoveries())
	})
}

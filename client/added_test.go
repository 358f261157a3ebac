package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// adder is a server whose application adds connections to the lobby.
type adder struct {
	realtime.Options
	env          *testEnv
	addOnConnect bool // when a connection opens
}

// withAddedClient runs a test with a client that the application has added to the lobby.
func withAddedClient(
	t *testing.T, change func(o *realtime.Options),
	test func(t *testing.T, g *adder, alice *testClient),
) {
	t.Helper()
	g := &adder{addOnConnect: true}
	keep := realtime.Retention{Messages: 100}
	g.History, g.Inbox = keep, realtime.InboxOptions{Keep: keep}
	g.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		if !g.addOnConnect {
			return nil
		}
		_, err := g.env.rt.Join(ctx, c.ID(), "lobby")
		return err
	}
	change(&g.Options)
	synctest.Test(t, func(t *testing.T) {
		g.env = newTestEnv(t)
		g.env.restart(g.Options)
		alice := g.env.dial("alice")
		synctest.Wait()
		test(t, g, alice)
	})
}

func noChange(*realtime.Options)   {}
func noResume(o *realtime.Options) { o.Timeouts.Resume = -1 }

// send sends messages of bob to the lobby.
func (g *adder) send(offsets ...int) {
	g.env.t.Helper()
	for _, n := range offsets {
		_, err := g.env.rt.Send(g.env.t.Context(), realtime.ToRoom("lobby"), realtime.Message{
			Sender: "bob", Content: json.RawMessage(fmt.Sprint(n)),
		})
		require.NoError(g.env.t, err)
	}
	synctest.Wait()
}

// add adds all connections of alice to the lobby.
func (g *adder) add() {
	g.env.t.Helper()
	for c := range g.env.rt.User("alice").LocalConns() {
		_, err := g.env.rt.Join(g.env.t.Context(), c.ID(), "lobby")
		require.NoError(g.env.t, err)
	}
}

// whileDisconnected calls do while alice is disconnected, and waits until alice has reconnected.
func (g *adder) whileDisconnected(alice *testClient, do func()) {
	g.env.t.Helper()
	g.env.cutAll()
	synctest.Wait()
	do()
	alice.awaitReconnect()
}

// TestAddedRoomRecovers tests that a client receives what it has missed in a room to which the
// application had added it, whatever else the server keeps.
func TestAddedRoomRecovers(t *testing.T) {
	for name, change := range map[string]func(o *realtime.Options){
		"with inbox":     noChange,
		"without inbox":  func(o *realtime.Options) { o.Inbox = realtime.InboxOptions{} },
		"without resume": noResume,
		"with neither": func(o *realtime.Options) {
			o.Timeouts.Resume, o.Inbox = -1, realtime.InboxOptions{}
		},
		"catching up": func(o *realtime.Options) { o.Slow = realtime.SlowCatchUp },
	} {
		t.Run(name, func(t *testing.T) {
			withAddedClient(t, change, func(t *testing.T, g *adder, alice *testClient) {
				g.send(1)
				require.Equal(t, []string{chat(1)}, alice.received())
				for round := range 3 {
					n := 1 + 3*round
					g.whileDisconnected(alice, func() { g.send(n+1, n+2) })
					g.send(n + 3)
					got := alice.received()
					if g.Inbox.Keep.Messages == 0 {
						require.Equal(t, "gap 1006", got[0])
						got = got[1:]
					}
					require.Equal(t, []string{chat(n + 1), chat(n + 2), chat(n + 3)}, got)
					require.Len(t, alice.takeRecoveries(), 1)
				}
			})
		})
	}
}

// TestAddedRoomIsResumed tests that a resumed session continues in its room although the
// application does not add the client again.
func TestAddedRoomIsResumed(t *testing.T) {
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.addOnConnect = false
		g.whileDisconnected(alice, func() { g.send(2) })
		g.whileDisconnected(alice, func() { g.send(3) })
		g.send(4)
		require.Equal(t, []string{chat(1), chat(2), chat(3), chat(4)}, alice.received())
		require.Equal(t, []string{"lobby 1", "lobby 1"}, alice.takeRecoveries())
	})
}

// TestAddedRoomLater tests that a client continues where it was if the application adds it again
// some time after the reconnect, whatever earlier messages the application asks for.
func TestAddedRoomLater(t *testing.T) {
	for name, from := range map[string]realtime.From{"now": {}, "before": {Last: 100}, "between": {Last: 1}} {
		t.Run(name, func(t *testing.T) {
			withAddedClient(t, noResume, func(t *testing.T, g *adder, alice *testClient) {
				g.send(1)
				g.addOnConnect = false
				g.whileDisconnected(alice, func() { g.send(2, 3) })
				time.Sleep(time.Minute)
				g.send(4)
				require.Equal(t, []string{chat(1)}, alice.received())
				for c := range g.env.rt.User("alice").LocalConns() {
					_, err := c.JoinFrom(t.Context(), "lobby", from)
					require.NoError(t, err)
				}
				synctest.Wait()
				g.send(5)
				require.Equal(t, []string{chat(2), chat(3), chat(4), chat(5)}, alice.received())
				require.Equal(t, []string{"lobby 3"}, alice.takeRecoveries())
			})
		})
	}
}

// TestAddedRoomIsRemoved tests that a client does not join a room again by itself if the
// application had added it, and that it starts again after a removal.
func TestAddedRoomIsRemoved(t *testing.T) {
	for name, take := range map[string]func(g *adder){
		"removed":    func(g *adder) { _, _ = g.env.rt.Room("lobby").Remove(g.env.t.Context(), "alice") },
		"denied":     func(g *adder) { _, _ = g.env.rt.Room("lobby").Deny(g.env.t.Context(), "alice", time.Second) },
		"no session": func(*adder) {},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(o *realtime.Options) {
				if name == "no session" {
					o.Timeouts.Resume = -1
				}
			}
			withAddedClient(t, change, func(t *testing.T, g *adder, alice *testClient) {
				g.addOnConnect = false
				g.whileDisconnected(alice, func() {
					take(g)
					g.send(1)
				})
				g.send(2)
				require.Empty(t, alice.received())
				users, err := g.env.rt.Room("lobby").Users(t.Context())
				require.NoError(t, err)
				require.Empty(t, users)
				g.whileDisconnected(alice, func() { g.send(3) })
				require.Empty(t, alice.received())
			})
		})
	}
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		_, err := g.env.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		g.send(1)
		g.add()
		g.send(2)
		require.Equal(t, []string{chat(2)}, alice.received(), "no error: the client had not joined by itself")
	})
}

// TestAddedRoomReportsGaps tests that a client reports a gap if it may not read earlier messages,
// or if they are no longer kept.
func TestAddedRoomReportsGaps(t *testing.T) {
	forbid := func(context.Context, *realtime.Conn, realtime.Action) error {
		return realtime.ErrForbidden
	}
	forbidAll := func(o *realtime.Options) { o.Authorize = forbid }
	withAddedClient(t, forbidAll, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.whileDisconnected(alice, func() { g.send(2) })
		g.send(3)
		require.Equal(t, []string{chat(1), "gap lobby unknown 1-2", chat(3)}, alice.received())
	})
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1, 2, 3)
		synctest.Wait()
		g.env.restart(g.Options)
		g.send(4)
		alice.awaitReconnect()
		g.send(5)
		require.Equal(t, []string{
			chat(1), chat(2), chat(3), "gap  epoch 0-0", "gap lobby epoch 3-0", chat(4), chat(5),
		}, alice.received())
	})
	keepTwo := func(o *realtime.Options) { o.History.Messages = 2 }
	withAddedClient(t, keepTwo, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.whileDisconnected(alice, func() { g.send(2, 3, 4) })
		g.send(5)
		require.Equal(t, []string{chat(1), "gap lobby overflow 1-4", chat(5)}, alice.received())
	})
}

// TestAddedRoomWithoutHistory tests that a gap without a reason is reported for a room that keeps
// nothing.
func TestAddedRoomWithoutHistory(t *testing.T) {
	keepNothing := func(o *realtime.Options) { o.History = realtime.Retention{} }
	withAddedClient(t, keepNothing, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.whileDisconnected(alice, func() { g.send(2) })
		g.send(3)
		require.Equal(t, []string{chat(1), "gap 1006", chat(3)}, alice.received())
	})
}

// TestAddedAndJoined tests a client that joins a room to which the application has added it, or
// leaves it.
func TestAddedAndJoined(t *testing.T) {
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		alice.join("lobby")
		g.addOnConnect = false
		for round := range 2 {
			n := 1 + 2*round
			g.whileDisconnected(alice, func() { g.send(n + 1) })
			g.send(n + 2)
			g.addOnConnect = true
		}
		require.Equal(t, []string{chat(1), chat(2), chat(3), chat(4), chat(5)}, alice.received())
		_, err := g.env.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, []string{"room lobby: removed"}, alice.received())
	})
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		g.addOnConnect = false
		g.whileDisconnected(alice, func() { g.send(2) })
		g.send(3)
		require.Equal(t, []string{chat(1)}, alice.received())
		g.send(4)
		g.add()
		g.send(5)
		require.Equal(t, []string{chat(5)}, alice.received(), "no position is kept after a leave")
	})
	// The client joins after it was removed.
	withAddedClient(t, noChange, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.addOnConnect = false
		g.whileDisconnected(alice, func() { g.send(2) })
		_, err := g.env.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		alice.received()
		g.send(3)
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: 2}}))
		require.Equal(t, []string{chat(2), chat(3)}, alice.received())
	})
}

// TestJoinAfterAdded tests that a join continues from the position that the client had in a room to
// which the application had added it.
func TestJoinAfterAdded(t *testing.T) {
	withAddedClient(t, noResume, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.addOnConnect = false
		g.whileDisconnected(alice, func() { g.send(2) })
		alice.join("lobby")
		require.Equal(t, []string{chat(1), chat(2)}, alice.received())
		g.whileDisconnected(alice, func() { g.send(3) })
		require.Equal(t, []string{chat(3)}, alice.received())
	})
}

// TestLeaveAfterAdded tests that Leave removes the position in a room to which the application had
// added the client, even if the client is no longer a member.
func TestLeaveAfterAdded(t *testing.T) {
	withAddedClient(t, noResume, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		g.addOnConnect = false
		g.whileDisconnected(alice, func() { g.send(2) })
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		g.add()
		g.send(3)
		require.Equal(t, []string{chat(1), chat(3)}, alice.received())
	})
}

// TestJoinRefusedWhileAdded tests that a refused join does not end the membership of a client that
// the application has added.
func TestJoinRefusedWhileAdded(t *testing.T) {
	forbid := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionJoin {
			return realtime.ErrForbidden
		}
		return nil
	}
	forbidJoin := func(o *realtime.Options) { o.Authorize = forbid }
	withAddedClient(t, forbidJoin, func(t *testing.T, g *adder, alice *testClient) {
		g.send(1)
		require.ErrorContains(t, alice.Join(t.Context(), "lobby"), "forbidden")
		g.whileDisconnected(alice, func() { g.send(2) })
		g.send(3)
		require.Equal(t, []string{chat(1), chat(2), chat(3)}, alice.received())
	})
}

// TestAddedFrames tests how a client handles frames about a room to which the application adds it,
// in different orders.
func TestAddedFrames(t *testing.T) {
	const (
		given5   = `{"message_type":"joined","room":"lobby","content":` + at5 + `}`
		given9   = `{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":9,"top":9}}`
		recover5 = `{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`
		left     = `{"message_type":"left","room":"lobby"}`
	)
	for name, c := range map[string]struct {
		do   func(s *script)
		want []string
	}{
		"a gap": {func(s *script) {
			s.send(given5)
			s.sendKept(7, 6)
			s.reply(s.expect(recover5), recovered5)
			s.sendKept(6, 5, 7, 6)
		}, []string{chat(6), chat(7)}},
		"no longer a member": {func(s *script) {
			s.send(given5)
			s.sendKept(7, 6)
			recover := s.expect(recover5)
			s.send(left)
			s.replyError(recover, "no_member")
			s.send(given9)
			s.sendKept(10, 9, 12, 11)
			s.expect(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":10}}`) // no leave
		}, []string{chat(10)}},
		"recover is refused": {func(s *script) {
			s.send(given5)
			s.sendKept(7, 6)
			s.replyError(s.expect(recover5), "internal")
			s.sendKept(8, 7)
		}, []string{"gap lobby unknown 5-0", chat(8)}},
		"added while a join is refused": {func(s *script) {
			join := s.expect(joinLobby)
			s.send(given5)
			s.replyError(join, "forbidden")
			s.sendKept(7, 6)
			s.reply(s.expect(recover5), recovered5)
			s.sendKept(6, 5)
		}, []string{chat(6)}},
		"a gap while a join is refused": {func(s *script) {
			join := s.expect(joinLobby)
			s.send(given5)
			s.sendKept(7, 6)
			s.replyError(join, "forbidden")
			s.reply(s.expect(recover5), recovered5)
			s.sendKept(6, 5, 7, 6)
		}, []string{chat(6), chat(7)}},
		"a message while a join with history is refused": {func(s *script) {
			join := s.expect(`{"type":"join","room":"lobby","history":2}`)
			s.send(given5)
			s.sendKept(6, 5)
			s.send(`{"message_type":"position","room":"lobby","offset":7,"epoch":"r1"}`)
			s.replyError(join, "forbidden")
			s.reply(s.expect(recover5), recovered5)
			s.sendKept(6, 5)
		}, []string{chat(6)}},
		"messages while a join is answered": {func(s *script) {
			join := s.expect(joinLobby)
			s.send(given5)
			s.sendKept(6, 5, 7, 6)
			s.reply(join, `{"epoch":"r1","offset":7,"top":7}`)
			s.reply(s.expect(joinLobby5), `{"epoch":"r1","offset":5,"top":7,"recovered":true}`)
			s.sendKept(6, 5, 7, 6, 8, 7)
		}, []string{chat(6), chat(7), chat(8)}},
		"more messages than a join with history asks for": {func(s *script) {
			join := s.expect(`{"type":"join","room":"lobby","history":2}`)
			s.send(given5)
			s.sendKept(6, 5, 7, 6, 8, 7)
			s.reply(join, `{"epoch":"r1","offset":6,"top":8}`)
			s.sendKept(7, 6, 8, 7)
			s.reply(s.expect(joinLobby5), `{"epoch":"r1","offset":5,"top":8,"recovered":true}`)
			s.sendKept(6, 5, 7, 6, 8, 7)
		}, []string{chat(6), chat(7), chat(8)}},
		"removed while a join is refused": {func(s *script) {
			join := s.expect(joinLobby)
			s.send(given5)
			s.sendKept(6, 5)
			s.send(left)
			s.replyError(join, "forbidden")
			s.send(given9)
			s.sendKept(10, 9)
		}, []string{chat(10)}},
		"added while a join is answered": {func(s *script) {
			join := s.expect(joinLobby)
			s.send(given5)
			s.reply(join, at5)
			s.sendKept(6, 5)
		}, []string{chat(6)}},
		"added while a join with history is answered": {func(s *script) {
			join := s.expect(`{"type":"join","room":"lobby","history":2}`)
			s.send(given5)
			s.reply(join, `{"epoch":"r1","offset":3,"top":5}`)
			s.sendKept(4, 3, 5, 4, 6, 5)
		}, []string{chat(4), chat(5), chat(6)}},
		"invalid": {func(s *script) {
			s.send(`{"message_type":"joined"}`)
			s.send(`{"message_type":"joined","room":"lobby","content":7}`)
			s.sendKept(6, 5)
		}, []string{chat(6)}},
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
				c.do(s)
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				switch {
				case strings.Contains(name, "history"):
					_ = alice.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: 2}})
				case strings.Contains(name, "a join"):
					_ = alice.Join(t.Context(), "lobby")
				}
				require.Equal(t, c.want, alice.received())
			})
		})
	}
}

// TestDisconnectedWhileAddedAndJoining tests that a client continues after the addition if the
// connection is lost before its join is answered.
func TestDisconnectedWhileAddedAndJoining(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		offset := 5 + n
		join := s.expect(joinLobby)
		s.send(fmt.Sprintf(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":%d,"top":%[1]d}}`, offset))
		if n == 1 {
			s.sendKept(7, 6)
			return
		}
		s.replyError(join, "forbidden")
		s.reply(s.expect(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":6}}`),
			`{"epoch":"r1","offset":6,"top":7,"recovered":true}`)
		s.sendKept(7, 6)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.Equal(t, "forbidden", codeOf(alice.Join(t.Context(), "lobby")))
		require.Equal(t, []string{chat(7)}, alice.received())
	})
}

// TestRejoinRefusedWhileJoining tests that the answer to a call of Join counts even if the server
// has refused to let the client join the room again.
func TestRejoinRefusedWhileJoining(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		if n == 1 {
			s.reply(s.expect(joinLobby), at5)
			s.expect(joinLobby)
			return
		}
		if n == 2 {
			s.replyError(s.expect(joinLobby5), "internal")
			s.reply(s.expect(joinLobby), at5)
			return
		}
		s.reply(s.expect(joinLobby5), recovered5)
		s.sendKept(6, 5)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.join("lobby")
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.Equal(t, []string{"room lobby: internal", chat(6)}, alice.received())
	})
}

// TestAddedRoomAhead tests that a gap is reported if the room has never had the client's position.
func TestAddedRoomAhead(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		if n == 1 {
			s.send(`{"message_type":"joined","room":"lobby","content":` + at5 + `}`)
			return
		}
		s.send(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":2,"top":2}}`)
		s.reply(s.expect(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`),
			`{"epoch":"r1","offset":2,"top":2,"recovered":false,"reason":"ahead"}`)
		s.sendKept(3, 2)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		require.Equal(t, []string{"gap lobby ahead 5-2", chat(3)}, alice.received())
	})
}

// TestRejoinRefusedWhileAdded tests that a client continues in a room if its join over a new
// connection is refused but the application has added it.
func TestRejoinRefusedWhileAdded(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		join := s.receive()
		if n == 1 {
			s.reply(join, at5)
			return
		}
		s.send(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":7,"top":7}}`)
		s.replyError(join, "forbidden")
		s.reply(s.expect(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`), recovered5)
		s.sendKept(7, 5)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.awaitReconnect()
		require.Equal(t, []string{chat(7)}, alice.received())
	})
}

// TestManyFormerRooms tests that the number of rooms whose positions a client keeps after their
// memberships ended is limited.
func TestManyFormerRooms(t *testing.T) {
	const rooms = 1100
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		for i := range rooms {
			if n > 1 && i > 0 && i < rooms-1 {
				continue
			}
			if n == 2 { // is not added again
				return
			}
			s.send(fmt.Sprintf(`{"message_type":"joined","room":"r%d","content":{"epoch":"r","offset":%d,"top":%d}}`, i, n, n))
		}
		if n == 1 {
			return
		}
		s.expect(fmt.Sprintf(`{"type":"recover","room":"r%d","since":{"epoch":"r","offset":1}}`, rooms-1))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{})
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.Empty(t, alice.received())
	})
}

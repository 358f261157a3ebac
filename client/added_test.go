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

// giver is a server whose application puts connections into the lobby.
type giver struct {
	realtime.Options
	w     *world
	gives bool // in OnConnect
}

// give runs a test with a client that is in the lobby and with what gives it.
func give(t *testing.T, change func(o *realtime.Options), test func(t *testing.T, g *giver, alice *rig)) {
	t.Helper()
	g := &giver{gives: true}
	keep := realtime.Retention{Messages: 100}
	g.History, g.Inbox = keep, realtime.InboxOptions{Keep: keep}
	g.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		if !g.gives {
			return nil
		}
		_, err := g.w.rt.Join(ctx, c.ID(), "lobby")
		return err
	}
	change(&g.Options)
	synctest.Test(t, func(t *testing.T) {
		g.w = newWorld(t)
		g.w.restart(g.Options)
		alice := g.w.dial("alice")
		synctest.Wait()
		test(t, g, alice)
	})
}

func nothing(*realtime.Options) {}

// say sends a message of bob's to the lobby.
func (g *giver) say(offsets ...int) {
	g.w.t.Helper()
	for _, n := range offsets {
		_, err := g.w.rt.Send(g.w.t.Context(), realtime.ToRoom("lobby"), realtime.Message{
			Sender: "bob", Content: json.RawMessage(fmt.Sprint(n)),
		})
		require.NoError(g.w.t, err)
	}
	synctest.Wait()
}

// join puts all connections of alice into the lobby.
func (g *giver) join() {
	g.w.t.Helper()
	for c := range g.w.rt.User("alice").LocalConns() {
		_, err := g.w.rt.Join(g.w.t.Context(), c.ID(), "lobby")
		require.NoError(g.w.t, err)
	}
}

// away cuts alice off while something happens.
func (g *giver) away(alice *rig, do func()) {
	g.w.t.Helper()
	g.w.cut()
	synctest.Wait()
	do()
	alice.back()
}

// Everything that was sent to a room meanwhile comes, also if the application has put the client
// into it, however, and with whatever else the server keeps.
func TestGivenRoomRecovers(t *testing.T) {
	for name, change := range map[string]func(o *realtime.Options){
		"with inbox":     nothing,
		"without inbox":  func(o *realtime.Options) { o.Inbox = realtime.InboxOptions{} },
		"without resume": func(o *realtime.Options) { o.ResumeGrace = -1 },
		"with neither": func(o *realtime.Options) {
			o.ResumeGrace, o.Inbox = -1, realtime.InboxOptions{}
		},
		"catching up": func(o *realtime.Options) { o.Slow = realtime.SlowCatchUp },
	} {
		t.Run(name, func(t *testing.T) {
			give(t, change, func(t *testing.T, g *giver, alice *rig) {
				g.say(1)
				require.Equal(t, []string{chat(1)}, alice.got())
				for round := range 3 {
					n := 1 + 3*round
					g.away(alice, func() { g.say(n+1, n+2) })
					g.say(n + 3)
					got := alice.got()
					if g.Inbox.Keep.Messages == 0 {
						require.Equal(t, "gap 1006", got[0])
						got = got[1:]
					}
					require.Equal(t, []string{chat(n + 1), chat(n + 2), chat(n + 3)}, got)
					require.Len(t, alice.recovered(), 1)
				}
			})
		})
	}
}

// A session that is resumed goes on where it was, though nobody joins it anew.
func TestGivenRoomIsResumed(t *testing.T) {
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.gives = false
		g.away(alice, func() { g.say(2) })
		g.away(alice, func() { g.say(3) })
		g.say(4)
		require.Equal(t, []string{chat(1), chat(2), chat(3), chat(4)}, alice.got())
		require.Equal(t, []string{"lobby 1", "lobby 1"}, alice.recovered())
	})
}

// The application joins it some time later, and begins where it likes.
func TestGivenRoomLater(t *testing.T) {
	for name, from := range map[string]realtime.From{"now": {}, "before": {Last: 100}, "between": {Last: 1}} {
		t.Run(name, func(t *testing.T) {
			give(t, func(o *realtime.Options) { o.ResumeGrace = -1 }, func(t *testing.T, g *giver, alice *rig) {
				g.say(1)
				g.gives = false
				g.away(alice, func() { g.say(2, 3) })
				time.Sleep(time.Minute)
				g.say(4)
				require.Equal(t, []string{chat(1)}, alice.got())
				for c := range g.w.rt.User("alice").LocalConns() {
					_, err := g.w.rt.JoinFrom(t.Context(), c.ID(), "lobby", from)
					require.NoError(t, err)
				}
				synctest.Wait()
				g.say(5)
				require.Equal(t, []string{chat(2), chat(3), chat(4), chat(5)}, alice.got())
				require.Equal(t, []string{"lobby 3"}, alice.recovered())
			})
		})
	}
}

// Only the application puts a client into a room again that it has given, and a client that was
// taken out begins anew.
func TestGivenRoomIsTakenAway(t *testing.T) {
	for name, take := range map[string]func(g *giver){
		"removed":    func(g *giver) { _, _ = g.w.rt.Room("lobby").Remove(g.w.t.Context(), "alice") },
		"denied":     func(g *giver) { _, _ = g.w.rt.Room("lobby").Deny(g.w.t.Context(), "alice", time.Second) },
		"no session": func(*giver) {},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(o *realtime.Options) {
				if name == "no session" {
					o.ResumeGrace = -1
				}
			}
			give(t, change, func(t *testing.T, g *giver, alice *rig) {
				g.gives = false
				g.away(alice, func() {
					take(g)
					g.say(1)
				})
				g.say(2)
				require.Empty(t, alice.got())
				users, err := g.w.rt.Room("lobby").Members(t.Context())
				require.NoError(t, err)
				require.Empty(t, users)
				g.away(alice, func() { g.say(3) })
				require.Empty(t, alice.got())
			})
		})
	}
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) {
		_, err := g.w.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		g.say(1)
		g.join()
		g.say(2)
		require.Equal(t, []string{chat(2)}, alice.got(), "and nobody is told: it has not joined by itself")
	})
}

// A client that may not read what was sent before is told of a gap, and so is one of whose position
// nothing is left, which then gets all that is kept.
func TestGivenRoomIsLost(t *testing.T) {
	forbid := func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	give(t, func(o *realtime.Options) { o.Authorize = forbid }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.away(alice, func() { g.say(2) })
		g.say(3)
		require.Equal(t, []string{chat(1), "gap lobby unknown 1-2", chat(3)}, alice.got())
	})
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) {
		g.say(1, 2, 3)
		synctest.Wait()
		g.w.restart(g.Options)
		g.say(4)
		alice.back()
		g.say(5)
		require.Equal(t, []string{
			chat(1), chat(2), chat(3), "gap  epoch 0-0", "gap lobby epoch 3-0", chat(4), chat(5),
		}, alice.got())
	})
	give(t, func(o *realtime.Options) { o.History.Messages = 2 }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.away(alice, func() { g.say(2, 3, 4) })
		g.say(5)
		require.Equal(t, []string{chat(1), "gap lobby overflow 1-4", chat(5)}, alice.got())
	})
}

// Of a room that keeps nothing a gap is told.
func TestGivenRoomWithoutHistory(t *testing.T) {
	give(t, func(o *realtime.Options) { o.History = realtime.Retention{} }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.away(alice, func() { g.say(2) })
		g.say(3)
		require.Equal(t, []string{chat(1), "gap 1006", chat(3)}, alice.got())
	})
}

// A room that was given and that the client joins is its own, and the other way round.
func TestGivenAndJoined(t *testing.T) {
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		alice.join("lobby")
		g.gives = false
		for round := range 2 {
			n := 1 + 2*round
			g.away(alice, func() { g.say(n + 1) })
			g.say(n + 2)
			g.gives = true
		}
		require.Equal(t, []string{chat(1), chat(2), chat(3), chat(4), chat(5)}, alice.got())
		_, err := g.w.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, []string{"room lobby: removed"}, alice.got())
	})
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		g.gives = false
		g.away(alice, func() { g.say(2) })
		g.say(3)
		require.Equal(t, []string{chat(1)}, alice.got())
		g.say(4)
		g.join()
		g.say(5)
		require.Equal(t, []string{chat(5)}, alice.got(), "what it left is forgotten")
	})
	give(t, nothing, func(t *testing.T, g *giver, alice *rig) { // asks for it while it is out
		g.say(1)
		g.gives = false
		g.away(alice, func() { g.say(2) })
		_, err := g.w.rt.Room("lobby").Remove(t.Context(), "alice")
		require.NoError(t, err)
		alice.got()
		g.say(3)
		require.NoError(t, alice.JoinFrom(t.Context(), "lobby", realtime.From{Last: 2}))
		require.Equal(t, []string{chat(2), chat(3)}, alice.got())
	})
}

// A client asks for a room itself whose position it still has from when it was given.
func TestJoinOfARoomThatWasGiven(t *testing.T) {
	give(t, func(o *realtime.Options) { o.ResumeGrace = -1 }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.gives = false
		g.away(alice, func() { g.say(2) })
		alice.join("lobby")
		require.Equal(t, []string{chat(1), chat(2)}, alice.got())
		g.away(alice, func() { g.say(3) })
		require.Equal(t, []string{chat(3)}, alice.got())
	})
}

// Leave forgets a room that the client was given, also when it is not in it.
func TestLeaveOfARoomThatWasGiven(t *testing.T) {
	give(t, func(o *realtime.Options) { o.ResumeGrace = -1 }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		g.gives = false
		g.away(alice, func() { g.say(2) })
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		g.join()
		g.say(3)
		require.Equal(t, []string{chat(1), chat(3)}, alice.got())
	})
}

// A client that may not join by itself is in the room that it is given, also if it asks.
func TestJoinIsRefusedWhereGiven(t *testing.T) {
	forbid := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionJoin {
			return realtime.ErrForbidden
		}
		return nil
	}
	give(t, func(o *realtime.Options) { o.Authorize = forbid }, func(t *testing.T, g *giver, alice *rig) {
		g.say(1)
		require.ErrorContains(t, alice.Join(t.Context(), "lobby"), "forbidden")
		g.away(alice, func() { g.say(2) })
		g.say(3)
		require.Equal(t, []string{chat(1), chat(2), chat(3)}, alice.got())
	})
}

// What the server's frames do to a room that is given, whatever comes between them.
func TestGivenFrames(t *testing.T) {
	const (
		given5   = `{"message_type":"joined","room":"lobby","content":` + at5 + `}`
		given9   = `{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":9,"top":9}}`
		recover5 = `{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`
		left     = `{"message_type":"left","room":"lobby"}`
	)
	for name, c := range map[string]struct {
		do   func(s *stage)
		want []string
	}{
		"a hole": {func(s *stage) {
			s.says(given5)
			s.kept(7, 6)
			s.answers(s.expects(recover5), again5)
			s.kept(6, 5, 7, 6)
		}, []string{chat(6), chat(7)}},
		"not a member any more": {func(s *stage) {
			s.says(given5)
			s.kept(7, 6)
			recover := s.expects(recover5)
			s.says(left)
			s.refuses(recover, "no_member")
			s.says(given9)
			s.kept(10, 9, 12, 11)
			s.expects(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":10}}`) // and no leave
		}, []string{chat(10)}},
		"the server fails": {func(s *stage) {
			s.says(given5)
			s.kept(7, 6)
			s.refuses(s.expects(recover5), "internal")
			s.kept(8, 7)
		}, []string{"gap lobby unknown 5-0", chat(8)}},
		"given while a join is refused": {func(s *stage) {
			join := s.expects(joinLobby)
			s.says(given5)
			s.refuses(join, "forbidden")
			s.kept(7, 6)
			s.answers(s.expects(recover5), again5)
			s.kept(6, 5)
		}, []string{chat(6)}},
		"given while a join is answered": {func(s *stage) {
			join := s.expects(joinLobby)
			s.says(given5)
			s.answers(join, at5)
			s.kept(6, 5)
		}, []string{chat(6)}},
		"given while a join with history is answered": {func(s *stage) {
			join := s.expects(`{"type":"join","room":"lobby","history":2}`)
			s.says(given5)
			s.answers(join, `{"epoch":"r1","offset":3,"top":5}`)
			s.kept(4, 3, 5, 4, 6, 5)
		}, []string{chat(4), chat(5), chat(6)}},
		"nobody's": {func(s *stage) {
			s.says(`{"message_type":"joined"}`)
			s.says(`{"message_type":"joined","room":"lobby","content":7}`)
			s.kept(6, 5)
		}, []string{chat(6)}},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, greeted(t, empty, func(s *stage, n int) {
				c.do(s)
				s.lasts()
			}), func(t *testing.T, w *world) {
				alice := w.dial("alice")
				switch {
				case strings.Contains(name, "history"):
					_ = alice.JoinFrom(t.Context(), "lobby", realtime.From{Last: 2})
				case strings.Contains(name, "a join"):
					_ = alice.Join(t.Context(), "lobby")
				}
				require.Equal(t, c.want, alice.got())
			})
		})
	}
}

// A position that the room has never had is told to be lost.
func TestGivenRoomIsBehind(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		if n == 1 {
			s.says(`{"message_type":"joined","room":"lobby","content":` + at5 + `}`)
			return
		}
		s.says(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":2,"top":2}}`)
		s.answers(s.expects(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`),
			`{"epoch":"r1","offset":2,"top":2,"recovered":false,"reason":"ahead"}`)
		s.kept(3, 2)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.back()
		require.Equal(t, []string{"gap lobby ahead 5-2", chat(3)}, alice.got())
	})
}

// The own join is refused over the next connection, where the room is given.
func TestRejoinIsRefusedWhereGiven(t *testing.T) {
	served(t, greeted(t, empty, func(s *stage, n int) {
		join := s.hears()
		if n == 1 {
			s.answers(join, at5)
			return
		}
		s.says(`{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":7,"top":7}}`)
		s.refuses(join, "forbidden")
		s.answers(s.expects(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`), again5)
		s.kept(7, 5)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.back()
		require.Equal(t, []string{chat(7)}, alice.got())
	})
}

// A client keeps the positions of so many rooms that it was given and is not in any more.
func TestManyRoomsThatWereGiven(t *testing.T) {
	const rooms = 1100
	served(t, greeted(t, empty, func(s *stage, n int) {
		for i := range rooms {
			if n > 1 && i > 0 && i < rooms-1 {
				continue
			}
			if n == 2 { // away
				return
			}
			s.says(fmt.Sprintf(`{"message_type":"joined","room":"r%d","content":{"epoch":"r","offset":%d,"top":%d}}`, i, n, n))
		}
		if n == 1 {
			return
		}
		s.expects(fmt.Sprintf(`{"type":"recover","room":"r%d","since":{"epoch":"r","offset":1}}`, rooms-1))
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dialWith("alice", client.DialOptions{})
		alice.back()
		alice.back()
		require.Empty(t, alice.got())
	})
}

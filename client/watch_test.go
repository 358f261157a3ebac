package client_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

const (
	watchLobby = `{"type":"join","room":"lobby","presence":true}`
	showsMe    = `{"key":"k1","show":"members"}`
)

// withWatcher runs a test with a client that has joined the lobby with presence. The script answers
// the join over the first connection, and calls do over each.
func withWatcher(
	t *testing.T, do func(s *script, n int),
	test func(t *testing.T, w *testEnv, alice *testClient, changes func() []string),
) {
	t.Helper()
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		if n == 1 {
			s.reply(s.expect(watchLobby), showsMe)
		}
		do(s, n)
	}), func(t *testing.T, w *testEnv) {
		events := make(chan string, 100)
		alice := w.dialWith("alice", client.DialOptions{
			OnPresence: func(room string, now client.Presence, c client.PresenceChange) {
				events <- describePresence(room, now, c)
			},
		})
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true}))
		test(t, w, alice, func() (all []string) {
			synctest.Wait()
			for len(events) > 0 {
				all = append(all, <-events)
			}
			return all
		})
	})
}

// describePresence returns "lobby members 2/3 +k1 -k2 *k3=STATE", for example.
func describePresence(room string, now client.Presence, c client.PresenceChange) string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("%s %s %d/%d", room, now.Show, now.UserCount, now.ConnCount))
	for _, part := range []struct {
		sign    string
		members []client.Member
	}{{"+", c.Joined}, {"-", c.Left}, {"*", c.Updated}} {
		for _, m := range part.members {
			s.WriteString(" " + part.sign + m.Key)
			if m.State != nil {
				s.WriteString("=" + string(m.State))
			}
			if m.Me {
				s.WriteString(" (me)")
			}
		}
	}
	return s.String()
}

// presence sends a frame of presence of the lobby.
func (s *script) presence(members string) {
	s.send(`{"message_type":"presence","room":"lobby",` + members + `}`)
}

// TestPresenceOverConnections tests that presence stays while the client reconnects, that the next
// join names the version that it has, and that only what has changed meanwhile is a change.
func TestPresenceOverConnections(t *testing.T) {
	withWatcher(t, func(s *script, n int) {
		switch n {
		case 1:
			s.presence(`"ver":5,"show":"members","user_count":2,"connection_count":2,"members":{"k1":{},"k2":{"user":"bob"}}`)
			s.presence(`"prev":5,"ver":7,"user_count":3,"connection_count":3,"members":{"k3":{"state":1}}`)
			time.Sleep(time.Second)
		case 2: // the server knows the version
			s.reply(s.expect(`{"type":"join","room":"lobby","presence":7}`), showsMe)
			s.presence(`"prev":7,"ver":9,"user_count":2,"connection_count":2,"members":{"k2":null}`)
			time.Sleep(time.Second)
		case 3: // it does not, and has another key for this client
			s.reply(s.expect(`{"type":"join","room":"lobby","presence":9}`), `{"key":"k4","show":"members"}`)
			s.presence(`"ver":2,"show":"members","user_count":2,"connection_count":2,"members":{"k4":{},"k3":{"state":1}}`)
			time.Sleep(time.Second)
		default:
			s.reply(s.expect(`{"type":"join","room":"lobby","presence":2}`), showsMe)
			s.presence(`"prev":2,"ver":2`)
			s.serveUntilClosed()
		}
	}, func(t *testing.T, w *testEnv, alice *testClient, changes func() []string) {
		require.Equal(t, []string{"lobby members 2/2 +k1 (me) +k2", "lobby members 3/3 +k3=1"}, changes())
		for _, want := range [][]string{
			{"lobby members 2/2 -k2"}, {"lobby members 2/2 +k4 (me) -k1 (me)"}, {"lobby members 2/2 *k4"},
		} {
			before, ok := alice.Presence("lobby")
			require.True(t, ok)
			w.setDown(true)
			w.cutAll()
			require.Empty(t, changes())
			now, ok := alice.Presence("lobby")
			require.True(t, ok)
			require.Equal(t, before, now)
			w.setDown(false)
			alice.awaitReconnect()
			require.Equal(t, want, changes())
		}
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		_, ok := alice.Presence("lobby")
		require.False(t, ok)
		require.Empty(t, changes())
	})
}

// TestPresenceWithAGap tests that the client asks for everything, once, if a difference does not
// fit, and that other rooms and frames are not disturbed.
func TestPresenceWithAGap(t *testing.T) {
	withWatcher(t, func(s *script, _ int) {
		s.presence(`"ver":5,"show":"members","user_count":1,"connection_count":1,"members":{"k1":{}}`)
		s.presence(`"prev":6,"ver":7,"members":{"k1":null}`)
		s.presence(`"prev":7,"ver":8,"members":{"k2":{}}`)
		s.sendChat("1", "hi")
		again := s.expect(watchLobby)
		s.presence(`"prev":8,"ver":9,"members":{"k3":{}}`)
		s.reply(again, showsMe)
		s.presence(`"ver":9,"show":"members","user_count":2,"connection_count":2,"members":{"k1":{},"k3":{}}`)
		s.presence(`"prev":9,"ver":10,"members":{"k3":null}`)
		s.reply(s.expect(`{"type":"ping"}`), "{}")
		s.presence(`"prev":1,"ver":11`)
		s.reply(s.expect(watchLobby), showsMe)
		s.serveUntilClosed()
	}, func(t *testing.T, _ *testEnv, alice *testClient, changes func() []string) {
		require.Equal(t, []string{
			"lobby members 1/1 +k1 (me)", "lobby members 2/2 +k3", "lobby members 2/2 -k3",
		}, changes())
		require.Equal(t, []string{`bob@lobby: "hi"`}, alice.received())
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		synctest.Wait()
	})
}

// TestPresenceOfAKeptRoom tests the same in a room that keeps history: the join that asks for
// everything continues from the position.
func TestPresenceOfAKeptRoom(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
		s.reply(s.expect(watchLobby), `{"epoch":"r1","offset":5,"top":5,"key":"k1","show":"count"}`)
		s.presence(`"ver":5,"show":"count","user_count":1,"connection_count":1`)
		s.sendKept(6, 5, 8, 7) // 7 is missing
		again := s.expect(`{"type":"join","room":"lobby","since":{"epoch":"r1","offset":6}}`)
		s.presence(`"prev":4,"ver":7`)
		s.reply(again, `{"epoch":"r1","offset":6,"top":8,"recovered":true}`)
		again = s.expect(`{"type":"join","room":"lobby","presence":true,"since":{"epoch":"r1","offset":6}}`)
		s.sendKept(7, 6, 8, 7)
		s.reply(again, `{"epoch":"r1","offset":6,"top":8,"recovered":true,"show":"nothing"}`)
		s.sendKept(7, 6, 8, 7)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true}))
		require.Equal(t, []string{chat(6), chat(7), chat(8)}, alice.received())
		now, ok := alice.Presence("lobby")
		require.True(t, ok)
		require.Equal(t, client.Presence{Show: client.ShowNothing}, now)
		require.Equal(t, []string{"lobby 2"}, alice.takeRecoveries())
	})
}

// TestPresenceThatIsNotShown tests a room that shows nothing, and one that refuses the join.
func TestPresenceThatIsNotShown(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.reply(s.expect(watchLobby), `{"show":"nothing"}`)
		s.replyError(s.receive(), "forbidden")
		s.replyEmpty(s.expect(`{"type":"join","room":"hall"}`))
		s.send(`{"message_type":"presence","room":"hall","ver":1,"show":"members","members":{"x":{}}}`)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		var rooms []string
		alice := w.dialWith("alice", client.DialOptions{
			OnPresence: func(room string, now client.Presence, c client.PresenceChange) {
				rooms = append(rooms, describePresence(room, now, c))
			},
		})
		_, ok := alice.Presence("lobby")
		require.False(t, ok)
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true}))
		now, ok := alice.Presence("lobby")
		require.True(t, ok)
		require.Equal(t, client.ShowNothing, now.Show)
		require.Error(t, alice.JoinWith(t.Context(), "attic", client.JoinOptions{Presence: true}))
		require.NoError(t, alice.Join(t.Context(), "hall"))
		synctest.Wait()
		for _, room := range []string{"attic", "hall"} {
			_, ok = alice.Presence(room)
			require.False(t, ok, room)
		}
		require.Equal(t, []string{"lobby nothing 0/0"}, rooms)
	})
}

// TestFetchPresence tests what a room shows to a client that asks once.
func TestFetchPresence(t *testing.T) {
	contents := []string{
		`{"show":"members","user_count":1,"connection_count":2,"members":{"b":{},"a":{"user":"bob","info":1}}}`,
		`{"show":"count","user_count":4,"connection_count":5}`,
		`{"members":7}`,
	}
	withHandler(t, scripted(t, func(s *script, _ int) {
		for _, content := range contents {
			s.reply(s.expect(`{"type":"presence","room":"lobby"}`), content)
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		now, err := alice.FetchPresence(t.Context(), "lobby")
		require.NoError(t, err)
		require.Equal(t, client.Presence{
			Show: client.ShowMembers, UserCount: 1, ConnCount: 2,
			Members: []client.Member{{Key: "b"}, {Key: "a", User: "bob", Info: []byte("1")}},
		}, now)
		now, err = alice.FetchPresence(t.Context(), "lobby")
		require.NoError(t, err)
		require.Equal(t, client.Presence{Show: client.ShowCount, UserCount: 4, ConnCount: 5}, now)
		_, err = alice.FetchPresence(t.Context(), "lobby")
		require.Error(t, err)
		_, ok := alice.Presence("lobby")
		require.False(t, ok)
	})
}

// TestState tests that a state is sent at once, the newest of several, and again with each join,
// unless the server has not accepted it.
func TestState(t *testing.T) {
	state := func(text string) string { return `{"type":"state","room":"lobby","state":` + text + `}` }
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		switch n {
		case 1:
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":{"a":"<"}}`))
			first := s.expect(state("1"))
			time.Sleep(time.Second)
			s.replyEmpty(first)
			s.replyEmpty(s.expect(state("3")))
			s.replyError(s.expect(state("4")), "forbidden")
			time.Sleep(time.Second)
		case 2:
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":3}`))
			s.expect(state("5"))
		case 3: // 5 may be refused
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":3}`))
			s.replyEmpty(s.expect(state("6")))
			s.replyEmpty(s.expect(state("null")))
			time.Sleep(time.Second)
		default:
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":null}`))
			s.replyEmpty(s.expect(`{"type":"leave","room":"lobby"}`))
			s.replyEmpty(s.expect(joinLobby))
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		set := func(states ...any) {
			t.Helper()
			for _, v := range states {
				require.NoError(t, alice.SetState("lobby", v))
				synctest.Wait()
			}
		}
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{State: map[string]string{"a": "<"}}))
		set(1, 2, 3)
		time.Sleep(time.Second)
		synctest.Wait()
		set(4)
		require.Equal(t, []string{"room lobby: forbidden"}, alice.received())
		alice.awaitReconnect()
		set(5)
		synctest.Wait()
		set(6)
		alice.awaitReconnect()
		synctest.Wait()
		set(nil)
		alice.awaitReconnect()
		alice.received()
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		require.Equal(t, "no_member", codeOf(alice.SetState("lobby", 1)))
		alice.join("lobby")
		require.NotContains(t, strings.Join(alice.received(), " "), "room")
	})
}

// TestStateInAddedRoom tests a room to which the application has added the client: what the client
// has said about itself, and which values it has, continues when the application adds it again.
func TestStateInAddedRoom(t *testing.T) {
	const state, added = `{"type":"state","room":"lobby","state":1}`, `{"message_type":"joined","room":"lobby"}`
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		s.send(added)
		if n > 1 {
			s.replyEmpty(s.expect(state))
			s.replyEmpty(s.expect(`{"type":"recover","room":"lobby","latest":5}`))
			s.send(`{"message_type":"latest","room":"lobby","keys":[]}`)
			s.serveUntilClosed()
			return
		}
		s.replyEmpty(s.expect(state))
		s.value("lobby", "a", "1")
		s.version("lobby", 5)
		time.Sleep(time.Second)
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		synctest.Wait()
		require.NoError(t, alice.SetState("lobby", 1))
		alice.awaitReconnect()
		synctest.Wait()
		require.Equal(t, []string{"shape bob@lobby: 1", "gap 1006", "shape @lobby: null"}, alice.received())
	})
}

// TestStateThatCannotBeSent tests the errors of SetState and of the state of a join.
func TestStateThatCannotBeSent(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) { s.serveUntilClosed() }), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		require.ErrorIs(t, alice.SetState("", 1), realtime.ErrInvalidName)
		require.NoError(t, alice.SetState("lobby", strings.Repeat("x", 1022)))
		for _, test := range []struct {
			state any
			want  error
		}{
			{strings.Repeat("x", 1023), realtime.ErrTooLarge}, {[]byte("1"), realtime.ErrInvalidMessage},
			{func() {}, realtime.ErrInvalidMessage}, {"\xff", nil},
		} {
			require.ErrorIs(t, alice.SetState("lobby", test.state), test.want)
			require.ErrorIs(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{State: test.state}), test.want)
		}
		require.NoError(t, alice.Close())
		require.ErrorIs(t, alice.SetState("lobby", 7), realtime.ErrClosed)
	})
}

// TestRefusedStateOfAJoin tests that a member whose join with a state is refused keeps its state.
func TestRefusedStateOfAJoin(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		if n == 1 {
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":1}`))
			s.replyError(s.expect(`{"type":"join","room":"lobby","state":2}`), "forbidden")
			return
		}
		s.replyEmpty(s.expect(`{"type":"join","room":"lobby","state":1}`))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{State: 1}))
		err := alice.JoinWith(t.Context(), "lobby", client.JoinOptions{State: 2})
		require.Equal(t, "forbidden", codeOf(err))
		alice.awaitReconnect()
		require.Equal(t, []string{"gap 1006"}, alice.received())
	})
}

// TestStateDuringAJoin tests that a state that is set while a join is in progress is newer than
// that of the join.
func TestStateDuringAJoin(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		join := s.expect(`{"type":"join","room":"lobby","state":1}`)
		time.Sleep(time.Second)
		s.replyEmpty(join)
		s.replyEmpty(s.expect(`{"type":"state","room":"lobby","state":2}`))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		joined := make(chan error, 1)
		go func() { joined <- alice.JoinWith(t.Context(), "lobby", client.JoinOptions{State: 1}) }()
		synctest.Wait()
		require.NoError(t, alice.SetState("lobby", 2))
		require.NoError(t, <-joined)
		synctest.Wait()
	})
}

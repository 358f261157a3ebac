package client_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// watcher is a client that records what OnPresence reports, without keys.
type watcher struct {
	*testClient
	changes chan string
}

// watch connects a user and joins the lobby with presence.
func (w *testEnv) watch(user string, state any) *watcher {
	w.t.Helper()
	r := &watcher{changes: make(chan string, 1000)}
	r.testClient = w.dialWith(user, client.DialOptions{
		OnPresence: func(_ string, now client.Presence, c client.PresenceChange) {
			for _, part := range []struct {
				sign    string
				members []client.Member
			}{{"+", c.Joined}, {"-", c.Left}, {"*", c.Updated}} {
				for _, m := range part.members {
					r.changes <- part.sign + describeMember(m)
				}
			}
		},
	})
	o := client.JoinOptions{Presence: true, State: state}
	require.NoError(w.t, r.JoinWith(w.t.Context(), "lobby", o))
	return r
}

// describeMember returns "bob INFO STATE away me", without what there is not.
func describeMember(m client.Member) string {
	words := []string{m.User}
	for _, p := range []json.RawMessage{m.Info, m.State} {
		if p != nil {
			words = append(words, string(p))
		}
	}
	if m.Away {
		words = append(words, "away")
	}
	if m.Me {
		words = append(words, "me")
	}
	return strings.Join(words, " ")
}

// after returns the changes that are reported within a time.
func (r *watcher) after(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	all := []string{}
	for len(r.changes) > 0 {
		all = append(all, <-r.changes)
	}
	return all
}

// TestServerPresence tests presence with a Manager: who joins, what they say, who is lost, comes
// back and leaves, and that a client whose connection was lost learns what has changed meanwhile.
func TestServerPresence(t *testing.T) {
	o := realtime.Options{Show: realtime.ShowMembers}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.watch("alice", 1)
		require.Equal(t, []string{"+alice 1 me"}, alice.after(time.Second))
		bob := w.watch("bob", map[string]bool{"typing": false})
		require.Equal(t, []string{`+bob {"typing":false}`}, alice.after(time.Second))
		require.Equal(t, []string{"+alice 1", `+bob {"typing":false} me`}, bob.after(0))

		require.NoError(t, bob.SetState("lobby", map[string]bool{"typing": true}))
		require.Equal(t, []string{`*bob {"typing":true}`}, alice.after(time.Second))
		for c := range w.rt.User("bob").LocalConns() {
			require.NoError(t, c.SetInfo("host"))
		}
		require.Equal(t, []string{`*bob "host" {"typing":true}`}, alice.after(time.Second))
		require.Equal(t, []string{`*bob {"typing":true} me`, `*bob "host" {"typing":true} me`}, bob.after(0))

		members, err := w.rt.Room("lobby").Members(t.Context())
		require.NoError(t, err)
		now, ok := alice.Presence("lobby")
		require.True(t, ok)
		require.Len(t, members, 2)
		for i, m := range members {
			require.Equal(t, []string{m.Key, m.User, string(m.Info), string(m.State)},
				[]string{now.Members[i].Key, now.Members[i].User, string(now.Members[i].Info), string(now.Members[i].State)})
		}

		w.setDown(true) // for both
		w.cutAll()
		require.Empty(t, alice.after(5*time.Second))
		_, err = w.rt.Join(t.Context(), w.register("carol"), "lobby")
		require.NoError(t, err)
		w.setDown(false)
		alice.Reconnect()
		bob.Reconnect()
		require.Equal(t, "+carol", alice.after(5 * time.Second)[0])
		now, _ = alice.Presence("lobby")
		require.Len(t, now.Members, 3)
		require.False(t, now.Members[1].Away, "bob is back, with the same key")
		require.Equal(t, members[1].Key, now.Members[1].Key)

		require.NoError(t, bob.Leave(t.Context(), "lobby"))
		require.Contains(t, alice.after(time.Second)[0], "-bob")
	})
}

// register opens a connection in memory that ends with the test, and returns its id.
func (w *testEnv) register(user string) string {
	w.t.Helper()
	near, far := realtime.Pipe()
	c, err := w.rt.Register(w.t.Context(), near, realtime.Identity{UserID: user})
	require.NoError(w.t, err)
	w.t.Cleanup(far.Drop)
	return c.ID()
}

// TestServerPresenceAfterARestart tests that a client folds presence of a new server process, says
// its state again, and reports only what is different.
func TestServerPresenceAfterARestart(t *testing.T) {
	o := realtime.Options{Show: realtime.ShowMembers}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.watch("alice", 1)
		bob := w.watch("bob", 2)
		alice.after(time.Second)
		w.restart(o)
		alice.awaitReconnect()
		bob.awaitReconnect()
		alice.after(time.Minute)
		bob.after(0)
		for _, r := range []*watcher{alice, bob} {
			now, ok := r.Presence("lobby")
			require.True(t, ok)
			states := []string{}
			for _, u := range now.Users() {
				states = append(states, fmt.Sprintf("%s, %d", describeMember(u.Members[0]), len(u.Members)))
			}
			want := map[*watcher][]string{alice: {"alice 1 me, 1", "bob 2, 1"}, bob: {"alice 1, 1", "bob 2 me, 1"}}
			require.Equal(t, want[r], states)
		}
	})
}

// TestServerShow tests what a client learns of rooms that show less.
func TestServerShow(t *testing.T) {
	o := realtime.Options{Room: func(name string) realtime.RoomOptions {
		return realtime.RoomOptions{Show: map[string]realtime.Show{"stage": realtime.ShowCount}[name]}
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		for _, room := range []string{"stage", "attic"} {
			require.NoError(t, alice.JoinWith(t.Context(), room, client.JoinOptions{Presence: true}))
		}
		synctest.Wait()
		now, _ := alice.Presence("stage")
		require.Equal(t, client.Presence{Show: client.ShowCount, UserCount: 1, ConnCount: 1}, now)
		now, _ = alice.Presence("attic")
		require.Equal(t, client.Presence{Show: client.ShowNothing}, now)
		require.NoError(t, alice.SetState("stage", 1))
		require.Equal(t, []string{"room stage: forbidden"}, alice.received())
		_, err := alice.FetchPresence(t.Context(), "attic")
		require.Equal(t, "forbidden", codeOf(err))
	})
}

// TestServerLatest tests latest values with a Manager: for a client that joins later, that is slow,
// that was away, and that reaches another process.
func TestServerLatest(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		board := realtime.ToRoom("board")
		alice := w.dial("alice")
		alice.join("board")
		for i := range 10 {
			require.NoError(t, alice.Send(t.Context(), board, shape("a", i)))
			require.NoError(t, alice.Send(t.Context(), board, shape("b", i)))
		}
		require.NoError(t, alice.Send(t.Context(), board, shape("c", 1)))
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)

		bob := w.dialPaused("bob", client.DialOptions{})
		bob.join("board")
		for i := 10; i < 1000; i++ {
			_, err := w.rt.Send(t.Context(), board, shape("a", i))
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		bob.startReading()
		require.ElementsMatch(t, []string{"shape @board: 999", "shape alice@board: 9", "shape alice@board: 1"},
			bob.received())

		w.setDown(true)
		w.cutAll()
		_, err = w.rt.Send(t.Context(), board, shape("c", nil))
		require.NoError(t, err)
		_, err = w.rt.Send(t.Context(), board, shape("a", "new"))
		require.NoError(t, err)
		w.setDown(false)
		bob.Reconnect()
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{`shape @board: null`, `shape @board: "new"`}, bob.receivedKept())

		w.restart(realtime.Options{})
		bob.awaitReconnect()
		time.Sleep(time.Minute)
		got := bob.receivedKept()
		require.Contains(t, got, "shape @board: null", "of a and b")
		require.NotContains(t, got, `shape @board: "new"`)
	})
}

// TestServerLatestOfAnAddedClient tests that a client learns which values of a room were removed
// while it was away, if the application has added it to the room: also if it joins the room itself at
// that time, with or without a resumed session.
func TestServerLatestOfAnAddedClient(t *testing.T) {
	for _, away := range []time.Duration{time.Second, time.Minute} {
		for _, joins := range []bool{false, true} {
			withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
				board := realtime.ToRoom("board")
				w.dial("bob").join("board")
				line := &personLine{network: w.memoryNetwork}
				alice := w.dialWith("alice", client.DialOptions{HTTPClient: line.client()})
				add := func() {
					_, err := w.rt.User("alice").Join(t.Context(), "board")
					require.NoError(t, err)
				}
				set := func(key string, v any) {
					_, err := w.rt.Send(t.Context(), board, shape(key, v))
					require.NoError(t, err)
					time.Sleep(time.Second)
				}
				add()
				set("a", 1)
				set("b", 1)
				require.Len(t, alice.received(), 2)

				line.setUp(false)
				line.cut()
				set("a", nil)
				set("b", 2)
				if joins {
					go func() { assert.NoError(t, alice.Join(t.Context(), "board")) }()
				}
				time.Sleep(away)
				line.setUp(true)
				alice.Reconnect()
				synctest.Wait()
				add()
				time.Sleep(time.Second)
				got := alice.receivedKept()
				require.Contains(t, got, "shape @board: null", "away %v, joins: %v", away, joins)
				require.Contains(t, got, "shape @board: 2")
			})
		}
	}
}

// TestServerLatestOfAConnection tests values for one connection.
func TestServerLatestOfAConnection(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		synctest.Wait()
		for c := range w.rt.User("alice").LocalConns() {
			for i := range 100 {
				_, err := w.rt.Send(t.Context(), realtime.ToConn(c.ID()), shape("score", i))
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Second)
		alice.startReading()
		require.Equal(t, []string{"shape : 99"}, alice.received())
	})
}

// TestServerLatestAfterAResume tests that a client learns which values for its connection were
// removed, and which replaced, by messages that were lost with the connection.
func TestServerLatestAfterAResume(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		conn := slices.Collect(w.rt.User("alice").LocalConns())[0]
		set := func(key string, v any) {
			_, err := w.rt.Send(t.Context(), realtime.ToConn(conn.ID()), shape(key, v))
			require.NoError(t, err)
		}
		set("a", 1)
		set("b", 1)
		set("c", 1)
		require.Len(t, alice.received(), 3)
		w.cutAll()
		set("a", nil)
		set("b", 2)
		alice.awaitReconnect()
		require.ElementsMatch(t, []string{"shape : null", "shape : 2", "shape : 1"}, alice.receivedKept())
		w.cutAll()
		alice.awaitReconnect()
		require.ElementsMatch(t, []string{"shape : 2", "shape : 1"}, alice.receivedKept())
	})
}

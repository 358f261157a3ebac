package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/memengine"
)

// A room that is emptied and begins again while OnRoom keeps it knows nothing of before.
func TestNodesRoomBeginsAgainWhileKept(t *testing.T) {
	release := make(chan struct{})
	o := showing()
	slow := false
	o.OnRoom = func(_ context.Context, e realtime.RoomEvent) {
		if slow && e.Conn.UserID() == "alice" {
			<-release
		}
	}
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		release = make(chan struct{})
		one, two := ns.two()
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		f := two.watch(bob, "hall", "")
		for _, user := range []string{"x", "y", "z"} {
			two.join("hall", two.openV1(realtime.Identity{UserID: user}))
		}
		alice := one.openV1(realtime.Identity{UserID: "alice"})
		one.join("hall", alice)
		time.Sleep(time.Second)
		slow = true
		require.NoError(t, second(one.Leave(t.Context(), alice.conn.ID(), "hall")))
		time.Sleep(time.Second)
		for _, user := range []string{"x", "y", "z"} {
			require.NoError(t, second(two.Room("hall").Remove(t.Context(), user)))
		}
		time.Sleep(time.Second)
		dave := one.openV1(realtime.Identity{UserID: "dave"})
		one.join("hall", dave)
		time.Sleep(time.Minute)
		f.see(bob).same(two.Manager)
		require.Len(t, f.entries, 2)
		require.Zero(t, one.Stats().Failed+two.Stats().Failed)
		close(release)
		synctest.Wait()
	})
}

// What a node has missed while it was cut off it learns, however long that was, though nothing
// follows.
func TestNodesLearnWhatTheyMissed(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.watch(alice, "hall", "")
		g := two.watch(bob, "hall", "")
		set := func(b *bed, key, value string) {
			require.NoError(t, second(b.value(realtime.ToRoom("hall"), key, value)))
		}
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], true)
		time.Sleep(10 * time.Second)
		carol := one.openV1(realtime.Identity{UserID: "carol"})
		one.join("hall", carol)
		set(one, "new", "1")
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(5 * time.Second)
		g.see(bob).same(two.Manager)
		require.Len(t, g.entries, 3)
		require.Equal(t, map[string]string{"new": "1"}, g.values)
		ns.engine.Cut(ns.buses[1], true)
		time.Sleep(10 * time.Second)
		set(one, "new", "null")
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(5 * time.Second)
		g.see(bob)
		require.Empty(t, g.values, "it was removed")
	})
}

// A node that was not heard for some seconds is asked for its values, too.
func TestNodesLearnValuesAfterAShortBreak(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.join("hall", alice)
		two.join("hall", bob)
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], true)
		time.Sleep(time.Second)
		require.NoError(t, second(one.value(realtime.ToRoom("hall"), "k", "1")))
		time.Sleep(3 * time.Second)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(5 * time.Second)
		require.Equal(t, map[string]string{"k": "1"}, newFold(t, "hall").all(bob).values)
	})
}

// A node whose question is lost asks again.
func TestNodesAskAgainForValues(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.join("hall", alice)
		time.Sleep(time.Minute)
		require.NoError(t, second(one.value(realtime.ToRoom("hall"), "k", "1")))
		ns.engine.SetFaults(memengine.Faults{Loss: 1})
		two.join("hall", bob)
		time.Sleep(500 * time.Millisecond)
		ns.engine.SetFaults(memengine.Faults{})
		time.Sleep(5 * time.Second)
		require.Equal(t, map[string]string{"k": "1"}, newFold(t, "hall").all(bob).values)
	})
}

// An engine that takes long makes nodes agree late, not never.
func TestNodesWithASlowEngine(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		ns.engine.SetFaults(memengine.Faults{Delay: 600 * time.Millisecond})
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.watch(alice, "hall", "")
		time.Sleep(5 * time.Second)
		require.NoError(t, second(one.value(realtime.ToRoom("hall"), "k", "1")))
		for i := range 20 {
			one.joinAll(alice, fmt.Sprint("room", i))
		}
		time.Sleep(time.Minute)
		g := two.watch(bob, "hall", "")
		var folds []*fold
		for i := range 20 {
			folds = append(folds, newFold(t, fmt.Sprint("room", i)))
			require.NoError(t, bob.Write(fmt.Appendf(nil, `{"type":"join","id":1,"room":"room%d","presence":true}`, i)))
		}
		for range 30 {
			time.Sleep(time.Second)
			for _, raw := range bob.raw() {
				g.add([]byte(raw))
				for _, f := range folds {
					f.add([]byte(raw))
				}
			}
			require.NoError(t, bob.Write(fmt.Appendf(nil, `{"type":"seen","frames":%d}`, g.frames)))
		}
		require.Len(t, g.entries, 2)
		require.Equal(t, map[string]string{"k": "1"}, g.values)
		for _, f := range folds {
			require.Len(t, f.entries, 2)
		}
	})
}

// A node that is heard again in the moment in which it is taken for lost is not lost.
func TestNodesAreHeardAgainInTheLastMoment(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		var folds []*fold
		var watchers []*client
		for i := range 20 {
			room := fmt.Sprint("room", i)
			alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
			folds, watchers = append(folds, one.watch(alice, room, "")), append(watchers, alice)
			two.join(room, bob)
		}
		time.Sleep(time.Minute + 500*time.Millisecond)
		for range 20 {
			ns.engine.Mute(ns.buses[0], true)
			time.Sleep(6 * time.Second)
			ns.engine.Mute(ns.buses[0], false) // the next beats of both nodes are at the same time
			time.Sleep(time.Minute)
			for i, f := range folds {
				for key, e := range f.see(watchers[i]).entries {
					require.False(t, e.Away, key)
				}
			}
		}
	})
}

// A handler may close a node while a question of another node waits for that handler.
func TestNodesCloseWhileQuestionsWait(t *testing.T) {
	var release chan struct{}
	var two *bed
	o := realtime.Options{OnRoom: func(context.Context, realtime.RoomEvent) {
		if release != nil {
			<-release
			_ = two.Close()
		}
	}}
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		two, release = ns.beds[1], make(chan struct{})
		alice, bob := two.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		for range 600 {
			two.joinAll(alice, "hall")
			require.NoError(t, second(two.Leave(t.Context(), alice.conn.ID(), "hall")))
			synctest.Wait() // the client reads
		}
		go func() { bob.restJoin(t.Context(), one, "hall") }()
		synctest.Wait()
		close(release)
		synctest.Wait()
	})
}

// A removal ends joins of the REST interface that are being authorized on another node.
func TestNodesRemoveDuringRestJoin(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		h := one.API(func(*http.Request, realtime.Action) error {
			_, err := two.Room("hall").Remove(t.Context(), "bob")
			require.NoError(t, err)
			return nil
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost,
			"http://example.com/connections/"+bob.conn.ID()+"/join", strings.NewReader(`{"room_id":"hall"}`))
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		require.Equal(t, http.StatusForbidden, answer.Code)
		require.Empty(t, bob.conn.Rooms())
	})
}

// A new node whose question is lost learns who is denied nevertheless.
func TestNodesAskAgainForDenials(t *testing.T) {
	cluster(t, 1, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		time.Sleep(time.Minute)
		_, err := one.User("bob").Deny(t.Context(), time.Hour)
		require.NoError(t, err)
		ns.engine.SetFaults(memengine.Faults{Loss: 1})
		two := ns.add(realtime.Options{})
		time.Sleep(100 * time.Millisecond)
		ns.engine.SetFaults(memengine.Faults{})
		time.Sleep(5 * time.Second)
		require.ErrorIs(t, two.dial("bob").err, realtime.ErrDenied)
	})
}

// A denial that not all nodes could be told is in force everywhere some seconds after they can be reached,
// also if they have not noticed the break; and so is its end.
func TestNodesAgreeOnDenials(t *testing.T) {
	for _, length := range []time.Duration{time.Second, time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			cluster(t, 3, realtime.Options{}, func(t *testing.T, ns *nodes) {
				one, two := ns.two()
				time.Sleep(time.Minute)
				bob := two.open("bob")
				carol := two.open("carol")
				two.join("hall", carol)
				breaks := func(do func()) {
					t.Helper()
					ns.engine.SetFaults(memengine.Faults{Down: true})
					do()
					time.Sleep(length)
					ns.engine.SetFaults(memengine.Faults{})
					time.Sleep(8 * time.Second)
				}
				breaks(func() {
					_, err := one.User("bob").Deny(t.Context(), time.Hour)
					require.ErrorIs(t, err, realtime.ErrUnavailable)
					_, err = one.Room("hall").Deny(t.Context(), "carol", time.Hour)
					require.ErrorIs(t, err, realtime.ErrUnavailable)
				})
				bob.requireEnd(realtime.CloseRefused)
				require.Nil(t, carol.ended())
				require.Empty(t, two.members("hall"))
				for _, b := range ns.beds {
					require.ErrorIs(t, b.dial("bob").err, realtime.ErrDenied)
				}
				breaks(func() {
					_, err := one.User("bob").Deny(t.Context(), 0)
					require.ErrorIs(t, err, realtime.ErrUnavailable)
				})
				for _, b := range ns.beds {
					require.NoError(t, b.dial("bob").err)
				}
				_, err := two.User("frank").Deny(t.Context(), time.Hour)
				require.NoError(t, err)
				ns.engine.Cut(ns.buses[1], true)
				_, err = one.User("frank").Deny(t.Context(), time.Second)
				require.Error(t, err)
				time.Sleep(length)
				ns.engine.Cut(ns.buses[1], false)
				time.Sleep(20 * time.Second)
				for _, b := range ns.beds { // the later call counts, also though its time is over
					require.NoError(t, b.dial("frank").err)
				}
				breaks(func() { // both at once: the later call counts
					_, _ = one.User("dave").Deny(t.Context(), time.Hour)
					time.Sleep(time.Millisecond)
					_, _ = two.User("dave").Deny(t.Context(), 0)
					_, _ = one.User("erin").Deny(t.Context(), 0)
					time.Sleep(time.Millisecond)
					_, _ = two.User("erin").Deny(t.Context(), time.Hour)
				})
				for _, b := range ns.beds {
					require.NoError(t, b.dial("dave").err)
					require.ErrorIs(t, b.dial("erin").err, realtime.ErrDenied)
				}
			})
		})
	}
}

// A room that begins while another node cannot be reached for a moment is shown with the members of
// that node all the same.
func TestNodesBeginRoomsDuringABreak(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		_, err := one.openV1(realtime.Identity{UserID: "alice"}).conn.Join(t.Context(), "hall")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		ns.engine.Cut(ns.buses[0], true)
		f := two.watch(bob, "hall", "")
		ns.engine.Cut(ns.buses[0], false)
		time.Sleep(10 * time.Second)
		f.see(bob).same(two.Manager)
		require.Len(t, f.entries, 2)
	})
}

// A node that is asked for more members than one answer has is asked again.
func TestNodesAskForManyMembers(t *testing.T) {
	o := showing()
	o.Limits.Conns, o.Limits.ConnsPerUser = -1, -1
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		watchers := map[string]*client{}
		for n := range 5 {
			room := fmt.Sprint("room", n)
			for i := range 900 {
				transport, far := realtime.Pipe(realtime.V1)
				defer far.Drop()
				c, err := one.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
				require.NoError(t, err)
				_, err = c.Join(t.Context(), room)
				require.NoError(t, err)
			}
			watchers[room] = two.openV1(realtime.Identity{UserID: "watcher"})
			two.joinAll(watchers[room], room)
		}
		time.Sleep(2 * time.Second)
		ns.engine.Cut(ns.buses[1], true)
		for n := range 5 { // so that something is missed in each room
			c := one.openV1(realtime.Identity{UserID: "late"})
			one.joinAll(c, fmt.Sprint("room", n))
		}
		time.Sleep(6 * time.Second)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(5 * time.Second)
		for room := range watchers {
			users, err := two.Room(room).Users(t.Context())
			require.NoError(t, err)
			require.Len(t, users, 902, room)
			list := watchers[room].request(fmt.Sprintf(`{"type":"presence","id":1,"room":%q}`, room))
			require.Contains(t, list[len(list)-1], `"user_count":902`)
		}
	})
}

// An anonymous client cannot take the place of another one at another node.
func TestNodesKeepAnonymousMembersApart(t *testing.T) {
	cluster(t, 2, shared(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		victim := one.page("", "key1")
		victim.say(`{"type":"join","id":1,"room":"hall","state":"victim"}`)
		watcher := one.openV1(realtime.Identity{UserID: "watcher"})
		f := one.watch(watcher, "hall", "")
		victim.lose()
		time.Sleep(5 * time.Second)
		thief := two.page("", "key1")
		thief.say(`{"type":"join","id":1,"room":"hall","state":"thief"}`)
		time.Sleep(3 * time.Second)
		f.see(watcher)
		states := map[string]bool{}
		for _, e := range f.entries {
			states[string(e.State)] = true
		}
		require.Equal(t, map[string]bool{"": true, `"victim"`: true, `"thief"`: true}, states)
	})
}

// If a node does not answer, a room begins all the same.
func TestNodesBeginRoomsWithoutAnAnswer(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		_, err := one.openV1(realtime.Identity{UserID: "alice"}).conn.Join(t.Context(), "hall")
		require.NoError(t, err)
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		time.Sleep(time.Second)
		ns.engine.SetFaults(memengine.Faults{Loss: 1})
		f := two.watch(bob, "hall", "")
		require.Zero(t, f.snapshots)
		time.Sleep(time.Second)
		f.see(bob)
		require.Equal(t, []string{"new bob"}, f.log)
		ns.engine.SetFaults(memengine.Faults{})
		time.Sleep(10 * time.Second)
		f.see(bob).same(two.Manager)
		require.Len(t, f.entries, 2)
	})
}

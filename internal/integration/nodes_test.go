package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/memengine"
)

// nodes are Managers that share an engine, in a bubble.
type nodes struct {
	t      *testing.T
	engine *memengine.Engine
	beds   []*bed
	buses  []*memengine.Broker
}

// cluster runs a test with some nodes that have the same options.
func cluster(t *testing.T, n int, o realtime.Options, test func(t *testing.T, ns *nodes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ns := &nodes{t: t, engine: memengine.New(1)}
		for range n {
			ns.add(o)
		}
		test(t, ns)
		for _, b := range ns.beds {
			require.NoError(t, b.Close())
			if o.OnRoom != nil { // Close does not wait for it, and a room remains until it has returned
				synctest.Wait()
			}
			requireConserved(t, b.Stats())
		}
		ns.engine.Close()
	})
}

// add starts another node.
func (ns *nodes) add(o realtime.Options) *bed {
	bus := ns.engine.Broker()
	o.Broker = bus
	b := newBed(ns.t, o)
	ns.buses, ns.beds = append(ns.buses, bus), append(ns.beds, b)
	return b
}

// rooms returns the rooms that the node has.
func (b *bed) rooms() []string { return slices.Collect(b.LocalRooms()) }

func (ns *nodes) two() (one, two *bed) { return ns.beds[0], ns.beds[1] }

// What is not kept arrives at each receiver of each node, once.
func TestNodesExchangeMessages(t *testing.T) {
	cluster(t, 3, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob, bob2, carol := one.open("alice"), two.open("bob"), one.open("bob"), ns.beds[2].open("carol")
		one.join("lobby", alice)
		two.join("lobby", bob)
		all := map[string]*client{"alice": alice, "bob": bob, "bob2": bob2, "carol": carol}
		for _, c := range all {
			c.discard()
		}
		expect := func(want string, names ...string) {
			t.Helper()
			synctest.Wait()
			for name, c := range all {
				if slices.Contains(names, name) {
					require.Equal(t, []string{want}, c.got(), name)
				} else {
					require.Empty(t, c.got(), name)
				}
			}
		}
		alice.say("hi", "room")
		expect("alice: hi", "alice", "bob")
		alice.say("psst", "bob")
		expect("alice: psst", "bob", "bob2")
		for _, test := range []struct {
			to    realtime.Target
			got   []string
			local int
			nodes int
		}{
			{realtime.ToAll(), []string{"alice", "bob", "bob2", "carol"}, 2, 2},
			{realtime.ToAll().Except(bob.conn.ID()), []string{"alice", "bob2", "carol"}, 2, 2},
			{realtime.ToAll().ExceptUser("bob"), []string{"alice", "carol"}, 1, 2},
			{realtime.ToConn(carol.conn.ID()), []string{"carol"}, 0, 1},
			{realtime.ToConn(alice.conn.ID()), []string{"alice"}, 1, 0},
			{realtime.ToUser("carol"), []string{"carol"}, 0, 1},
			{realtime.ToRoom("lobby"), []string{"alice", "bob"}, 1, 1},
			{realtime.ToRoom("nowhere"), nil, 0, 0},
			{realtime.Target{Rooms: []string{"lobby"}, Users: []string{"bob", "carol"}, Conns: []string{bob.conn.ID()}},
				[]string{"alice", "bob", "bob2", "carol"}, 2, 4},
			{realtime.Target{Rooms: slices.Repeat([]string{"lobby"}, 20)}, []string{"alice", "bob"}, 1, 2},
		} {
			res := one.news(test.to, "x")
			require.Equal(t, test.local, res.Queued, "%+v", test.to)
			require.Equal(t, test.nodes, res.Nodes, "%+v", test.to)
			expect(`news "x"`, test.got...)
		}
	})
}

// Marks of a message, and latest values, arrive too.
func TestNodesExchangeEphemeralMessagesAndValues(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		slow := two.stalled("slow")
		one.join("hall", alice)
		two.join("hall", bob)
		two.joinAll(slow, "hall")
		two.fillQueue(realtime.ToUser("slow"), 70, 1)
		alice.discard()
		bob.discard()
		alice.flash("hall", "x")
		require.Contains(t, alice.raw()[0], `"ephemeral":true`)
		require.Contains(t, bob.raw()[0], `"ephemeral":true`)
		require.EqualValues(t, 1, two.Stats().DroppedEphemeral)
		slow.unstall()
		f, g := newFold(t, "hall"), newFold(t, "hall")
		for i := range 20 {
			require.NoError(t, second(ns.beds[i%2].value(realtime.ToRoom("hall"), "k", fmt.Sprint(i))))
			time.Sleep(50 * time.Millisecond)
			f.see(alice)
			g.see(bob)
		}
		require.Equal(t, map[string]string{"k": "19"}, f.values)
		require.Equal(t, f.values, g.values)
		_, err := two.value(realtime.ToConn(alice.conn.ID()), "own", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, map[string]string{"own": "1"}, newFold(t, "").all(alice).values)
	})
}

// A room that keeps its messages has them in one order on all nodes, and a client that comes back to
// another node gets what it missed.
func TestNodesShareHistory(t *testing.T) {
	cluster(t, 2, keeping(1000), func(t *testing.T, ns *nodes) {
		ns.engine.SetFaults(memengine.Faults{Delay: 5 * time.Millisecond})
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.join("hall", alice)
		two.join("hall", bob)
		alice.discard()
		bob.discard()
		done := make(chan bool)
		for i, b := range ns.beds {
			go func() {
				for n := range 100 {
					b.news(realtime.ToRoom("hall"), fmt.Sprint(i, " ", n))
				}
				done <- true
			}()
		}
		<-done
		<-done
		time.Sleep(time.Second)
		got := alice.got()
		require.Len(t, got, 200)
		require.Equal(t, got, bob.got())
		page, err := two.Room("hall").History(t.Context(), realtime.HistoryQuery{Limit: 1000})
		require.NoError(t, err)
		require.Len(t, page.Messages, 200)
		carol := two.openV1(realtime.Identity{UserID: "carol"})
		joined, err := carol.conn.JoinFrom(t.Context(), "hall", realtime.From{Since: page.Messages[9].Position})
		require.NoError(t, err)
		require.True(t, joined.Recovered)
		time.Sleep(time.Second)
		late := carol.got()
		require.Equal(t, got[10:], late[len(late)-190:])
	})
}

// A message to several rooms and users, of which some keep it, arrives once at each connection of
// each node, whatever comes first.
func TestNodesGiveUnionsOnce(t *testing.T) {
	for _, protocol := range []string{"", realtime.V1} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			o := keepingIn("kept", "kept too")
			o.Inbox.Keep.Messages = 100
			cluster(t, 2, o, func(t *testing.T, ns *nodes) {
				ns.engine.SetFaults(memengine.Faults{Delay: 20 * time.Millisecond})
				var all []*client
				for i, b := range ns.beds {
					for _, user := range []string{"alice", fmt.Sprint("only", i)} {
						c := b.open(user)
						if protocol == realtime.V1 {
							c = b.openV1(realtime.Identity{UserID: user})
						}
						b.joinAll(c, "kept", "kept too", "plain", "other")
						all = append(all, c)
					}
				}
				time.Sleep(time.Second)
				for _, c := range all {
					c.discard()
				}
				to := realtime.Target{Rooms: []string{"kept", "plain", "other", "kept too"}, Users: []string{"alice"}}
				for n := range 20 {
					b := ns.beds[n%2]
					b.news(to, fmt.Sprint(n))
					b.news(realtime.Target{Rooms: []string{"plain", "other"}}, fmt.Sprint("plain ", n))
					time.Sleep(time.Second)
					for i, c := range all {
						got := slices.Sorted(slices.Values(c.news()))
						require.Equal(t, []string{fmt.Sprintf(`"%d"`, n), fmt.Sprintf(`"plain %d"`, n)}, got, "client %d", i)
					}
				}
			})
		})
	}
}

// During a change of the options, a node on which a room keeps nothing gets the messages of a node
// on which it does.
func TestNodesWithOtherOptions(t *testing.T) {
	cluster(t, 1, keeping(10), func(t *testing.T, ns *nodes) {
		one, two := ns.beds[0], ns.add(realtime.Options{})
		alice, bob := one.open("alice"), two.open("bob")
		one.join("hall", alice)
		two.join("hall", bob)
		alice.discard()
		bob.discard()
		one.news(realtime.ToRoom("hall"), "kept")
		two.news(realtime.ToRoom("hall"), "not kept")
		time.Sleep(time.Second)
		for _, c := range []*client{alice, bob} {
			require.ElementsMatch(t, []string{`"kept"`, `"not kept"`}, c.news())
		}
	})
}

// A node that cannot reach the others serves its own clients. What is kept fails, and may be sent
// again.
func TestNodeIsCutOff(t *testing.T) {
	o := keepingIn("kept", "kept too")
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		for _, room := range []string{"kept", "plain"} {
			one.join(room, alice)
			two.join(room, bob)
		}
		alice.discard()
		bob.discard()
		ns.engine.Cut(ns.buses[0], true)
		res := one.news(realtime.ToRoom("plain"), "local")
		require.Equal(t, []int{1, -1}, []int{res.Queued, res.Nodes})
		require.Equal(t, []string{`"local"`}, alice.news())
		require.Empty(t, bob.news())
		_, err := one.Send(t.Context(), realtime.ToRoom("kept"), note("x"))
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		send := `{"type":"send","id":1,"room":"kept","message_type":"chat","content":"mine","message_id":"m1"}`
		require.Contains(t, alice.request(send)[0], `"code":"unavailable"`)
		carol := one.openV1(realtime.Identity{UserID: "carol"})
		one.joinAll(carol, "plain", "new")
		two.news(realtime.ToRoom("kept"), "missed")
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{`"missed"`}, bob.news())
		carol.discard()
		ns.engine.Cut(ns.buses[0], false)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{`"missed"`}, alice.news(), "it is found though nothing follows")
		require.Contains(t, alice.request(send)[1], `"reply"`)
		two.news(realtime.ToRoom("new"), "new")
		two.news(realtime.ToUser("carol"), "carol")
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{`"new"`, `"carol"`}, carol.news())
	})
}

// What comes from the engine is checked like what comes from a client.
func TestNodesCheckEnvelopes(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		alice := one.open("alice")
		one.join("lobby", alice)
		alice.discard()
		stranger := ns.engine.Broker()
		require.NoError(t, stranger.Open(t.Context(), nobody{}))
		defer func() { _ = stranger.Close(t.Context()) }()
		from := "\x01\x01stranger"[:2+6]
		message := func(p broker.Publication) string {
			data, err := p.AppendBinary(nil)
			require.NoError(t, err)
			return from + "\x00" + string(data)
		}
		lobby := broker.Target{Rooms: []string{"lobby"}}
		bad := []string{
			"", "\x00", "\x02", "\x01", "\x01\x01short", from, from + "\x80", from + "\x00", from + "\x00{}",
			from + "\x00\xff\xff\xff\xff\x0f", from + "\x00\x02[]",
			message(broker.Publication{Target: lobby, Message: broker.Message{Type: "welcome"}}),
			message(broker.Publication{Target: lobby, Message: broker.Message{Content: []byte("1"), Type: "a\x00"}}),
			message(broker.Publication{Target: broker.Target{All: true}, Message: broker.Message{Latest: "k", Type: "x"}}),
		}
		for _, part := range []string{
			"", "{", `{"room":"lobby","ver":2,"prev":2}`, `{"room":"lobby","ver":1,"users":-1}`,
			`{"room":"lobby","ver":1,"members":{"":{}}}`, `{"room":"lobby","ver":1,"members":{"k":{"user":"a\u0000"}}}`,
			`{"room":"lobby","ver":1,"members":{"k":{"info":"` + "\xff" + `"}}}`,
			`{"room":"lobby","ver":1,"members":{"k":{"state":"` + strings.Repeat("x", 1024) + `"}}}`,
		} {
			bad = append(bad, "\x01\x06strang\x00"+part)
		}
		for _, method := range []string{"", "{", "[]"} {
			bad = append(bad, "\x01\x04strang\x00"+method, "\x01\x05strang\x00"+method, "\x01\x02strang\x00x"+method)
		}
		for _, data := range bad {
			before := one.Stats().Failed
			_, err := stranger.Send(t.Context(), []byte(data), "all", "room/lobby")
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, before+2, one.Stats().Failed, "%q", data)
		}
		require.EqualValues(t, 2*len(bad), one.Stats().Failed)
		for _, data := range []string{"\x01\x09strang\x00new kind"} {
			_, err := stranger.Send(t.Context(), []byte(data), "all")
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Empty(t, alice.got())
		_, err := stranger.Send(t.Context(), []byte(message(broker.Publication{
			Stream: "room/other", Target: lobby, Position: broker.Position{Epoch: "e", Offset: 7},
			Message: broker.Message(note("x")),
		})), "all")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{`n "x"`}, alice.got())
		require.EqualValues(t, 2*len(bad), one.Stats().Failed)
	})
}

// A node listens to the rooms and users that it has, and half a minute longer.
func TestNodesListenToWhatTheyHave(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		took := func(to realtime.Target) int { return one.news(to, "x").Nodes }
		require.Zero(t, took(realtime.ToRoom("hall")))
		require.Zero(t, took(realtime.ToUser("bob")))
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		two.join("hall", bob)
		for range 3 {
			require.Equal(t, 1, took(realtime.ToRoom("hall")))
			require.Equal(t, 1, took(realtime.ToUser("bob")))
			require.NoError(t, bob.conn.Close(realtime.CloseNormal, ""))
			time.Sleep(25 * time.Second)
			require.Equal(t, 1, took(realtime.ToRoom("hall")), "still")
			bob = two.openV1(realtime.Identity{UserID: "bob"})
			two.join("hall", bob)
			time.Sleep(25 * time.Second)
		}
		require.NoError(t, bob.conn.Close(realtime.CloseNormal, ""))
		time.Sleep(35 * time.Second)
		require.Zero(t, took(realtime.ToRoom("hall")))
		require.Zero(t, took(realtime.ToUser("bob")))
		require.Zero(t, two.Stats().Matched-two.Stats().Written-two.Stats().Lost)
	})
}

// Moderation is in force on all nodes when it returns, also on those that start later.
func TestNodesModerate(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		ctx := t.Context()
		bob, other := two.openV1(realtime.Identity{UserID: "bob"}), one.openV1(realtime.Identity{UserID: "bob"})
		n, err := one.User("bob").Join(ctx, "hall")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, []string{"hall"}, bob.conn.Rooms())
		n, err = one.User("bob").Count(ctx)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		n, err = one.Room("hall").Remove(ctx, "bob")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Empty(t, bob.conn.Rooms())
		two.join("hall", bob)
		n, err = one.Room("hall").Deny(ctx, "bob", time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for _, b := range []*bed{two, ns.add(realtime.Options{})} {
			c := b.openV1(realtime.Identity{UserID: "bob"})
			_, err = c.conn.Join(ctx, "hall")
			require.ErrorIs(t, err, realtime.ErrDenied)
			require.NoError(t, c.conn.Close(realtime.CloseNormal, ""))
		}
		n, err = one.Room("hall").Deny(ctx, "bob", 0)
		require.NoError(t, err)
		require.Zero(t, n)
		two.join("hall", bob)
		time.Sleep(time.Minute)
		n, err = one.User("bob").Disconnect(ctx, realtime.CloseNormal, "bye")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		bob.requireEnd(realtime.CloseNormal)
		other.requireEnd(realtime.CloseNormal)
		n, err = one.User("bob").Deny(ctx, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		for _, b := range append(ns.beds, ns.add(realtime.Options{})) {
			require.ErrorIs(t, b.dial("bob").err, realtime.ErrDenied)
		}
	})
}

// What is not in force everywhere is an error that names the node. A node that was cut off learns who
// is denied when it is back.
func TestNodesModerateWhileOneIsCutOff(t *testing.T) {
	cluster(t, 3, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		ctx := t.Context()
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		time.Sleep(2 * time.Second) // all know of each other
		ns.engine.Cut(ns.buses[1], true)
		began := time.Now()
		_, err := one.User("bob").Deny(ctx, time.Hour)
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		require.ErrorContains(t, err, "no answer of node")
		require.Equal(t, 2*time.Second, time.Since(began))
		require.ErrorIs(t, ns.beds[2].dial("bob").err, realtime.ErrDenied, "the others have it in force")
		n, err := two.User("bob").Disconnect(ctx, realtime.CloseNormal, "")
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		require.Equal(t, 1, n, "its own")
		bob.requireEnd(realtime.CloseNormal)
		again := two.openV1(realtime.Identity{UserID: "bob"})
		time.Sleep(10 * time.Second)
		_, err = one.User("carol").Deny(ctx, time.Hour)
		require.ErrorContains(t, err, "no answer of node", "it is not heard, and may be cut off")
		time.Sleep(15 * time.Second)
		_, err = one.User("carol").Deny(ctx, time.Hour)
		require.NoError(t, err, "the node is taken for gone")
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(100 * time.Millisecond)
		again.requireEnd(realtime.CloseRefused)
		require.ErrorIs(t, two.dial("carol").err, realtime.ErrDenied)
	})
}

// A connection joins and leaves by its id from any node, and over the REST interface of any node.
func TestNodesReachConnections(t *testing.T) {
	cluster(t, 2, realtime.Options{Limits: realtime.Limits{RoomsPerConn: 2}}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		ctx := t.Context()
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		id := bob.conn.ID()
		joined, err := one.Join(ctx, id, "hall")
		require.NoError(t, err)
		require.True(t, joined)
		joined, err = one.Join(ctx, id, "hall")
		require.NoError(t, err)
		require.False(t, joined)
		require.Equal(t, 200, bob.restJoin(ctx, one, "lobby").Code)
		require.Equal(t, []string{"hall", "lobby"}, bob.conn.Rooms())
		_, err = one.Join(ctx, id, "one too many")
		require.ErrorIs(t, err, realtime.ErrTooManyRooms)
		require.Equal(t, 200, bob.restJoin(ctx, one, "another").Code, "it leaves the lobby")
		left, err := one.Leave(ctx, id, "hall")
		require.NoError(t, err)
		require.True(t, left)
		_, err = one.Room("vip").Deny(ctx, "bob", time.Hour)
		require.NoError(t, err)
		_, err = one.Join(ctx, id, "vip")
		require.ErrorIs(t, err, realtime.ErrDenied)
		require.Equal(t, 403, bob.restJoin(ctx, one, "vip").Code)
		require.Equal(t, []string{"another"}, bob.conn.Rooms())
		require.NoError(t, bob.conn.Close(realtime.CloseNormal, ""))
		synctest.Wait()
		for _, conn := range []string{id, "conn_unknown", one.open("x").conn.ID() + "y"} {
			_, err = one.Join(ctx, conn, "hall")
			require.ErrorIs(t, err, realtime.ErrNotFound)
		}
		require.Equal(t, 400, bob.restJoin(ctx, one, "lobby").Code)
		carol := two.openV1(realtime.Identity{UserID: "carol"})
		require.NoError(t, two.Close())
		synctest.Wait()
		_, err = one.Join(ctx, carol.conn.ID(), "hall")
		require.ErrorIs(t, err, realtime.ErrNotFound, "its node has ended")
	})
}

// Lists and numbers are of all nodes.
func TestNodesKnowEachOthersMembers(t *testing.T) {
	cluster(t, 3, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		ctx := t.Context()
		hall := ns.beds[2].Room("hall")
		users, err := hall.Users(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{}, users)
		alice, bob, bob2 := one.openV1(realtime.Identity{UserID: "alice", Info: json.RawMessage("1")}),
			two.openV1(realtime.Identity{UserID: "bob"}), one.open("bob")
		guest := two.openV1(realtime.Identity{})
		for _, c := range []*client{alice, bob, bob2, guest} {
			_, err := c.conn.Join(ctx, "hall")
			require.NoError(t, err)
		}
		alice.request(`{"type":"state","id":1,"room":"hall","state":2}`)
		for _, b := range ns.beds {
			users, err := b.Room("hall").Users(ctx)
			require.NoError(t, err)
			require.Equal(t, []string{"alice", "bob"}, users)
			count, err := b.Room("hall").Count(ctx)
			require.NoError(t, err)
			require.Equal(t, realtime.Count{Users: 2, Conns: 4}, count)
			members, err := b.Room("hall").Members(ctx)
			require.NoError(t, err)
			require.Len(t, members, 4)
			require.Equal(t, []string{"", "alice", "bob", "bob"},
				[]string{members[0].User, members[1].User, members[2].User, members[3].User})
			require.Equal(t, []string{"1", "2"}, []string{string(members[1].Info), string(members[1].State)})
			require.Nil(t, members[0].Info)
			require.Equal(t, alice.conn.ID(), members[1].Conn)
		}
		ns.engine.Cut(ns.buses[1], true)
		users, err = one.Room("hall").Users(ctx)
		require.NoError(t, err, "the engine knows that nobody else listens")
		require.Equal(t, []string{"alice", "bob"}, users)
		users, err = two.Room("hall").Users(ctx)
		require.ErrorIs(t, err, realtime.ErrUnavailable)
		require.Equal(t, []string{"alice", "bob"}, users, "as it last knew")
	})
}

// A user who is connected to another node is not offline.
func TestNodesKnowWhoIsOnline(t *testing.T) {
	var offline, asked []string
	o := realtime.Options{}
	o.Inbox.Keep.Messages = 10
	o.Inbox.OnOffline = func(_ context.Context, user string, _ realtime.Message) { offline = append(offline, user) }
	o.Inbox.Exists = func(_ context.Context, user string) (bool, error) {
		asked = append(asked, user)
		return true, nil
	}
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		two.openV1(realtime.Identity{UserID: "bob"})
		gone := two.openV1(realtime.Identity{UserID: "gone"})
		require.NoError(t, gone.conn.Close(realtime.CloseNormal, ""))
		synctest.Wait()
		for _, to := range []realtime.Target{
			realtime.ToUser("bob"), realtime.ToUser("carol"), realtime.ToUser("gone"),
			{Users: []string{"bob", "carol", "gone"}},
		} {
			offline, asked = nil, nil
			res := one.news(to, "x")
			want := slices.DeleteFunc(slices.Clone(to.Users), func(user string) bool { return user == "bob" })
			require.Equal(t, len(to.Users), res.Kept)
			require.Equal(t, len(want), res.Offline)
			require.ElementsMatch(t, want, offline)
			require.ElementsMatch(t, want, asked)
		}
	})
}

// Nodes agree on the values of a room: also if several set them at the same time, and if one comes
// later or was cut off.
func TestNodesAgreeOnValues(t *testing.T) {
	cluster(t, 3, realtime.Options{}, func(t *testing.T, ns *nodes) {
		ns.engine.SetFaults(memengine.Faults{Delay: 30 * time.Millisecond})
		one, two := ns.two()
		for i, b := range ns.beds[:2] {
			b.joinAll(b.openV1(realtime.Identity{UserID: fmt.Sprint("user", i)}), "hall")
		}
		time.Sleep(time.Second)
		set := func(b *bed, key string, value any) {
			text, err := json.Marshal(value)
			require.NoError(t, err)
			require.NoError(t, second(b.value(realtime.ToRoom("hall"), key, string(text))))
		}
		agree := func(want map[string]string) {
			t.Helper()
			time.Sleep(time.Second)
			for i, b := range ns.beds {
				messages, err := b.Room("hall").Latest(t.Context())
				require.NoError(t, err)
				got := map[string]string{}
				for _, m := range messages {
					got[m.Latest] = string(m.Content)
				}
				if count, _ := b.Room("hall").Count(t.Context()); count.Conns > 0 && len(b.rooms()) > 0 {
					require.Equal(t, want, got, "node %d", i)
				}
			}
		}
		for range 50 { // at once
			set(one, "a", 1)
			set(two, "a", 2)
			set(two, "b", 1)
			set(one, "b", nil)
		}
		time.Sleep(time.Second)
		first, err := one.Room("hall").Latest(t.Context())
		require.NoError(t, err)
		want := map[string]string{}
		for _, m := range first {
			want[m.Latest] = string(m.Content)
		}
		agree(want)
		set(ns.beds[2], "c", "from a node without members")
		want["c"] = `"from a node without members"`
		agree(want)
		carol := ns.beds[2].openV1(realtime.Identity{UserID: "carol"})
		ns.beds[2].joinAll(carol, "hall")
		f := newFold(t, "hall")
		agree(want)
		require.Equal(t, want, f.all(carol).values)
		set(ns.beds[2], "c", "newer")
		set(ns.beds[2], "a", nil)
		want["c"] = `"newer"`
		delete(want, "a")
		agree(want)
		ns.engine.Cut(ns.buses[1], true)
		set(one, "c", "missed")
		set(two, "d", "alone")
		time.Sleep(10 * time.Second)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(time.Second)
		want["c"], want["d"] = `"missed"`, `"alone"`
		agree(want)
	})
}

// keepingIn returns Options in which some rooms keep 100 messages, and no other room any.
func keepingIn(rooms ...string) realtime.Options {
	return realtime.Options{Room: func(name string) realtime.RoomOptions {
		if slices.Contains(rooms, name) {
			return realtime.RoomOptions{History: realtime.Retention{Messages: 100}}
		}
		return realtime.RoomOptions{}
	}}
}

// news returns the contents of the messages since the last call.
func (c *client) news() (contents []string) {
	for _, raw := range c.raw() {
		var m struct {
			Type    string `json:"message_type"`
			Content json.RawMessage
		}
		require.NoError(c.t, json.Unmarshal([]byte(raw), &m), raw)
		if m.Type == "news" || m.Type == "n" {
			contents = append(contents, string(m.Content))
		}
	}
	return contents
}

// nobody is a Sink that ignores everything.
type nobody struct{}

func (nobody) Deliver(broker.Publication) {}
func (nobody) Lost(string)                {}
func (nobody) Receive(string, []byte)     {}
func (nobody) Cut(bool)                   {}

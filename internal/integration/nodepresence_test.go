package integration_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/long"
	"github.com/realtime-go/realtime/internal/memengine"
)

// Watchers of each node see the members of all nodes, as they come, change and leave.
func TestNodesShareMembers(t *testing.T) {
	cluster(t, 3, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice := one.openV1(realtime.Identity{UserID: "alice", Info: []byte(`"A"`)})
		f := one.watch(alice, "hall", "")
		require.Len(t, f.entries, 1)
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		g := two.watch(bob, "hall", `,"state":1`)
		time.Sleep(time.Second)
		f.see(alice).same(one.Manager)
		g.see(bob).same(two.Manager)
		require.Len(t, f.entries, 2)
		require.Equal(t, []string{"new alice", "new bob"}, f.log)
		for _, raw := range bob.request(`{"type":"state","id":2,"room":"hall","state":2}`) {
			g.add([]byte(raw))
		}
		require.NoError(t, alice.conn.SetInfo("new"))
		time.Sleep(time.Second)
		f.see(alice).same(one.Manager)
		g.see(bob).same(two.Manager)
		require.Len(t, f.log, 2, "an update is no leave and join")
		require.Equal(t, 1, f.snapshots)
		list := alice.request(`{"type":"presence","id":3,"room":"hall"}`)[0]
		require.Contains(t, list, `"user_count":2,"connection_count":2`)
		require.Contains(t, list, `"user":"bob","state":2`)
		_, err := two.Leave(t.Context(), bob.conn.ID(), "hall")
		require.NoError(t, err)
		time.Sleep(time.Second)
		f.see(alice).same(one.Manager)
		require.Equal(t, []string{"new alice", "new bob", "gone bob"}, f.log)
	})
}

// Plain clients get the notices of a user once, whichever nodes the user is connected to.
func TestNodesShareNotices(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice := one.open("alice")
		one.join("hall", alice)
		alice.discard()
		bob, bob2 := two.open("bob"), one.open("bob")
		for _, c := range []*client{bob, bob2} {
			_, err := c.conn.Join(t.Context(), "hall")
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"bob in hall"}, alice.got())
		for _, c := range []*client{bob2, bob} {
			require.NoError(t, c.conn.Close(realtime.CloseNormal, ""))
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"bob out hall"}, alice.got())
	})
}

// A room that shows numbers shows those of all nodes.
func TestNodesShareCounts(t *testing.T) {
	cluster(t, 3, realtime.Options{Show: realtime.ShowCount}, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		alice := one.openV1(realtime.Identity{UserID: "alice"})
		f := one.watch(alice, "hall", "")
		for i, b := range ns.beds {
			for n := range 5 {
				c := b.openV1(realtime.Identity{UserID: fmt.Sprint("user", i, n)})
				_, err := c.conn.Join(t.Context(), "hall")
				require.NoError(t, err)
			}
		}
		time.Sleep(3 * time.Second)
		f.see(alice)
		require.Equal(t, []int{16, 16}, []int{f.users, f.conns})
		require.LessOrEqual(t, f.counts, 4)
	})
}

// A page whose connection was lost, or whose node was killed or shut down, and that reconnects to
// another node, has not left: its entry stays, with its key.
func TestNodesHandOverMembers(t *testing.T) {
	lost := func(wait time.Duration) func(ns *nodes, p *page) {
		return func(_ *nodes, p *page) {
			p.lose()
			time.Sleep(wait)
		}
	}
	for name, leave := range map[string]func(ns *nodes, p *page){
		"lost":            lost(100 * time.Millisecond),
		"lost for longer": lost(5 * time.Second),
		"killed": func(ns *nodes, p *page) {
			ns.engine.Cut(ns.buses[0], true)
			time.Sleep(8 * time.Second)
		},
		"killed just now": func(ns *nodes, p *page) {
			ns.engine.Cut(ns.buses[0], true)
			time.Sleep(100 * time.Millisecond)
		},
		"shut down": func(ns *nodes, p *page) {
			require.NoError(ns.t, ns.beds[0].Close())
			time.Sleep(time.Second)
		},
		"shutting down": func(ns *nodes, p *page) {
			slow := ns.beds[0].stalled("slow") // so it takes some time
			ns.beds[0].fillQueue(realtime.ToUser("slow"), 70, 1)
			go func() { _ = ns.beds[0].Shutdown(context.Background()) }()
			ns.t.Cleanup(slow.unstall)
			time.Sleep(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
				one, two, three := ns.beds[0], ns.beds[1], ns.beds[2]
				watcher := three.openV1(realtime.Identity{UserID: "watcher"})
				f := three.watch(watcher, "hall", "")
				plain := three.open("plain")
				three.join("hall", plain)
				_, err := two.openV1(realtime.Identity{UserID: "bob"}).conn.Join(t.Context(), "hall")
				require.NoError(t, err) // so the node knows the members of the others
				page := one.page("alice", "key1")
				page.say(`{"type":"join","id":1,"room":"hall","presence":true,"state":1}`)
				time.Sleep(2 * time.Second)
				plain.discard()
				f.see(watcher)
				leave(ns, page)
				again := two.page("alice", "key1")
				again.say(`{"type":"join","id":1,"room":"hall","presence":true,"state":2}`)
				time.Sleep(time.Minute)
				f.see(watcher).same(three.Manager)
				log := strings.Join(f.log, " ")
				require.NotContains(t, log, "gone")
				require.Equal(t, 1, strings.Count(log, "new alice"), log)
				require.Equal(t, `2`, string(f.entries["key1"].State))
				require.False(t, f.entries["key1"].Away)
				require.Len(t, f.entries, 4)
				require.Empty(t, plain.got())
				if !strings.HasPrefix(name, "killed") {
					require.Zero(t, one.Stats().Rooms, "the first node has given it up")
				}
				page.lose()
			})
		})
	}
}

// A page whose node was killed, and that comes to another node at once, has the key there that it is
// told, whichever node is greater.
func TestNodesTellPagesTheirKeys(t *testing.T) {
	for i := range 10 {
		cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
			one, two := ns.two()
			_, err := ns.beds[2].openV1(realtime.Identity{UserID: "bob"}).conn.Join(t.Context(), "hall")
			require.NoError(t, err)
			if i%2 == 0 { // the room is there
				_, err := two.openV1(realtime.Identity{UserID: "carol"}).conn.Join(t.Context(), "hall")
				require.NoError(t, err)
			}
			page := one.page("alice", "key1")
			page.say(`{"type":"join","id":1,"room":"hall","presence":true}`)
			time.Sleep(2 * time.Second)
			ns.engine.Cut(ns.buses[0], true)
			time.Sleep(100 * time.Millisecond)
			again := two.page("alice", "key1")
			answer := again.request(`{"type":"join","id":1,"room":"hall","presence":true,"state":"mine"}`)[0]
			for range 30 {
				time.Sleep(time.Second)
				members, err := two.Room("hall").Members(t.Context())
				require.NoError(t, err)
				i := slices.IndexFunc(members, func(m realtime.Member) bool { return string(m.State) == `"mine"` })
				require.Contains(t, answer, fmt.Sprintf(`"key":%q`, members[i].Key))
			}
			page.lose()
		})
	}
}

// Nobody gets the key of another user's member, also not at a node that does not know it yet.
func TestNodesLeaveKeysToWhoHasThem(t *testing.T) {
	for i := range 6 { // either node may be the greater one
		cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
			one, two, three := ns.beds[i%2], ns.beds[1-i%2], ns.beds[2]
			watcher, third := one.openV1(realtime.Identity{UserID: "watcher"}), three.openV1(realtime.Identity{UserID: "third"})
			f, g := one.watch(watcher, "hall", ""), three.watch(third, "hall", "")
			victim := one.page("victim", "key1")
			victim.say(`{"type":"join","id":1,"room":"hall","presence":true,"state":1}`)
			time.Sleep(time.Minute)
			evil := two.page("evil", "key1")
			evil.say(`{"type":"join","id":1,"room":"hall","state":2}`)
			for range 20 {
				time.Sleep(time.Second)
				for _, one := range []*fold{f.see(watcher), g.see(third)} {
					require.Equal(t, "victim", one.entries["key1"].User)
					require.Len(t, one.entries, 4)
					require.Len(t, one.log, 4, "%v", one.log)
				}
			}
		})
	}
}

// Two pages of a user with the same key at two nodes are one member for a moment, and then two.
func TestNodesSeparatePages(t *testing.T) {
	cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		watcher := ns.beds[2].openV1(realtime.Identity{UserID: "watcher"})
		f := ns.beds[2].watch(watcher, "hall", "")
		for i, b := range []*bed{one, two} {
			b.page("alice", "key1").say(`{"type":"join","id":1,"room":"hall","presence":true,"state":%d}`, i)
			time.Sleep(time.Minute)
		}
		f.see(watcher).same(ns.beds[2].Manager)
		require.Len(t, f.entries, 3)
		require.Equal(t, "1", string(f.entries["key1"].State))
		require.NotContains(t, strings.Join(f.log, " "), "gone")
	})
}

// A change that was lost is found as soon as another one follows.
func TestNodesFindLostChanges(t *testing.T) {
	cluster(t, 2, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		f := one.watch(alice, "hall", "")
		two.join("hall", bob)
		time.Sleep(time.Minute)
		f.see(alice)
		carol := two.openV1(realtime.Identity{UserID: "carol"})
		ns.engine.SetFaults(memengine.Faults{Loss: 1})
		two.join("hall", carol)
		time.Sleep(200 * time.Millisecond)
		ns.engine.SetFaults(memengine.Faults{})
		bob.request(`{"type":"state","id":2,"room":"hall","state":2}`)
		time.Sleep(500 * time.Millisecond)
		f.see(alice).same(one.Manager)
		require.Equal(t, []string{"new alice", "new bob", "new carol"}, f.log)
	})
}

// A client that joins a room on a node that has not had it is told of all members and values at once:
// it may come from another node, and would see the others leave. This includes the members of a node
// that has ended, or was killed, before this one began: they may come back.
func TestNodesBeginRoomsWithAllMembers(t *testing.T) {
	for name, end := range map[string]func(ns *nodes){
		"shutdown": func(ns *nodes) { _ = ns.beds[2].Close() },
		"kill":     func(ns *nodes) { ns.engine.Cut(ns.buses[2], true) },
	} {
		for place, at := range map[string]func(ns *nodes) *bed{
			"old node": func(ns *nodes) *bed { return ns.beds[1] },
			"new node": func(ns *nodes) *bed { return ns.add(showing()) },
		} {
			t.Run(name+", "+place, func(t *testing.T) { beginRoom(t, end, at) })
		}
	}
}

func beginRoom(t *testing.T, end func(*nodes), at func(*nodes) *bed) {
	cluster(t, 3, showing(), func(t *testing.T, ns *nodes) {
		ns.engine.SetFaults(memengine.Faults{Delay: 10 * time.Millisecond})
		for user, b := range map[string]*bed{"alice": ns.beds[0], "carol": ns.beds[2]} {
			_, err := b.openV1(realtime.Identity{UserID: user}).conn.Join(t.Context(), "hall")
			require.NoError(t, err)
		}
		_, err := ns.beds[0].value(realtime.ToRoom("hall"), "k", "1")
		require.NoError(t, err)
		time.Sleep(time.Second)
		end(ns)
		b := at(ns)
		bob, f := b.openV1(realtime.Identity{UserID: "bob"}), newFold(t, "hall")
		f.values["k"] = "1" // it comes from another node
		got := bob.request(`{"type":"join","id":1,"room":"hall","presence":true,"values":7}`)
		time.Sleep(time.Second)
		for _, raw := range append(got, bob.raw()...) {
			f.add([]byte(raw))
			require.Equal(t, map[string]string{"k": "1"}, f.values)
		}
		require.Equal(t, []string{"new alice", "new bob", "new carol"}, f.log)
		require.Equal(t, 1, f.snapshots)
		time.Sleep(8 * time.Second) // longer than a lease
		for _, e := range f.see(bob).entries {
			require.Equal(t, e.User == "carol", e.Away)
		}
		time.Sleep(15 * time.Second)
		f.see(bob)
		require.Equal(t, "gone carol", f.log[len(f.log)-1])
	})
}

// The members of a node that was killed are gone after its lease and the grace. A node that is cut
// off keeps what it knows, and tells nobody that others have left.
func TestNodesThatAreLost(t *testing.T) {
	cluster(t, 3, showing(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice := one.openV1(realtime.Identity{UserID: "alice"})
		f := one.watch(alice, "hall", "")
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		g := two.watch(bob, "hall", "")
		time.Sleep(2 * time.Second)
		ns.engine.Cut(ns.buses[1], true)
		time.Sleep(15 * time.Second)
		f.see(alice)
		require.Len(t, f.entries, 2, "within the grace")
		carol := two.openV1(realtime.Identity{UserID: "carol"})
		two.join("hall", carol)
		time.Sleep(8 * time.Second)
		f.see(alice)
		require.Len(t, f.entries, 1)
		g.see(bob)
		require.Len(t, g.entries, 3, "the node knows that it is cut off")
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(10 * time.Second)
		f.see(alice).same(one.Manager)
		g.see(bob).same(two.Manager)
		require.Len(t, f.entries, 3)
		require.Equal(t, []string{"new alice", "new bob", "new carol"}, g.log)
	})
}

// countingBus counts what is sent to a room.
type countingBus struct {
	broker.Bus
	sends atomic.Int64
}

func (b *countingBus) Send(ctx context.Context, data []byte, subjects ...string) (int, error) {
	if slices.Contains(subjects, broker.RoomStream("hall")) {
		b.sends.Add(1)
	}
	return b.Bus.Send(ctx, data, subjects...)
}

// A node tells nothing of a room that no other node has, and tells everything from the moment in which
// another one begins to have it.
func TestRoomOfOneNodeIsQuiet(t *testing.T) {
	cluster(t, 1, showing(), func(t *testing.T, ns *nodes) {
		bus := &countingBus{Bus: ns.engine.Broker()}
		o := showing()
		o.Broker = bus
		one, two := newBed(t, o), ns.beds[0]
		defer one.Close()
		alice := one.openV1(realtime.Identity{UserID: "alice"})
		f := one.watch(alice, "hall", "")
		for i := range 20 {
			require.NoError(t, alice.conn.SetInfo(i))
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 1, bus.sends.Load(), "whether another node has the room")
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		g := two.watch(bob, "hall", "")
		require.NoError(t, alice.conn.SetInfo("new"))
		time.Sleep(200 * time.Millisecond)
		g.see(bob).same(two.Manager)
		f.see(alice).same(one.Manager)
		require.Len(t, g.entries, 2)
	})
}

// TestNodePresence lets pages join, change, move and leave on nodes that lose messages, are cut off,
// killed, and started again. Some time after the last fault, all nodes show the pages that are left,
// with what they said last.
func TestNodePresence(t *testing.T) {
	for seed := range uint64(long.Of(60, 300, 2000)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := &presenceChaos{dice: rand.New(rand.NewPCG(seed, 0))}
			cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
				ns.engine.SetFaults(memengine.Faults{
					Delay: 30 * time.Millisecond, Loss: []float64{0, 0.02, 0.2}[seed%3],
				})
				c.ns = ns
				for range 150 {
					c.step()
					time.Sleep(time.Duration(c.dice.IntN(400)) * time.Millisecond)
				}
				for _, bus := range ns.buses {
					ns.engine.Cut(bus, false)
				}
				ns.engine.SetFaults(memengine.Faults{Delay: 30 * time.Millisecond})
				time.Sleep(time.Minute)
				c.check(t)
			})
		})
	}
}

// presenceChaos is a cluster with pages.
type presenceChaos struct {
	ns    *nodes
	dice  *rand.Rand
	pages []*chaosPage
}

// chaosPage is a page that is connected.
type chaosPage struct {
	*page
	bed    *bed
	user   string
	states map[string]int // by room that it has joined
}

func (c *presenceChaos) step() {
	b := c.ns.beds[c.dice.IntN(len(c.ns.beds))]
	room := fmt.Sprint("room", c.dice.IntN(2))
	switch c.dice.IntN(14) {
	case 0, 1, 2, 3:
		user := fmt.Sprint("user", c.dice.IntN(5))
		p := &chaosPage{b.page(user, fmt.Sprint("key", c.dice.IntN(8))), b, user, map[string]int{}}
		c.pages = append(c.pages, p)
		c.join(p, room)
	case 4:
		if p := c.any(); p != nil {
			c.join(p, room)
		}
	case 5, 6, 7:
		if p := c.any(); p != nil && len(p.states) > 0 {
			for room := range p.states {
				p.states[room] = c.dice.IntN(9)
				p.say(`{"type":"state","room":%q,"state":%d}`, room, p.states[room])
			}
		}
	case 8:
		if p := c.any(); p != nil {
			p.say(`{"type":"leave","room":%q}`, room)
			delete(p.states, room)
		}
	case 9, 10:
		if p := c.any(); p != nil {
			[]func(){p.lose, p.leave}[c.dice.IntN(2)]()
			c.forget(func(other *chaosPage) bool { return other == p })
		}
	case 11:
		c.ns.engine.Cut(c.ns.buses[c.dice.IntN(len(c.ns.buses))], c.dice.IntN(3) == 0)
	case 12:
		if c.dice.IntN(5) == 0 {
			c.restart(b)
		}
	}
}

func (c *presenceChaos) join(p *chaosPage, room string) {
	p.states[room] = c.dice.IntN(9)
	p.say(`{"type":"join","id":1,"room":%q,"presence":true,"state":%d}`, room, p.states[room])
}

// restart ends a node, perhaps without a goodbye, and starts another one.
func (c *presenceChaos) restart(b *bed) {
	i := slices.Index(c.ns.beds, b)
	c.ns.engine.Cut(c.ns.buses[i], c.dice.IntN(2) == 0)
	require.NoError(c.ns.t, b.Close())
	c.forget(func(p *chaosPage) bool { return p.bed == b })
	c.ns.beds, c.ns.buses = slices.Delete(c.ns.beds, i, i+1), slices.Delete(c.ns.buses, i, i+1)
	c.ns.add(shared())
}

func (c *presenceChaos) any() *chaosPage {
	if len(c.pages) == 0 {
		return nil
	}
	return c.pages[c.dice.IntN(len(c.pages))]
}

func (c *presenceChaos) forget(which func(p *chaosPage) bool) {
	c.pages = slices.DeleteFunc(c.pages, which)
}

// check requires that a new watcher at each node sees the pages that are connected.
func (c *presenceChaos) check(t *testing.T) {
	for _, room := range []string{"room0", "room1"} {
		var want []string
		for _, p := range c.pages {
			if state, ok := p.states[room]; ok {
				want = append(want, fmt.Sprint(p.user, " ", state))
			}
		}
		slices.Sort(want)
		for i, b := range c.ns.beds {
			w := b.openV1(realtime.Identity{UserID: "watcher"})
			f := b.watch(w, room, "")
			time.Sleep(time.Second)
			f.see(w)
			var got []string
			for _, e := range f.entries {
				if e.User != "watcher" {
					got = append(got, fmt.Sprint(e.User, " ", string(e.State)))
					require.False(t, e.Away)
				}
			}
			slices.Sort(got)
			require.Equal(t, want, got, "node %d, %s", i, room)
			require.Equal(t, len(f.entries), f.conns)
			require.NoError(t, w.conn.Close(realtime.CloseNormal, ""))
			time.Sleep(time.Second)
		}
	}
}

// shared returns Options for pages whose rooms show their members.
func shared() realtime.Options {
	o := showing()
	o.Authenticate = realtime.InsecureQueryUser
	o.Limits.ConnsPerUser = -1
	return o
}

// lose cuts the connection of a page.
func (p *page) lose() {
	_ = p.nc.Close()
	synctest.Wait()
}

// say sends a request, if the page is still connected.
func (p *page) say(format string, args ...any) {
	_, _ = io.WriteString(p.nc, masked(fin|opText, fmt.Sprintf(format, args...)))
	synctest.Wait()
}

package integration_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/memengine"
)

// agree requires that a watcher of each node knows the same members, which are those of all nodes.
func (ns *nodes) agree(room string, folds map[*bed]*fold, watchers map[*bed]*client) {
	ns.t.Helper()
	for _, b := range ns.beds {
		if f := folds[b]; f != nil {
			f.see(watchers[b]).same(b.Manager)
		}
	}
}

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

// A page whose connection was lost, and that reconnects to another node, has not left: its entry
// stays, with its key.
func TestNodesHandOverMembers(t *testing.T) {
	for _, wait := range []time.Duration{100 * time.Millisecond, 5 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
				one, two := ns.two()
				watcher := ns.beds[2].openV1(realtime.Identity{UserID: "watcher"})
				f := ns.beds[2].watch(watcher, "hall", "")
				plain := ns.beds[2].open("plain")
				ns.beds[2].join("hall", plain)
				page := one.page("alice", "key1")
				page.say(`{"type":"join","id":1,"room":"hall","presence":true,"state":1}`)
				time.Sleep(time.Second)
				plain.discard()
				page.lose()
				time.Sleep(wait)
				again := two.page("alice", "key1")
				again.say(`{"type":"join","id":1,"room":"hall","presence":true,"state":2}`)
				time.Sleep(time.Minute)
				f.see(watcher).same(ns.beds[2].Manager)
				require.NotContains(t, strings.Join(f.log, " "), "gone")
				require.Equal(t, `2`, string(f.entries["key1"].State))
				require.False(t, f.entries["key1"].Away)
				require.Len(t, f.entries, 3)
				require.Empty(t, plain.got())
				require.Zero(t, one.Stats().Rooms, "the first node has given it up")
			})
		})
	}
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

// TestNodePresence lets clients join, change, move and leave on nodes that lose messages, are cut
// off and restarted. After some time without faults, all nodes show the same.
func TestNodePresence(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { nodePresence(t, seed) })
	}
}

func nodePresence(t *testing.T, seed uint64) {
	dice := rand.New(rand.NewPCG(seed, 0))
	cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
		ns.engine.SetFaults(memengine.Faults{Delay: 30 * time.Millisecond, Loss: []float64{0, 0.02, 0.2}[seed%3]})
		var pages []*page
		for range 150 {
			b := ns.beds[dice.IntN(len(ns.beds))]
			switch dice.IntN(12) {
			case 0, 1, 2, 3:
				p := b.page(fmt.Sprint("user", dice.IntN(5)), fmt.Sprint("key", dice.IntN(8)))
				p.say(`{"type":"join","id":1,"room":"room%d","presence":true,"state":%d}`, dice.IntN(2), dice.IntN(9))
				pages = append(pages, p)
			case 4, 5:
				for _, p := range pages {
					if dice.IntN(3) == 0 {
						p.say(`{"type":"state","room":"room%d","state":%d}`, dice.IntN(2), dice.IntN(9))
					}
				}
			case 6, 7:
				if len(pages) > 0 {
					p := pages[dice.IntN(len(pages))]
					[]func(){p.lose, p.leave}[dice.IntN(2)]()
				}
			case 8:
				ns.engine.Cut(ns.buses[dice.IntN(len(ns.buses))], dice.IntN(3) == 0)
			}
			time.Sleep(time.Duration(dice.IntN(400)) * time.Millisecond)
		}
		for _, bus := range ns.buses {
			ns.engine.Cut(bus, false)
		}
		ns.engine.SetFaults(memengine.Faults{Delay: 30 * time.Millisecond})
		time.Sleep(time.Minute)
		synctest.Wait()
		for room := range 2 {
			name := fmt.Sprint("room", room)
			var first *fold
			for _, b := range ns.beds {
				if !strings.Contains(fmt.Sprint(b.rooms()), name) {
					continue
				}
				w := b.openV1(realtime.Identity{})
				f := b.watch(w, name, "")
				time.Sleep(time.Second)
				f.see(w)
				f.entries = withoutAnonymous(f.entries)
				if first == nil {
					first = f
				} else {
					require.Equal(t, first.entries, f.entries, name)
				}
				require.NoError(t, w.conn.Close(realtime.CloseNormal, ""))
				time.Sleep(time.Second)
			}
		}
	})
}

func withoutAnonymous(all map[string]entry) map[string]entry {
	users := map[string]entry{}
	for key, e := range all {
		if e.User != "" {
			users[key] = e
		}
	}
	return users
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

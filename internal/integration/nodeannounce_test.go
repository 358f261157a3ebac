package integration_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/memengine"
)

// A user comes and goes once, on however many nodes their devices are.
func TestNodesAnnounceUsers(t *testing.T) {
	cluster(t, 3, realtime.Options{AnnounceUsers: true}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		three := ns.beds[2]
		synctest.Wait()
		watcher := func(at *bed) *client {
			c := at.open("")
			c.discard()
			return c
		}
		watchers := []*client{watcher(one), watcher(two), watcher(three)}
		expect := func(want ...string) {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			for i, w := range watchers {
				require.ElementsMatch(t, want, w.got(), "node %d", i+1)
			}
		}
		alice := one.open("alice")
		expect("alice joined")
		alice2 := two.open("alice")
		alice3 := two.open("alice")
		expect()
		_ = alice.conn.Close(realtime.CloseRefused, "")
		_ = alice2.conn.Close(realtime.CloseRefused, "")
		expect()
		_ = alice3.conn.Close(realtime.CloseRefused, "")
		expect("alice left")

		bob := one.open("bob")
		bob2 := two.open("bob")
		expect("bob joined")
		_ = bob.conn.Close(realtime.CloseRefused, "")
		_ = bob2.conn.Close(realtime.CloseRefused, "")
		expect("bob left")

		carol := three.open("carol")
		expect("carol joined")
		ns.engine.SetFaults(memengine.Faults{Delay: 50 * time.Millisecond})
		four := ns.add(realtime.Options{AnnounceUsers: true}) // it learns who is there before it serves
		watchers = append(watchers, watcher(four))
		time.Sleep(10 * time.Second)
		ns.engine.SetFaults(memengine.Faults{})
		expect()
		four.open("carol")
		expect()
		require.NoError(t, three.Close())
		watchers = append(watchers[:2], watchers[3])
		expect()
		_ = carol.ended()
		time.Sleep(time.Minute)
		expect()
		one.open("dave")
		expect("dave joined")
		for _, user := range []string{"carol", "dave"} {
			_, err := two.User(user).Disconnect(t.Context(), realtime.CloseRefused, "")
			require.NoError(t, err)
		}
		expect("carol left", "dave left")
	})
}

// A node that is cut off tells of nobody that they have left, and is told to have lost its users only
// after some time.
func TestNodesAnnounceUsersInFaults(t *testing.T) {
	cluster(t, 2, realtime.Options{AnnounceUsers: true}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		synctest.Wait()
		watch1, watch2 := one.open(""), two.open("")
		one.open("alice")
		two.open("bob")
		time.Sleep(2 * time.Second)
		watch1.discard()
		watch2.discard()
		expect := func(at1, at2 []string) {
			t.Helper()
			require.ElementsMatch(t, at1, watch1.got(), "node 1")
			require.ElementsMatch(t, at2, watch2.got(), "node 2")
		}
		ns.engine.Cut(ns.buses[1], true)
		time.Sleep(20 * time.Second)
		two.open("carol")
		synctest.Wait()
		expect(nil, []string{"carol joined"})
		time.Sleep(5 * time.Second)
		expect([]string{"bob left"}, nil)
		one.open("dave")
		one.open("carol")
		synctest.Wait()
		expect([]string{"dave joined", "carol joined"}, nil)
		time.Sleep(time.Minute)
		ns.engine.Cut(ns.buses[1], false)
		time.Sleep(5 * time.Second)
		expect([]string{"bob joined"}, []string{"dave joined"})
	})
}

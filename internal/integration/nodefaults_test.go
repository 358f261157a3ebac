package integration_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
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

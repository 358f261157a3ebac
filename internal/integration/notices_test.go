package integration_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestUserNoticesOncePerUser(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		tab1 := b.open("alice")
		tab2 := b.open("alice")
		require.Equal(t, []string{"welcome", "alice joined"}, watcher.got())
		require.Equal(t, []string{"welcome"}, tab1.got(), "not to the user itself")
		require.Equal(t, []string{"welcome"}, tab2.got())
		require.Equal(t, 2, b.Stats().Users)

		tab1.Drop()
		require.Empty(t, watcher.got(), "the other tab is open")
		require.NoError(t, tab2.Close(1001, ""))
		require.Equal(t, []string{"alice left"}, watcher.got())
	})
}

func TestAnonymousConnectionsCauseNoNotices(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		anon := b.open("")
		anon.say("hello", "all")
		anon.discard()
		anon.Drop()
		require.Equal(t, []string{"welcome", "nobody: hello"}, watcher.got())
	})
}

func TestNoticesFollowTheState(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher, alice := b.open("watcher"), b.open("alice")
		b.join("lobby", watcher, alice)
		alice.Drop()
		require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
		require.Equal(t, 1, b.Stats().Conns)
		members, err := b.Room("lobby").Users(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"watcher"}, members)
	})
}

func tail(s []string, n int) []string { return s[max(0, len(s)-n):] }

func TestRoomNotices(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		bob, alice := b.open("bob"), b.open("alice")
		b.join("lobby", bob)
		alice.discard()
		joined, err := b.Join(t.Context(), alice.conn.ID(), "lobby")
		require.True(t, joined)
		require.NoError(t, err)
		require.Equal(t, []string{"alice in lobby"}, bob.got())
		require.Equal(t, []string{"alice in lobby"}, alice.got(), "also to the user itself")

		joined, err = b.Join(t.Context(), alice.conn.ID(), "lobby")
		require.False(t, joined)
		require.NoError(t, err)
		require.Empty(t, bob.got(), "already a member")

		left, err := b.Leave(t.Context(), alice.conn.ID(), "lobby")
		require.True(t, left)
		require.NoError(t, err)
		require.Equal(t, []string{"alice out lobby"}, bob.got())
		require.Empty(t, alice.got(), "not to the user itself")

		left, err = b.Leave(t.Context(), alice.conn.ID(), "lobby")
		require.False(t, left)
		require.NoError(t, err)
		require.Empty(t, bob.got())
	})
}

func TestSecondTabCausesNoNotices(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		bob, tab1, tab2 := b.open("bob"), b.open("alice"), b.open("alice")
		b.join("lobby", bob, tab1)
		bob.discard()
		_, err := b.Join(t.Context(), tab2.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Empty(t, bob.got())
		require.Empty(t, tab1.got())
		require.Equal(t, []string{"alice in lobby"}, tail(tab2.got(), 1), "its own join is answered")
		members, _ := b.Room("lobby").Users(t.Context())
		require.Equal(t, []string{"alice", "bob"}, members)
		count, _ := b.Room("lobby").Count(t.Context())
		require.Equal(t, realtime.Count{Users: 2, Conns: 3}, count)

		tab1.Drop()
		require.Empty(t, bob.got())
		tab2.Drop()
		require.Equal(t, []string{"alice out lobby", "alice left"}, bob.got())
	})
}

// The last tab of a user closes while the next one opens. Notices that the user connected and
// disconnected alternate.
func TestNoticesWhileTabsAreReplaced(t *testing.T) {
	o := announced()
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		tab := b.open("alice")
		for range 200 {
			done := make(chan struct{})
			next := make(chan *client)
			go func() {
				_ = tab.conn.Close(1000, "")
				close(done)
			}()
			go func() { next <- b.dial("alice") }()
			<-done
			tab = <-next
			require.NoError(t, tab.err)
			synctest.Wait()
		}
		online := false
		for _, line := range watcher.got() {
			switch line {
			case "alice joined":
				require.False(t, online, "joined twice")
				online = true
			case "alice left":
				require.True(t, online, "left twice")
				online = false
			}
		}
		require.True(t, online)
		require.Equal(t, 2, b.Stats().Users)
	})
}

// Notices of a room are for plain members of rooms that show their members, and the bill of a
// client counts those who get them.
func TestRoomNoticesArePlain(t *testing.T) {
	o := announced()
	o.Limits.RoomsPerConn = -1
	o.Room = func(name string) realtime.RoomOptions {
		return realtime.RoomOptions{Show: map[string]realtime.Show{
			"nothing": realtime.ShowNothing, "count": realtime.ShowCount,
		}[name]}
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		plain, modern := b.open("plain"), b.openV1(realtime.Identity{UserID: "modern"})
		b.joinAll(plain, "lobby", "nothing", "count")
		b.joinAll(modern, "lobby", "nothing", "count")
		require.Equal(t, []string{"welcome", "modern joined", "plain in lobby", "modern in lobby"}, plain.got())
		modern.discard()

		alice := b.openV1(realtime.Identity{UserID: "alice"})
		anon := b.openV1(realtime.Identity{})
		plain.discard()
		modern.discard()
		for _, c := range []*client{alice, anon} {
			c.discard()
			for _, room := range []string{"lobby", "nothing", "count"} {
				c.request(`{"type":"join","id":1,"room":"` + room + `"}`)
				c.request(`{"type":"leave","id":1,"room":"` + room + `"}`)
			}
			require.Empty(t, c.raw())
		}
		require.Equal(t, []string{
			"alice in lobby", "alice out lobby", "nobody in lobby", "nobody out lobby",
		}, plain.got())
		require.Empty(t, modern.raw())

		tab := b.open("modern") // a further connection
		tab.discard()
		b.joinAll(tab, "lobby", "nothing")
		require.Equal(t, []string{"modern in lobby"}, tab.got())
		require.Empty(t, plain.got())
		require.Empty(t, modern.raw())
		late := b.openV1(realtime.Identity{UserID: "plain"})
		late.discard()
		b.joinAll(late, "lobby")
		require.Equal(t, []string{`{"message_type":"joined","room":"lobby"}`}, late.raw())
		require.Empty(t, plain.got())
		plain.Drop()
		require.Empty(t, tab.got())
	})
}

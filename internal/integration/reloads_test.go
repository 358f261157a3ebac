package integration_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A page that is reloaded and says that it has no state has none. One that says nothing keeps it.
func TestReloadWithoutState(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		p := b.openTab("alice", "K")
		p.watch(newFold(t, "hall"), `,"state":1`)
		for _, test := range [][]string{{"", "1"}, {`,"state":null`, ""}} {
			p.reload()
			p = b.openTab("alice", "K")
			p.watch(newFold(t, "hall"), test[0])
			time.Sleep(time.Second)
			f.see(bob).same(b.Manager)
			require.Equal(t, test[1], string(f.entries["K"].State))
		}
	})
}

// What the application says about a page stays over a reload, also in rooms that the new page has
// joined before it continues a membership.
func TestInfoStaysOverAReload(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		p := b.openTab("alice", "K")
		p.watch(newFold(t, "hall"), "")
		require.NoError(t, b.Conn(p.id).SetInfo("speaker"))
		p.reload()
		p = b.openTab("alice", "K")
		require.False(t, isError(p.ask(`{"type":"join","id":1,"room":"lobby"}`)))
		p.watch(newFold(t, "hall"), "")
		for _, room := range []string{"lobby", "hall"} {
			members, err := b.Room(room).Members(t.Context())
			require.NoError(t, err)
			require.Equal(t, `"speaker"`, string(members[0].Info), room)
		}
	})
}

// A page that is reloaded continues its membership: others see no change.
func TestManyReloads(t *testing.T) {
	var d diary
	o := tabs(showing())
	o.OnRoom = func(_ context.Context, e realtime.RoomEvent) { d.write(e.Conn.UserID() + " " + string(e.Kind)) }
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		plain := b.open("plain")
		b.join("hall", plain)
		p := b.openTab("alice", "K")
		p.watch(newFold(t, "hall"), `,"state":{"page":0}`)
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Equal(t, "alice", f.entries["K"].User)
		plain.discard()
		require.Len(t, f.log, 3)
		d.read()
		for range 50 {
			before := f.entries["K"]
			p.reload()
			time.Sleep(time.Second)
			require.Equal(t, before, f.see(bob).entries["K"])
			p = b.openTab("alice", "K")
			own := newFold(t, "hall")
			p.watch(own, `,"state":{"page":1}`)
			time.Sleep(time.Second)
			f.see(bob).same(b.Manager)
			p.drain(own).same(b.Manager)
			require.Contains(t, own.entries, "K")
		}
		require.Len(t, f.log, 3, f.log)
		require.Equal(t, 2+1, f.differences, "plain, alice, and her new state")
		require.Empty(t, plain.got())
		require.Equal(t, []string{"alice away", "alice back"}, d.read()[:2])
		require.Equal(t, 3, b.Stats().Users)

		p.reload() // it does not come back
		time.Sleep(4 * time.Second)
		require.True(t, f.see(bob).entries["K"].Away)
		time.Sleep(1500 * time.Millisecond)
		f.see(bob).same(b.Manager)
		require.Equal(t, "gone alice", f.log[3])
		require.Equal(t, []string{"alice out hall"}, plain.got())
	})
}

// Only the same user with the same key continues a membership, and only one that is lost.
func TestReloadOfOthers(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		p := b.openTab("alice", "K")
		p.watch(newFold(t, "hall"), "")
		twin := b.openTab("alice", "K") // a tab that was duplicated
		twin.watch(newFold(t, "hall"), "")
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 3)
		p.reload()
		for user, key := range map[string]string{"mallory": "K", "alice": "other", "": "K"} {
			b.openTab(user, key).watch(newFold(t, "hall"), "")
		}
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 6)
		require.Equal(t, "alice", f.entries["K"].User)
		time.Sleep(5 * time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 5)
		require.NotContains(t, f.entries, "K")
	})
}

// A page that is reloaded while a kick comes is gone once, and comes back as new.
func TestKickOfAReloadedPage(t *testing.T) {
	kicks := map[string]func(b *bed) error{
		"remove": func(b *bed) error { return second(b.Room("hall").Remove(b.t.Context(), "alice")) },
		"deny":   func(b *bed) error { return second(b.Room("hall").Deny(b.t.Context(), "alice", time.Second)) },
		"disconnect": func(b *bed) error {
			return second(b.User("alice").Disconnect(b.t.Context(), realtime.CloseRefused, ""))
		},
	}
	for name, kick := range kicks {
		for away, wait := range map[string]time.Duration{"": 0, "away": 4 * time.Second} {
			t.Run(name+away, func(t *testing.T) {
				bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
					bob := b.openV1(realtime.Identity{UserID: "bob"})
					f := b.watch(bob, "hall", "")
					p := b.openTab("alice", "K")
					p.watch(newFold(t, "hall"), `,"state":1`)
					time.Sleep(time.Second)
					p.reload()
					time.Sleep(wait)
					require.NoError(t, kick(b))
					time.Sleep(time.Second)
					f.see(bob).same(b.Manager)
					require.Equal(t, []string{"new bob", "new alice", "gone alice"}, f.log)
					p = b.openTab("alice", "K")
					p.watch(newFold(t, "hall"), "")
					time.Sleep(time.Second)
					f.see(bob).same(b.Manager)
					require.Equal(t, "new alice", f.log[3])
					require.Empty(t, f.entries["K"].State, "nothing is left of the other")
				})
			})
		}
	}
}

// A page whose session is taken over may still resume it: then it has no rooms.
func TestReloadAndResume(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		p := b.openTab("alice", "K")
		p.watch(newFold(t, "hall"), "")
		time.Sleep(time.Second)
		p.cut()
		again := b.openTab("alice", "K")
		again.watch(newFold(t, "hall"), "")
		require.Contains(t, again.ask(`{"type":"resume","id":1,"session":"` + p.session + `"}`)[0], `{"rooms":["hall"]}`)
		time.Sleep(20 * time.Second)
		f.see(bob).same(b.Manager)
		require.Equal(t, []string{"new bob", "new alice"}, f.log)
		again.cut()
		third := b.openTab("alice", "K")
		require.Contains(t, third.ask(`{"type":"resume","id":1,"session":"` + again.session + `"}`)[0], `{"rooms":["hall"]}`)
		third.watch(newFold(t, "hall"), "")
		time.Sleep(20 * time.Second)
		f.see(bob).same(b.Manager)
		require.Equal(t, []string{"new bob", "new alice"}, f.log)
	})
}

// A page that joins before it resumes has an entry of its own. The old one goes.
func TestJoinBeforeResume(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		p := b.openTab("alice", "")
		p.watch(newFold(t, "hall"), "")
		p.cut()
		again := b.openTab("alice", "")
		again.watch(newFold(t, "hall"), "")
		again.ask(`{"type":"resume","id":1,"session":"` + p.session + `"}`)
		time.Sleep(time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 2)
	})
}

// The detached sessions of a user count with its connections.
func TestReloadsAreLimited(t *testing.T) {
	o := tabs(showing())
	o.Limits.ConnsPerUser = 3
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		for range 20 {
			p := b.openTab("alice", "")
			p.watch(newFold(t, "hall"), "")
			p.reload()
			require.LessOrEqual(t, len(f.see(bob).entries), 1+4)
			time.Sleep(50 * time.Millisecond)
		}
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 1+3)
		time.Sleep(6 * time.Second)
		f.see(bob).same(b.Manager)
		require.Len(t, f.entries, 1)
	})
}

// A key is a name of at most 32 bytes.
func TestPresenceKeyIsChecked(t *testing.T) {
	bubble(t, tabs(showing()), func(t *testing.T, b *bed) {
		for key, want := range map[string]int{
			strings.Repeat("k", 32): http.StatusSwitchingProtocols,
			strings.Repeat("k", 33): http.StatusBadRequest,
			" k":                    http.StatusBadRequest,
			"\n":                    http.StatusBadRequest,
			"\xff":                  http.StatusBadRequest,
		} {
			_, status := b.tryTab("alice", key)
			require.Equal(t, want, status, "%q", key)
		}
	})
}

// A connection without a key continues nothing, also if the application joins it.
func TestReloadWithoutAKey(t *testing.T) {
	o := tabs(showing())
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		_, err := c.Join(ctx, "hall")
		return err
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		for _, key := range []string{"", "K"} {
			f.log = nil
			b.openTab("alice", key).reload()
			time.Sleep(time.Second)
			p := b.openTab("alice", key)
			time.Sleep(10 * time.Second)
			f.see(bob).same(b.Manager)
			want := []string{"new alice"}
			if key == "" {
				want = []string{"new alice", "new alice", "gone alice"}
			}
			require.Equal(t, want, f.log)
			p.cut()
			time.Sleep(16 * time.Second)
			f.see(bob)
		}
	})
}

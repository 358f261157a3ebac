package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Each of the things that a client does with the state of a room needs a permission of its own, and
// a client that has none of them learns nothing.
func TestPresenceIsAuthorized(t *testing.T) {
	o := showing()
	o.Authorize = func(_ context.Context, c *realtime.Conn, a realtime.Action) error {
		kinds := map[string][]realtime.ActionKind{
			"stranger": nil, "listener": {realtime.ActionJoin},
			"watcher": {realtime.ActionJoin, realtime.ActionMembers},
			"talker":  {realtime.ActionJoin, realtime.ActionState},
		}[c.UserID()]
		if c.UserID() == "alice" || a.Room == "hall" && slices.Contains(kinds, a.Kind) {
			return nil
		}
		return realtime.ErrForbidden
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.watch(alice, "hall", `,"state":1`)
		for user, allowed := range map[string]string{
			"stranger": "", "listener": "join", "watcher": "join watch presence", "talker": "join say state",
		} {
			c := b.openV1(realtime.Identity{UserID: user})
			c.discard()
			for _, request := range []struct{ name, text string }{
				{"watch", `{"type":"join","id":1,"room":"hall","presence":true}`},
				{"say", `{"type":"join","id":1,"room":"hall","state":2}`},
				{"presence", `{"type":"presence","id":1,"room":"hall"}`},
				{"join", `{"type":"join","id":1,"room":"hall"}`},
				{"state", `{"type":"state","id":1,"room":"hall","state":3}`},
			} {
				got := strings.Join(c.request(request.text), "\n")
				if slices.Contains(strings.Fields(allowed), request.name) {
					require.NotContains(t, got, `"error"`, user+" "+request.name)
					continue
				}
				require.Contains(t, got, `"code":"forbidden"`, user+" "+request.name)
			}
			c.discard()
			alice.request(`{"type":"state","room":"hall","state":"` + user + `"}`)
			time.Sleep(time.Second)
			got := strings.Contains(strings.Join(c.raw(), ""), `"message_type":"presence"`)
			require.Equal(t, user == "watcher", got, user)
		}
	})
}

// Only the server says which user a member is, and which info it has.
func TestInfoCannotBeForged(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		f := b.watch(alice, "hall", "")
		mallory := b.openV1(realtime.Identity{UserID: "mallory", Info: json.RawMessage(`"guest"`)})
		mallory.discard()
		forged := `"user":"alice","info":"admin","key":"k","away":true,"members":{"k":{}}`
		for _, request := range []string{
			`{"type":"join","room":"hall",` + forged + `,"state":{"user":"alice"}}`,
			`{"type":"state","room":"hall",` + forged + `,"state":{"info":"admin"}}`,
			`{"type":"send","id":1,"room":"hall","message_type":"presence","content":{` + forged + `}}`,
			`{"type":"presence","room":"hall",` + forged + `}`,
		} {
			mallory.request(request)
		}
		time.Sleep(time.Second)
		f.all(alice).same(b.Manager)
		require.Len(t, f.entries, 2)
		for key, e := range f.entries {
			if e.User == "mallory" {
				require.Equal(t, []string{`"guest"`, `{"info":"admin"}`}, []string{string(e.Info), string(e.State)})
				require.Regexp(t, `^[A-Z2-7]{8}$`, key)
			}
		}
	})
}

// However often a client changes its state, others get the newest one once in a tick. A client that
// does not stop is read more slowly, and then ended.
func TestFloodOfStates(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		f := b.watch(alice, "hall", "")
		mallory := b.openV1(realtime.Identity{UserID: "mallory"})
		b.join("hall", mallory)
		mallory.discard()
		time.Sleep(time.Second)
		f.all(alice)
		f.frames = 0
		for i := range 400 {
			require.NoError(t, mallory.Write(fmt.Appendf(nil, `{"type":"state","room":"hall","state":%d}`, i)))
		}
		time.Sleep(time.Second)
		f.all(alice).same(b.Manager)
		require.Less(t, f.frames, uint64(5))
		go func() {
			for mallory.Write([]byte(`{"type":"state","room":"hall","state":0}`)) == nil {
			}
		}()
		time.Sleep(time.Minute)
		mallory.requireEnd(realtime.CloseRate)
		require.Nil(t, alice.ended())
	})
}

// States and values are bounded, count in the memory of the server, and are gone with their room.
func TestStateOfARoomIsBounded(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("hall", alice)
		alice.discard()
		large := strings.Repeat("x", 1023)
		for _, request := range []string{
			`{"type":"join","id":1,"room":"hall","state":"` + large + `"}`,
			`{"type":"state","id":1,"room":"hall","state":"` + large + `"}`,
		} {
			require.Contains(t, alice.request(request)[0], `"code":"too_large"`)
		}
		require.ErrorIs(t, alice.conn.SetInfo(large), realtime.ErrTooLarge)

		set := func(key string, size int) error {
			content := json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
			_, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{Latest: key, Content: content})
			return err
		}
		before := b.Stats().MemoryBytes
		for i := range 1000 {
			require.NoError(t, set(fmt.Sprint(i), 1))
		}
		require.ErrorIs(t, set("1000", 1), realtime.ErrFull)
		require.NoError(t, set("7", 1), "one more of the same key")
		require.Greater(t, b.Stats().MemoryBytes, before+100_000)
		require.ErrorIs(t, set("7", 1<<20), realtime.ErrFull)
		require.NoError(t, alice.Write([]byte(`{"type":"send","id":1,"room":"hall","latest":"more","content":1}`)))
		time.Sleep(time.Second)
		require.Contains(t, strings.Join(alice.raw(), ""), `"code":"limit"`)

		_, err := alice.conn.Leave(t.Context(), "hall")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.LessOrEqual(t, b.Stats().MemoryBytes, before)
	})
}

// A client that is lost again and again leaves a bounded number of members behind.
func TestLostConnectionsAreFewMembers(t *testing.T) {
	o := showing()
	o.Limits.ConnsPerUser = 3
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.watch(alice, "hall", "")
		for range 20 {
			c := b.openV1(realtime.Identity{UserID: "mallory"})
			b.join("hall", c)
			c.Drop()
			time.Sleep(10 * time.Millisecond)
			members, err := b.Room("hall").Members(t.Context())
			require.NoError(t, err)
			require.LessOrEqual(t, len(members), 1+3)
		}
		time.Sleep(time.Minute)
		members, err := b.Room("hall").Members(t.Context())
		require.NoError(t, err)
		require.Len(t, members, 1)
	})
}

// The key of a page is a label. A user with the key of another one gets nothing for it, and another
// key if it is in use.
func TestPresenceKeyIsNoCredential(t *testing.T) {
	s := newTestServer(t, showing(), false)
	open := func(user string) (ws *websocket.Conn, key string) {
		ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?presence_key=page-1&user_id="+user,
			&websocket.DialOptions{HTTPClient: s.Client(), Subprotocols: []string{realtime.V1}})
		require.NoError(t, err)
		t.Cleanup(func() { _ = ws.CloseNow() })
		_, _, err = ws.Read(t.Context())
		require.NoError(t, err)
		join := `{"type":"join","id":1,"room":"hall","state":"` + user + `"}`
		require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte(join)))
		_, answer, err := ws.Read(t.Context())
		require.NoError(t, err)
		var m struct{ Content struct{ Key string } }
		require.NoError(t, json.Unmarshal(answer, &m))
		return ws, m.Content.Key
	}
	alice, key := open("alice")
	require.Equal(t, "page-1", key)
	require.NoError(t, alice.Close(websocket.StatusGoingAway, "")) // her page is reloaded
	require.Eventually(t, func() bool {
		members, err := s.rt.Room("hall").Members(t.Context())
		return err == nil && len(members) == 1 && members[0].Away
	}, time.Minute, time.Millisecond)
	_, other := open("mallory")
	require.NotEqual(t, key, other)
	members, err := s.rt.Room("hall").Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 2)
	_, key = open("alice")
	require.Equal(t, "page-1", key)
}

package integration_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func showing() realtime.Options { return realtime.Options{Show: realtime.ShowMembers} }

// A watcher gets a snapshot after the answer to its join, and then each change.
func TestWatch(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice", Info: json.RawMessage(`{"name":"Alice"}`)})
		alice.discard()
		got := alice.request(`{"type":"join","id":1,"room":"hall","presence":true,"state":{"typing":false}}`)
		require.Len(t, got, 2)
		require.Regexp(t, `^\{"message_type":"reply","id":1,"content":\{"key":"[A-Z0-9]{8}","show":"members"\}\}$`, got[0])
		require.Regexp(t, `^\{"message_type":"presence","room":"hall","ver":\d+,"show":"members","user_count":1,`+
			`"connection_count":1,"members":\{"[A-Z0-9]{8}":\{"user":"alice","info":\{"name":"Alice"\},`+
			`"state":\{"typing":false\}\}\}\}$`, got[1])
		a := newFold(t, "hall")
		a.add([]byte(got[1]))
		a.same(b.Manager)

		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		time.Sleep(time.Second)
		f.all(bob).same(b.Manager)
		a.all(alice).same(b.Manager)
		require.Equal(t, 1, a.differences)

		require.NoError(t, bob.Write([]byte(`{"type":"state","room":"hall","state":[1, 2]}`)))
		time.Sleep(time.Second)
		a.all(alice).same(b.Manager)
		f.all(bob).same(b.Manager)
		require.NoError(t, bob.conn.SetInfo(map[string]string{"role": "speaker"}))
		bob.Drop()
		time.Sleep(time.Second)
		a.all(alice).same(b.Manager)
		require.False(t, a.entries["x"].Away)
		time.Sleep(3 * time.Second)
		a.all(alice)
		away := 0
		for _, e := range a.entries {
			if e.Away {
				away++
			}
		}
		require.Equal(t, 1, away)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		a.all(alice).same(b.Manager)
		require.Len(t, a.entries, 1)
		require.Equal(t, []string{"new alice", "new bob", "gone bob"}, a.log)
	})
}

// A member is away after three seconds, and is not any more when its session is resumed.
func TestAwayAndBack(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		f := b.watch(bob, "hall", "")
		alice, w := b.session("alice")
		b.watch(alice, "hall", "")
		for range 3 {
			alice.Drop()
			time.Sleep(2900 * time.Millisecond)
			require.False(t, entryOf(f.see(bob), "alice").Away)
			time.Sleep(300 * time.Millisecond)
			require.True(t, entryOf(f.see(bob), "alice").Away)
			token := w.Session
			alice, w = b.session("alice")
			alice.resumes(token)
			time.Sleep(time.Second)
			f.see(bob).same(b.Manager)
			require.False(t, entryOf(f, "alice").Away)
		}
		require.Len(t, f.log, 2)
	})
}

package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// value makes content the value of a key, or removes the key.
func (b *bed) value(to realtime.Target, key, content string) (realtime.Result, error) {
	return b.Send(b.t.Context(), to, realtime.Message{
		Type: "shape", Latest: key, Content: json.RawMessage(content),
	})
}

func (b *bed) mustValue(to realtime.Target, key, content string) {
	b.t.Helper()
	require.NoError(b.t, second(b.value(to, key, content)))
}

// Latest values replace each other, and a member that joins gets the newest of each key.
func TestLatest(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", alice, bob)
		set := func(key, content string) {
			res, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{
				Type: "shape", Latest: key, Content: json.RawMessage(content),
			})
			require.NoError(t, err)
			require.Equal(t, res.Matched, res.Queued)
		}
		for i := range 1000 {
			set("a", string('0'+rune(i%10)))
		}
		set("b", "1")
		time.Sleep(time.Second)
		f := newFold(t, "hall").all(alice)
		require.Equal(t, map[string]string{"a": "9", "b": "1"}, f.values)
		require.Less(t, f.frames, uint64(10))
		require.Less(t, len(bob.raw()), 10)
		carol := b.openV1(realtime.Identity{UserID: "carol"})
		carol.discard()
		got := carol.request(`{"type":"join","id":1,"room":"hall"}`)
		require.Len(t, got, 4, "the answer, two values, and the version")
		set("a", "null")
		time.Sleep(time.Second)
		require.Equal(t, map[string]string{"b": "1"}, f.all(alice).values)
	})
}

// A client that names a version in a room without values takes nothing from the other members.
func TestFirstValueReachesAll(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob, plain := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "bob"}), b.open("plain")
		b.join("hall", alice, plain)
		bob.discard()
		got := bob.request(`{"type":"join","id":1,"room":"hall","latest":7}`)
		require.Len(t, got, 3)
		require.Equal(t, `{"message_type":"latest","room":"hall","keys":[]}`, got[1])
		b.mustValue(realtime.ToRoom("hall"), "k", "1")
		for _, c := range []*client{alice, bob, plain} {
			require.Contains(t, c.raw()[0], `"content":1`)
		}
	})
}

// A client that has been away gets what has changed, and learns which keys are gone.
func TestValuesAfterAReconnect(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		hall := realtime.ToRoom("hall")
		keeper := b.openV1(realtime.Identity{UserID: "keeper"})
		b.join("hall", keeper)
		alice, w := b.session("alice")
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		for i := range 10 {
			b.mustValue(hall, fmt.Sprint("k", i), "1")
		}
		time.Sleep(time.Second)
		b.mustValue(hall, "k0", "1") // the version comes at most once in a second
		f := newFold(t, "hall").all(alice)
		require.Len(t, f.values, 10)
		alice.Drop()
		b.mustValue(hall, "k1", "null")
		b.mustValue(hall, "k2", "2")
		alice, w2 := b.session("alice")
		alice.resumes(w.Session)
		before := f.frames
		for _, raw := range alice.request(fmt.Sprintf(`{"type":"join","id":1,"room":"hall","latest":%d}`, f.valuesVersion)) {
			f.add([]byte(raw))
		}
		require.EqualValues(t, 3, f.frames-before, "the difference, and the version")
		require.Len(t, f.values, 9)
		require.Equal(t, "2", f.values["k2"])
		alice.Drop()
		b.mustValue(hall, "k3", "null")
		for i := range 1000 {
			b.mustValue(hall, "k2", fmt.Sprint(i))
		}
		alice, _ = b.session("alice")
		alice.resumes(w2.Session)
		f.valuesVersion = 0
		for _, raw := range alice.request(fmt.Sprintf(`{"type":"join","id":1,"room":"hall","latest":%d}`, 5)) {
			f.add([]byte(raw))
		}
		require.Len(t, f.values, 8)
		require.Equal(t, "999", f.values["k2"])
	})
}

// mustValueOfNobody sets a value that nobody is given now.
func (b *bed) mustValueOfNobody(to realtime.Target, key, content string) {
	b.t.Helper()
	res, err := b.value(to, key, content)
	require.NoError(b.t, err)
	require.Equal(b.t, realtime.Result{}, res)
}

// The values for a connection move with its session, and end with it.
func TestValuesOfAConnection(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		to := realtime.ToConn(alice.conn.ID())
		b.mustValue(to, "a", "1")
		b.mustValue(to, "b", "2")
		require.NoError(t, second(b.value(to, "c", "")), "no content removes nothing")
		f := newFold(t, "").all(alice)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, f.values)
		b.mustValue(to, "b", "")
		require.Equal(t, map[string]string{"a": "1"}, f.all(alice).values)
		for i := range 63 {
			b.mustValue(to, fmt.Sprint(i), "1")
		}
		require.ErrorIs(t, second(b.value(to, "more", "1")), realtime.ErrFull)
		for i := range 62 {
			b.mustValue(to, fmt.Sprint(i), "null")
		}
		require.Positive(t, b.Stats().MemoryBytes)
		alice.Drop()
		synctest.Wait()
		res, err := b.value(to, "a", "9")
		require.NoError(t, err)
		require.Zero(t, res.Matched, "it is away, but its session keeps the value")
		b.mustValueOfNobody(to, "late", "1")
		b.mustValueOfNobody(to, "late", "null")
		again, _ := b.session("alice")
		b.mustValue(realtime.ToConn(again.conn.ID()), "62", "7")
		f = newFold(t, "")
		for _, raw := range again.request(`{"type":"resume","id":1,"session":"` + w.Session + `"}`) {
			f.add([]byte(raw))
		}
		require.Equal(t, map[string]string{"a": "9", "62": "7"}, f.values)
		require.Equal(t, uint64(4), f.frames, "its own value, the keys, and the values")
		again.Close(realtime.CloseNormal, "")
		time.Sleep(time.Second)
		require.Zero(t, b.Stats().MemoryBytes)
	})
}

// Nothing is left of a session that is resumed over a connection that ends meanwhile.
func TestResumeOverAConnectionThatEnds(t *testing.T) {
	var b *bed
	o := showing()
	end := false
	o.Authorize = func(_ context.Context, c *realtime.Conn, _ realtime.Action) error {
		if end {
			_ = c.Close(realtime.CloseNormal, "")
			time.Sleep(5 * time.Second) // until it has gone
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, bb *bed) {
		b = bb
		alice, w := b.session("alice")
		alice.request(`{"type":"join","id":1,"room":"hall","state":1}`)
		b.mustValue(realtime.ToConn(alice.conn.ID()), "a", "1")
		b.mustValue(realtime.ToRoom("hall"), "a", "1")
		alice.Drop()
		synctest.Wait()
		end = true
		again, _ := b.session("alice")
		require.NoError(t, again.Write([]byte(`{"type":"resume","id":1,"session":"`+w.Session+`"}`)))
		time.Sleep(time.Minute)
		require.Zero(t, b.Stats().Rooms)
		require.Zero(t, b.Stats().MemoryBytes)
	})
}

// A value is for the members of a room: an empty room has none, and the last member takes them away.
func TestValuesEndWithTheRoom(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		hall := realtime.ToRoom("hall")
		res, err := b.value(hall, "k", "1")
		require.NoError(t, err)
		require.Zero(t, res.Matched)
		alice, _ := b.session("alice")
		require.Len(t, alice.request(`{"type":"join","id":1,"room":"hall"}`), 1)
		b.mustValue(hall, "k", "1")
		require.Len(t, alice.raw(), 2)
		alice.Drop()
		synctest.Wait()
		b.mustValue(hall, "k", "2") // the room lives as long as the session
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		bob.discard()
		require.Contains(t, bob.request(`{"type":"join","id":1,"room":"hall"}`)[1], `"content":2`)
		bob.request(`{"type":"leave","id":1,"room":"hall"}`)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		require.Zero(t, b.Stats().Rooms)
		require.Zero(t, b.Stats().MemoryBytes)
		require.Len(t, bob.request(`{"type":"join","id":1,"room":"hall"}`), 1)
	})
}

// A client that does not read holds its credit in its queue, and is not ended.
func TestValuesForAStalledClient(t *testing.T) {
	for _, protocol := range []string{"", realtime.V1} {
		o := realtime.Options{Timeouts: realtime.Timeouts{Write: time.Hour, Ping: -1}}
		o.Limits.QueueMessages, o.Limits.QueueBytes = 200, 1<<20
		bubble(t, o, func(t *testing.T, b *bed) {
			transport, far := realtime.Pipe(protocol)
			stuck := b.attach(transport, far, realtime.Identity{UserID: "stuck"})
			_, err := b.Join(t.Context(), stuck.conn.ID(), "hall")
			require.NoError(t, err)
			b.news(realtime.ToRoom("hall"), strings.Repeat("x", 64<<10)) // fills the pipe
			for i := range 3000 {
				content := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 900))
				b.mustValue(realtime.ToRoom("hall"), fmt.Sprint(i%1000), content)
				if i%3 == 0 {
					time.Sleep(20 * time.Millisecond)
				}
			}
			synctest.Wait()
			info := stuck.conn.Info()
			require.Less(t, info.QueuedBytes, 32<<10+2*(64<<10))
			require.NoError(t, stuck.conn.Context().Err())
			require.Zero(t, info.Dropped)
			stuck.unstall()
			f := newFold(t, "hall")
			got := 0
			for range 50 {
				time.Sleep(time.Second)
				if protocol == "" {
					got += len(stuck.raw())
				} else {
					f.see(stuck)
				}
			}
			if protocol == "" {
				require.Less(t, got, 1500)
				return
			}
			require.Len(t, f.values, 1000)
			require.Contains(t, f.values["999"], `"2999 `)
		})
	}
}

// A client that never says what it has seen gets an update in ten seconds, and stays connected.
func TestSeenIsNeverSent(t *testing.T) {
	bubble(t, showing(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		f := b.watch(alice, "hall", "")
		updates := 0
		for i := range 2000 {
			b.mustValue(realtime.ToRoom("hall"), "k", fmt.Sprint(i))
			time.Sleep(50 * time.Millisecond)
			if i == 100 {
				require.EqualValues(t, 17, f.all(alice).frames, "16 values, and the version")
			}
			if before := f.frames; i > 100 && f.all(alice).frames > before {
				updates++ // the keys and the value
			}
		}
		require.InDelta(t, 10, updates, 1)
		require.NoError(t, alice.conn.Context().Err())
		for _, claim := range []string{"-1", "1e3", `"5"`, "null", "99999999999999999999"} {
			alice.request(`{"type":"seen","frames":` + claim + `}`)
		}
		require.Equal(t, "1999", f.see(alice).values["k"])
	})
}

// The budget has everything back when everybody has left, in whatever way.
func TestMemoryOfStates(t *testing.T) {
	var b *bed
	o := showing()
	o.Limits.RoomsPerConn, o.Timeouts.Resume = 2, 5*time.Second
	o.OnConnect = func(_ context.Context, c *realtime.Conn) error {
		_, _ = b.value(realtime.ToConn(c.ID()), "k", "1")
		_, _ = c.Join(c.Context(), "lobby")
		if c.UserID() == "refused" {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, bb *bed) {
		b = bb
		for _, user := range []string{"refused", "alice", "bob"} {
			transport, far := realtime.Pipe(realtime.V1)
			b.attach(transport, far, realtime.Identity{UserID: user, Info: json.RawMessage(`"x"`)}).unstall()
		}
		for c := range b.LocalConns() {
			b.mustValue(realtime.ToConn(c.ID()), "more", `"`+strings.Repeat("x", 1000)+`"`)
			require.NoError(t, c.SetInfo(strings.Repeat("y", 500)))
		}
		b.mustValue(realtime.ToRoom("lobby"), "k", "1")
		b.mustValue(realtime.ToRoom("lobby"), "k", "22")
		b.mustValue(realtime.ToRoom("lobby"), "gone", "22")
		b.mustValue(realtime.ToRoom("lobby"), "gone", "null")
		carol, w := b.session("carol")
		carol.discard()
		require.Contains(t, carol.request(`{"type":"join","id":1,"room":"hall","state":[1],"latest":3}`)[0], "reply")
		require.Contains(t, carol.request(`{"type":"join","id":1,"room":"third","state":[1],"latest":3}`)[0], "limit")
		b.mustValue(realtime.ToRoom("hall"), "k", "1")
		carol.Drop()
		again, _ := b.session("carol")
		again.resumes(w.Session)
		again.request(`{"type":"join","id":1,"room":"hall","state":[1,2,3]}`)
		require.NoError(t, second(b.Room("hall").Deny(t.Context(), "dave", time.Minute)))
		dave, _ := b.session("dave")
		dave.discard()
		require.Contains(t, dave.request(`{"type":"join","id":1,"room":"hall","state":[1]}`)[0], "denied")
		dave.Close(realtime.CloseAway, "")
		require.NotZero(t, b.Stats().MemoryBytes)
		for c := range b.LocalConns() {
			c.Close(realtime.CloseNormal, "")
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Zero(t, b.Stats().MemoryBytes)
	})
}

// While memory is short, states and values are refused, and nothing is pushed. Then it goes on.
func TestMemoryPressureRefusesStates(t *testing.T) {
	o := memoryOptions(400_000)
	o.Show = realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		f := b.watch(alice, "hall", "")
		b.mustValue(realtime.ToRoom("hall"), "k", "1")
		f.see(alice)
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		b.join("attic", bob)
		b.fillState("attic", 10_000)
		b.fillState("attic", 1)
		require.LessOrEqual(t, b.Stats().MemoryBytes, int64(110_000), "a quarter is for states and values")
		large := `"` + strings.Repeat("x", 1000) + `"`
		require.Contains(t, alice.request(`{"type":"state","id":2,"room":"hall","state":` + large + `}`)[0], `"code":"limit"`)
		require.Contains(t, alice.request(`{"type":"send","id":2,"room":"hall","latest":"x","content":` + large + `}`)[0], `"code":"limit"`)
		require.NoError(t, second(b.value(realtime.ToRoom("hall"), "k", "2")), "it takes no more memory")
		time.Sleep(time.Second)
		require.Equal(t, "2", f.see(alice).values["k"])
		for i := range 5 {
			b.mustValue(realtime.ToRoom("attic"), fmt.Sprint("10000 ", i), "null")
		}
		time.Sleep(time.Second)
		for _, request := range []string{
			`{"type":"state","id":2,"room":"hall","state":[1]}`,
			`{"type":"send","id":2,"room":"hall","latest":"x","content":1}`,
		} {
			got := alice.request(request)
			require.False(t, isError(got), got)
			time.Sleep(time.Second)
			for _, raw := range append(got, alice.raw()...) {
				f.add([]byte(raw))
			}
		}
		require.Equal(t, "1", f.values["x"])
		f.same(b.Manager)
	})
}

// The application can read the values of a room.
func TestRoomLatest(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		hall := b.Room("hall")
		latest := func() (values []string) {
			messages, err := hall.Latest(t.Context())
			require.NoError(t, err)
			for _, m := range messages {
				values = append(values, m.Latest+" "+string(m.Content)+" "+m.Sender)
			}
			return values
		}
		require.Empty(t, latest())
		b.mustValueOfNobody(realtime.ToRoom("hall"), "k", "1") // no room, no values
		b.join("hall", alice)
		require.Empty(t, latest())
		b.mustValue(realtime.ToRoom("hall"), "b", "1")
		require.Empty(t, alice.request(`{"type":"send","room":"hall","message_type":"shape","latest":"a","content":2}`)[2:], "the value before, and its version")
		b.mustValue(realtime.ToRoom("hall"), "c", "3")
		b.mustValue(realtime.ToRoom("hall"), "c", "null")
		require.Equal(t, []string{"a 2 alice", "b 1 "}, latest())
		_, err := b.Room("").Latest(t.Context())
		require.ErrorIs(t, err, realtime.ErrInvalidName)
	})
}

// A refusal of a message or a state that asks for no answer names the room.
func TestRefusalsNameTheRoom(t *testing.T) {
	o := realtime.Options{Authorize: func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for request, want := range map[string]string{
			`{"type":"send","room":"hall","latest":"k"}`:                        `,"message_type":"chat","room":"hall"`,
			`{"type":"send","conn":"c","latest":"k"}`:                           `,"message_type":"chat"`,
			`{"type":"send","room":"hall","message_type":"x","ephemeral":true}`: `,"message_type":"x","room":"hall"`,
			`{"type":"state","room":"hall","state":1}`:                          `,"room":"hall"`,
		} {
			for range 3 {
				require.NoError(t, alice.Write([]byte(request)))
			}
			require.Equal(t, []string{
				`{"message_type":"error","id":null,"content":{"code":"forbidden","message":"forbidden"` + want + `}}`,
			}, alice.raw(), request)
			time.Sleep(2 * time.Second)
		}
	})
}

// fillState sets values of a room until one of this size is refused.
func (b *bed) fillState(room string, size int) {
	b.t.Helper()
	content := `"` + strings.Repeat("x", size) + `"`
	for i := 0; ; i++ {
		synctest.Wait()
		if _, err := b.value(realtime.ToRoom(room), fmt.Sprint(size, " ", i), content); err != nil {
			require.ErrorIs(b.t, err, realtime.ErrFull)
			return
		}
		require.Less(b.t, i, 1000)
	}
}

// States and values together take at most a quarter of the memory, and give it back.
func TestStatesAndValuesShareAQuarter(t *testing.T) {
	o := memoryOptions(400_000)
	o.Show = realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		state := `"` + strings.Repeat("x", 1000) + `"`
		for range 2 {
			for i := range 50 {
				c := b.openV1(realtime.Identity{UserID: fmt.Sprint(i)})
				c.request(`{"type":"join","id":1,"room":"hall","state":` + state + `}`)
			}
			require.Greater(t, b.Stats().MemoryBytes, int64(60_000))
			b.fillState("hall", 10_000)
			b.fillState("hall", 1)
			require.InDelta(t, 100_000, b.Stats().MemoryBytes, 1000)
			for c := range b.LocalConns() {
				_ = c.Close(realtime.CloseNormal, "")
			}
			synctest.Wait()
			require.Zero(t, b.Stats().MemoryBytes)
		}
	})
}

// A client whose state has no place joins without it, and is told so.
func TestJoinWithoutPlaceForItsState(t *testing.T) {
	o := tabs(memoryOptions(400_000))
	o.Show = realtime.ShowMembers
	bubble(t, o, func(t *testing.T, b *bed) {
		page := b.openTab("alice", "K")
		page.ask(`{"type":"join","id":1,"room":"hall","state":1}`)
		b.fillState("hall", 10_000)
		b.fillState("hall", 1)
		join := `{"type":"join","id":1,"room":"hall","state":"` + strings.Repeat("x", 1000) + `"}`
		page.reload()
		page = b.openTab("alice", "K")
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		bob.discard()
		for name, frames := range map[string][]string{"alice": page.ask(join), "bob": bob.request(join)} {
			got := strings.Join(frames, "")
			require.Contains(t, got, `{"message_type":"reply","id":1,"content":{`, name)
			require.Contains(t, got, `{"message_type":"error","id":null,"content":{"code":"limit",`, name)
			require.Contains(t, got, `,"room":"hall"}}`, name)
		}
		members, err := b.Room("hall").Members(t.Context())
		require.NoError(t, err)
		require.Len(t, members, 2)
		require.Equal(t, "1", string(members[0].State), "her entry keeps what it had")
		require.Nil(t, members[1].State)
	})
}

// Nobody gets the values of those who were in the room before, also while OnRoom is late.
func TestValuesOfAnEarlierMeeting(t *testing.T) {
	o := showing()
	o.OnRoom = func(_ context.Context, e realtime.RoomEvent) {
		if e.Emptied {
			time.Sleep(3 * time.Second)
		}
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("hall", alice)
		b.mustValue(realtime.ToRoom("hall"), "k", `"of the first meeting"`)
		require.NoError(t, second(alice.conn.Leave(t.Context(), "hall")))
		time.Sleep(time.Second)
		bob := b.openV1(realtime.Identity{UserID: "bob"})
		got := bob.request(`{"type":"join","id":1,"room":"hall","latest":0}`)
		time.Sleep(5 * time.Second)
		got = append(got, bob.raw()...)
		require.NoError(t, bob.conn.Close(realtime.CloseNormal, ""))
		time.Sleep(10 * time.Second)
		require.NotContains(t, strings.Join(got, ""), "of the first meeting")
	})
}

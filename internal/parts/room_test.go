package parts

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/wire"
)

// testView is a room as its watchers see it.
type testView struct {
	t            *testing.T
	shown        map[string]Member
	users        map[string]int
	total, conns int
	calls        int
}

func newTestRoom(t *testing.T) (*Room, *testView) {
	v := &testView{t: t, shown: map[string]Member{}, users: map[string]int{}}
	return NewRoom(v), v
}

func (v *testView) Show(key string, m *Member, _ cluster.ID) {
	v.calls++
	if delete(v.shown, key); m != nil {
		v.shown[key] = *m
	}
}

func (v *testView) Attend(user string, more int) {
	if v.users[user] += more; v.users[user] == 0 {
		delete(v.users, user)
	}
	require.GreaterOrEqual(v.t, v.users[user], 0)
}

func (v *testView) Recount(users, conns int) { v.total, v.conns = users, conns }

func id(n byte) cluster.ID { return cluster.ID{n} }

func of(user string) *Member { return &Member{User: user} }

// A difference applies to the version before it, and a whole part to any older one.
func TestVersions(t *testing.T) {
	r, v := newTestRoom(t)
	require.False(t, r.Receive(id(1), &Message{Version: 5, Users: 1, Conns: 2, Members: map[string]*Member{"a": of("alice"), "b": of("alice")}}))
	require.Equal(t, map[string]int{"alice": 2}, v.users)
	require.Equal(t, []int{1, 2}, []int{v.total, v.conns})
	calls := v.calls
	for _, m := range []*Message{{Version: 5}, {Version: 4}, {Prev: 3, Version: 5}} {
		require.False(t, r.Receive(id(1), m), "it is old")
	}
	require.True(t, r.Receive(id(1), &Message{Prev: 6, Version: 7}))
	require.True(t, r.Receive(id(2), &Message{Prev: 6, Version: 7}), "nothing is known of the node")
	require.Equal(t, calls, v.calls)
	require.EqualValues(t, 5, r.Version(id(1)))
	require.Zero(t, r.Version(id(2)))
	require.False(t, r.Receive(id(1), &Message{Prev: 5, Version: 9, Users: 1, Conns: 1, Members: map[string]*Member{"a": nil, "?": nil, "b": of("alice")}}))
	require.Equal(t, map[string]Member{"b": *of("alice")}, v.shown)
	require.Equal(t, []int{1, 1}, []int{v.total, v.conns})
	require.False(t, r.Receive(id(1), &Message{Version: 20, Members: map[string]*Member{"c": of("bob")}}))
	require.Equal(t, map[string]Member{"c": *of("bob")}, v.shown)
	require.Equal(t, map[string]int{"bob": 1}, v.users)
	require.True(t, r.Holds(id(1)))
	require.False(t, r.Holds(id(2)))
	r.Forget(id(1))
	r.Forget(id(1))
	require.Empty(t, v.shown)
	require.Empty(t, v.users)
	require.Empty(t, r.keys)
	require.Equal(t, []int{0, 0}, []int{v.total, v.conns})
}

// Of several members with a key, one that is not lost is shown, and else that of the greatest node.
func TestBest(t *testing.T) {
	r, v := newTestRoom(t)
	set := func(node byte, version uint64, m *Member) {
		r.Receive(id(node), &Message{Version: version, Members: map[string]*Member{"k": m}})
	}
	set(2, 1, &Member{User: "u", State: []byte("2")})
	set(1, 1, &Member{User: "u", State: []byte("1")})
	require.Equal(t, "2", string(v.shown["k"].State))
	set(2, 2, &Member{User: "u", State: []byte("2"), Lost: true})
	require.Equal(t, "1", string(v.shown["k"].State))
	r.SetLost(id(1), true)
	r.SetLost(id(1), true)
	r.SetLost(id(9), true)
	require.Equal(t, "2", string(v.shown["k"].State))
	set(2, 3, nil)
	require.Equal(t, Member{User: "u", State: []byte("1"), Away: true, Lost: true}, v.shown["k"])
	r.SetLost(id(1), false)
	require.Equal(t, Member{User: "u", State: []byte("1")}, v.shown["k"])
	require.Equal(t, map[string]int{"u": 1}, v.users)
}

// What has changed is told once.
func TestFlush(t *testing.T) {
	r, _ := newTestRoom(t)
	member := func(key string) *Member {
		if key == "gone" {
			return nil
		}
		return MemberOf(&wire.Entry{Key: key, User: "u", Info: []byte("1"), Away: true})
	}
	require.Nil(t, r.Flush(1, member))
	require.True(t, r.Changed("a"))
	require.False(t, r.Changed("a"))
	require.False(t, r.Recounted())
	require.False(t, r.Changed("gone"))
	require.True(t, r.Dirty())
	want := &Member{User: "u", Info: []byte("1"), Away: true}
	require.Equal(t, &Message{Version: 3, Members: map[string]*Member{"a": want, "gone": nil}}, r.Flush(3, member))
	require.Nil(t, r.Flush(4, member))
	require.EqualValues(t, 3, r.Told())
	require.True(t, r.Recounted())
	require.Equal(t, &Message{Prev: 3, Version: 8, Members: map[string]*Member{}}, r.Flush(8, member))
}

// TestRoomFollowsAModel tests that whatever messages are lost, repeated and overtake each other, a
// room shows the parts of all nodes once it was given what it has asked for.
func TestRoomFollowsAModel(t *testing.T) {
	for seed := range uint64(300) {
		dice := rand.New(rand.NewPCG(seed, 0))
		r, v := newTestRoom(t)
		truth := map[cluster.ID]map[string]*Member{}
		versions := map[cluster.ID]uint64{}
		var flying []func() (cluster.ID, bool)
		whole := func(n cluster.ID) *Message {
			return &Message{Version: versions[n], Conns: len(truth[n]), Members: maps.Clone(truth[n])}
		}
		send := func(n cluster.ID, m *Message) {
			flying = append(flying, func() (cluster.ID, bool) { return n, r.Receive(n, m) })
		}
		for range 300 {
			n := id(byte(1 + dice.IntN(3)))
			if truth[n] == nil {
				truth[n] = map[string]*Member{}
			}
			switch dice.IntN(4) {
			case 0, 1:
				m := &Message{Prev: versions[n], Members: map[string]*Member{}}
				for range 1 + dice.IntN(3) {
					key := fmt.Sprint("k", dice.IntN(6))
					if m.Members[key] = nil; dice.IntN(2) == 0 {
						m.Members[key] = &Member{User: fmt.Sprint("u", dice.IntN(3)), Lost: dice.IntN(3) == 0}
					}
					if truth[n][key] = m.Members[key]; m.Members[key] == nil {
						delete(truth[n], key)
					}
				}
				versions[n] += 1 + dice.Uint64N(3)
				m.Version, m.Conns = versions[n], len(truth[n])
				send(n, m)
			case 2:
				if i := len(flying) - 1; i >= 0 {
					j := dice.IntN(i + 1)
					flying[i], flying[j] = flying[j], flying[i]
					if dice.IntN(5) > 0 {
						if from, ask := flying[i](); ask {
							send(from, whole(from))
						}
					}
					if dice.IntN(4) > 0 {
						flying = flying[:i]
					}
				}
			case 3:
				if dice.IntN(20) == 0 {
					r.Forget(n)
				}
			}
		}
		conns, users := 0, map[string]int{}
		for n := range truth {
			r.Receive(n, whole(n))
			conns += len(truth[n])
			for _, m := range truth[n] {
				users[m.User]++
			}
		}
		require.Equal(t, conns, v.conns, "seed %d", seed)
		require.Equal(t, users, v.users)
		for k := range 6 {
			key := fmt.Sprint("k", k)
			shown, ok := v.shown[key]
			best, _ := r.Best(key)
			require.Equal(t, best != nil, ok)
			any := false
			for n := range truth {
				m := truth[n][key]
				any = any || m != nil
				if m != nil && !m.Lost {
					require.False(t, shown.Lost)
				}
			}
			require.Equal(t, any, ok)
		}
	}
}

// A version is said again three times, the newest one.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		require.Zero(t, c.Last())
		require.EqualValues(t, 1, c.Next("a"))
		require.EqualValues(t, 2, c.Next("b"))
		require.Empty(t, c.Due())
		var said []string
		for s := range 60 {
			time.Sleep(time.Second)
			if s == 4 {
				require.EqualValues(t, 3, c.Next("a"))
			}
			for room, version := range c.Due() {
				said = append(said, fmt.Sprint(s+1, room, version))
			}
		}
		require.ElementsMatch(t, []string{"2a1", "2b2", "7a3", "8b2", "13a3", "30b2", "35a3"}, said)
		require.Empty(t, c.recent)
		require.EqualValues(t, 3, c.Last())
	})
}

// Of many new versions, some are said at a time.
func TestClockOfManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, said := NewClock(), map[string]bool{}
		for i := range 2*maxDue + 10 {
			c.Next(fmt.Sprint("room", i))
		}
		time.Sleep(2 * time.Second)
		for _, want := range []int{maxDue, maxDue, 10, 0} {
			due := c.Due()
			require.Len(t, due, want)
			for room := range due {
				said[room] = true
			}
		}
		require.Len(t, said, 2*maxDue+10)
	})
}

// Nothing is held of a node that has nothing.
func TestEmptyPartIsNotHeld(t *testing.T) {
	r := NewRoom(&testView{})
	require.False(t, r.Receive(id(1), &Message{Version: 5}))
	require.False(t, r.Holds(id(1)))
}

// A room that nobody else has is quiet until another node says something of it, or asks.
func TestQuiet(t *testing.T) {
	asked := func() *Room {
		r := NewRoom(&nobodyWatches{})
		require.False(t, r.Quiet(), "nobody was asked")
		r.FoundNobody()
		require.True(t, r.Quiet())
		return r
	}
	other := cluster.NewID()
	r := asked()
	require.False(t, r.Receive(other, &Message{Version: 1}))
	require.True(t, r.Quiet(), "it has nothing of the room")
	require.True(t, r.Receive(other, &Message{Prev: 1, Version: 2}))
	require.False(t, r.Quiet(), "it tells of changes")
	r = asked()
	r.Receive(other, &Message{Version: 1, Conns: 1})
	require.False(t, r.Quiet())
	r = asked()
	r.Heard()
	require.False(t, r.Quiet())
}

type nobodyWatches struct{}

func (nobodyWatches) Show(string, *Member, cluster.ID) {}
func (nobodyWatches) Attend(string, int)               {}
func (nobodyWatches) Recount(int, int)                 {}
